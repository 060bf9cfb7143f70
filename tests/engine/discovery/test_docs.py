"""docs/finding-shortcuts.md names every threshold of discovery with its value."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = re.sub(r"\s+", " ", (ROOT / "docs" / "finding-shortcuts.md").read_text(encoding="utf-8"))
NOT_THRESHOLDS = {
    "CELLS", "BLOCK", "ABOUT", "WIDE", "MAX_NAMED", "DRAWN_AT_ONCE", "RARE", "OBJECT_STATISTICS", "COPIES", "BESIDE", "NEARLY_ALL",
    "AT_ONCE",
}  # fmt: skip
"""Sizes of blocks, names, and wordings of titles: what is found does not depend on them."""


def constants() -> list[tuple[str, object]]:
    found = []
    for path in sorted((ROOT / "engine" / "discovery").glob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                name = node.targets[0].id
                if re.fullmatch(r"[A-Z][A-Z_]+", name) and name not in NOT_THRESHOLDS:
                    value = node.value.value if isinstance(node.value, ast.Constant) else None
                    found.append((name, value))
    return found


@pytest.mark.parametrize(("name", "value"), constants())
def test_every_threshold_is_named_with_its_value(name: str, value: object) -> None:
    assert f"`{name}`" in PAGE
    if isinstance(value, int | float) and value >= 0.001:
        said = re.search(rf"`{name}` = ([\d.,]*\d|half|a quarter)", PAGE)
        assert said
        words = {"half": 0.5, "a quarter": 0.25}
        assert value == (words.get(said[1]) or float(said[1].replace(",", "")))
