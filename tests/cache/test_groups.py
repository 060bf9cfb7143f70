"""Groups: stored under a version, asked by a condition, and held against a slow reading."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cache import queries
from cache.catalog import Catalog
from cache.errors import FilterError
from cache.filters import AllOf, AnyOf, Condition, Filter, InGroup, Is, Not, OneOf, RegionMass
from cache.groups import append_groups
from cache.regions import PRESETS
from cache.run import Run
from cache.writer import RunWriter
from tests.cache.slow_reference import SlowRun
from tests.synthetic import make_run


@pytest.fixture(scope="module")
def grouped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    path = make_run(tmp_path_factory.mktemp("grouped") / "run", 120, seed=11)
    contents = sorted({row["content"] for row in SlowRun(path).samples})
    rng = np.random.default_rng(0)
    with RunWriter(path) as writer:
        first = append_groups(writer, contents, rng.integers(0, 4, len(contents)).astype(np.int32))
        second = append_groups(writer, contents[:50], rng.integers(0, 3, 50).astype(np.int32))
        writer.publish()
    return path, first, second


def test_a_group_selects_what_a_slow_reading_selects(grouped: tuple[Path, str, str]) -> None:
    path, first, second = grouped
    catalog, slow = Catalog(Run.open(path)), SlowRun(path)
    a, b, other = InGroup(first, 2), InGroup(second, 2), InGroup(second, 0)
    corner = RegionMass(PRESETS["bottom_left"], 0.2)
    tried: list[tuple[Condition, ...]] = [
        (a,),
        (b,),
        (Not(b),),
        (a, b),
        (AnyOf((b, other)), Is("correct", True)),
        (OneOf("pred", ("fox",)), AllOf((Not(a), corner))),
        (InGroup(second, 77),),
    ]
    for conditions in tried:
        found = queries.ids(catalog, Filter(conditions))
        assert found == slow.select(conditions)
        assert found or conditions[0] in (InGroup(second, 77), a)
    # A copy of an image is in its group too.
    copies = [row for row in slow.samples if row["sample_id"].startswith("copies/")]
    members = {content for version, content, group in slow.groups if (version, group) == (first, 2)}
    assert {row["sample_id"] for row in copies if row["content"] in members} <= set(
        queries.ids(catalog, Filter((a,)))
    )


def test_a_later_grouping_leaves_the_one_before_alone(grouped: tuple[Path, str, str]) -> None:
    path, first, _ = grouped
    before = queries.ids(Catalog(Run.open(path)), Filter((InGroup(first, 1),)))
    contents = sorted({row["content"] for row in SlowRun(path).samples})
    with RunWriter(path) as writer:
        parts = len(writer.manifest.parts["groups"])
        third = append_groups(writer, contents, np.zeros(len(contents), np.int32))
        writer.publish()
        again = append_groups(writer, contents[::-1], np.zeros(len(contents), np.int32))
        writer.publish()
        assert third == again
        assert len(writer.manifest.parts["groups"]) == parts + 1, "the same grouping is stored once"
    catalog = Catalog(Run.open(path))
    assert queries.ids(catalog, Filter((InGroup(first, 1),))) == before
    assert len(queries.ids(catalog, Filter((InGroup(third, 0),)))) == 120


def test_in_links_and_sentences(grouped: tuple[Path, str, str]) -> None:
    path, first, _ = grouped
    manifest = Run.open(path).manifest
    filter_ = Filter((OneOf("pred", ("fox",)), InGroup(first, 3)))
    assert Filter.from_param(filter_.to_param()) == filter_
    assert f'["group","{first}",3]' in filter_.to_param()
    assert filter_.sentence(manifest) == "predictions of fox in group 3 of like attended content"
    outside = Filter((Is("correct", False), Not(InGroup(first, 3))))
    assert outside.sentence(manifest) == "wrong predictions outside group 3 of like attended content"


@pytest.mark.parametrize(
    "entry", ['["group","../x",1]', '["group","ab",-1]', '["group","ab",true]', '["group","ab",1.5]',
              '["group","",1]', '["group","ab",99999999999]', '["group","ab"]', '["group","AB\'",1]'],
)  # fmt: skip
def test_damaged_links_are_refused(entry: str) -> None:
    with pytest.raises(FilterError, match="cannot be read"):
        Filter.from_param('{"v":1,"all":[' + entry + "]}")


def test_a_version_that_the_run_does_not_hold_is_refused(grouped: tuple[Path, str, str]) -> None:
    catalog = Catalog(Run.open(grouped[0]))
    with pytest.raises(FilterError, match="does not hold the group"):
        queries.count(catalog, Filter((InGroup("0123", 1),)))
