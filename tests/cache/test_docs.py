"""docs/cache.md says what the schema says: every column, type and manifest key, and nothing besides."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import duckdb
import pytest

from cache import queries
from cache.catalog import Catalog
from cache.conditions import condition_from_json
from cache.filters import Filter, Is, RegionMass
from cache.manifest import Manifest, Part, Progress
from cache.regions import Region
from cache.run import Run
from cache.schema import (
    AGREEMENT_COLUMNS,
    ATTRIBUTION_COLUMNS,
    CORNERS,
    ERROR_COLUMNS,
    FINDING_COLUMNS,
    GROUP_COLUMNS,
    PROJECTION_COLUMNS,
    SAMPLE_COLUMNS,
    SCHEMA_VERSION,
    THUMBNAIL_COLUMNS,
    Column,
    Field,
    embedding_columns,
)

PAGE = Path(__file__).parents[2] / "docs" / "cache.md"
TABLES: dict[str, tuple[Column, ...]] = {
    "samples": SAMPLE_COLUMNS,
    "thumbnails": THUMBNAIL_COLUMNS,
    "attributions": ATTRIBUTION_COLUMNS,
    "embeddings": embedding_columns(11, 22),
    "errors": ERROR_COLUMNS,
    "agreement": AGREEMENT_COLUMNS,
    "findings": FINDING_COLUMNS,
    "groups": GROUP_COLUMNS,
    "projections": PROJECTION_COLUMNS,
}


def section(title: str) -> str:
    found = re.search(
        rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE.read_text(encoding="utf-8"), re.M | re.S
    )
    assert found, f"docs/cache.md has no section {title}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize("table", TABLES)
def test_every_column_is_described_and_no_other(table: str) -> None:
    described = {name.strip("`"): (kind, null, meaning) for name, kind, null, meaning in rows(section(table))}
    assert list(described) == [column.name for column in TABLES[table]]
    for column in TABLES[table]:
        kind, null, meaning = described[column.name]
        expected = (
            re.sub(r"\b(item|element): ", "", str(column.type)).replace("[11]", "[P]").replace("[22]", "[A]")
        )
        assert kind == f"`{expected}`"
        assert null == ("yes" if column.nullable else "no")
        assert meaning == column.description


def test_every_manifest_key_is_described_and_no_other() -> None:
    text = section("The manifest")
    described = [name.strip("`") for row in rows(text) for name in row[0].split(", ")]
    assert sorted(described) == sorted(field.name for field in fields(Manifest))
    for part in (Part, Progress, Field):
        for field in fields(part):
            assert f"`{field.name}`" in text, field.name


def test_version_and_corners_are_the_schema_s() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert f"schema version {SCHEMA_VERSION}*" in text
    assert f"`{CORNERS[0]}` to `{CORNERS[-1]}`" in text
    assert f"the {len(CORNERS)} nullable" in text


def test_the_example_runs_and_agrees(run_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    example = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert example
    monkeypatch.chdir(run_path.parent)
    names: dict[str, object] = {"duckdb": duckdb}
    exec(example[1].replace('"RUN"', repr(run_path.name)), names)
    found = names["wrong_and_in_the_corner"]
    assert isinstance(found, list)
    corner = RegionMass(Region.box(0, 10 / 14, 4 / 14, 1), 0.3)
    expected = queries.ids(Catalog(Run.open(run_path)), Filter((Is("correct", False), corner)))
    assert sorted(row[0] for row in found) == expected
    assert expected


def test_every_condition_is_described() -> None:
    described = set(re.findall(r'`\["(\w+)"', section("Filters in a link"))) | {"all", "not"}
    assert described == {
        "in", "range", "is", "has", "mass", "group", "place", "reviewed", "any", "all", "not",
    }  # fmt: skip
    assert condition_from_json(["is", "correct", False]) == Is("correct", False)
