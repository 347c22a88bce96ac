"""docs/performance.md is made from what the benchmarks left."""

from __future__ import annotations

import page


def test_the_page_is_what_was_measured():
    assert (page.DOCS / "performance.md").read_text() == page.page()


def test_bars_and_lines():
    drawn = page.bars("title", [("slow", 0.5), ("fast", 9.0)], 1.5)
    assert drawn.count("<rect") == 3 and "9.00" in drawn and page.COLOURS[1] in drawn
    assert page.lines("title", {"a": [(1, 2), (2, 4)], "b": [(1, 1)]}, "x").count("<polyline") == 2
