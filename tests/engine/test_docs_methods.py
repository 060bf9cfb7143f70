"""Whatever is registered is documented, by name and with its reference."""

from __future__ import annotations

from pathlib import Path

import pytest

from cache.schema import AGREEMENT
from engine.attribution.registry import PRESETS, methods
from engine.statistics import STATISTICS
from engine.trust import TRUST

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("method", methods().values(), ids=lambda m: m.name)
def test_every_method_is_documented_with_its_parameters_and_reference(method):
    text = (DOCS / "methods.md").read_text(encoding="utf-8")
    (row,) = (line for line in text.splitlines() if line.startswith("|") and f"| `{method.name}` |" in line)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[0] == method.title
    assert cells[3:5] == ["yes" if method.signed else "no", "yes" if method.class_dependent else "no"]
    assert cells[-1] == method.reference
    assert f"**{method.title}** (`{method.name}`)" in text
    for parameter in method.parameters:
        default = str(parameter.default).lower()
        assert f"- `{parameter.name}` ({parameter.allowed}; default {default}):" in text


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_documented(preset):
    assert f"`{preset}`" in (DOCS / "methods.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [*STATISTICS, *TRUST, AGREEMENT])
def test_every_statistic_is_documented(name):
    rows = [r for r in (DOCS / "statistics.md").read_text(encoding="utf-8").splitlines() if r.startswith("|")]
    assert sum(f"`{name}`" in row.split("|")[1] for row in rows) == 1
