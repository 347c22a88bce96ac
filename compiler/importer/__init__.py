"""The FX importer: an ATen graph, as AOTAutograd makes it, becomes a `tw` module.

>>> imported = import_graph(graph_module)
>>> print(print_ir(imported.module))

A rule of the table (`table.py`) turns one ATen overload into `tw` ops; the rules are grouped by theme, a file each.
What has no rule, or what its rule refuses, becomes `tw.aten` with the reason.
"""

from .graph import Imported, import_graph

__all__ = ["Imported", "import_graph"]
