"""The rewrite rules, by theme: normal forms, algebra, views and integer ranges, constant folding."""
