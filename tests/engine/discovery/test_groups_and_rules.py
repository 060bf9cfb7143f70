"""Groups, unions of groups, rules and map clustering: against brute force, planted truths, and chance."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np

from cache.conditions import Range
from cache.filters import OneOf
from engine.discovery import what, who
from engine.discovery.audited import Audited, Column
from engine.discovery.candidates import Candidate
from engine.discovery.comparison import Comparison
from engine.discovery.merging import merge
from engine.discovery.spray import spectral_clusters
from tests.seeding import rng


def audited(
    n: int, columns: list[Column], pred: np.ndarray, label: np.ndarray, attended: np.ndarray | None = None
) -> Audited:
    contents = [f"{i:08x}" for i in range(n)]
    return Audited(
        "0" * 32, ["a", "b", "c"], np.array(contents), contents, pred.astype(np.int32), label.astype(np.int32),
        np.ones(n, bool), np.full((n, 196), 1 / 196, np.float32), np.arange(n) % 2 == 1, columns,
        None if attended is None else attended.astype(np.float32), np.full((n, 2), 0.5), np.full(n, np.nan),
    )  # fmt: skip


def test_the_best_union_is_the_best_of_all_unions() -> None:
    for _ in range(10):
        counts = rng.integers(3, 20, 6).astype(float)
        caught = rng.integers(0, counts + 1).astype(float)
        n, hits = int(counts.sum()), int(caught.sum())
        if not 0 < hits < n:
            continue
        values, order = what._joined(counts, caught[:, None], hits, n)
        slow = max(
            float(
                what._scores(
                    np.array([[counts[list(s)].sum()]]), np.array([[caught[list(s)].sum()]]), hits, n
                )[0, 0]
            )
            for size in range(1, 6)
            for s in combinations(range(6), size)
        )
        assert np.isclose(values[:5].max(), slow)
        assert sorted(order[:, 0]) == list(range(6))


def test_a_planted_group_is_found() -> None:
    rng = np.random.default_rng(1)
    n = 300
    kind = np.arange(n) % 5 == 0
    features = np.where(kind[:, None], np.eye(64)[0], np.eye(64)[1]) * 2 + rng.normal(0, 0.2, (n, 64))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    label = np.where(kind & (rng.random(n) < 0.9), 1, 0)
    a = audited(n, [], np.zeros(n), label, features)
    rows, groups, levels = what.WhatSearch(a)._groups(0)
    (best, *_) = what._with_errors(a, 0, rows, groups, levels)
    np.testing.assert_array_equal(best.members, kind)
    assert best.p_familywise <= 0.01


def test_chance_gives_no_group() -> None:
    rng = np.random.default_rng(2)
    found = 0
    for _ in range(10):
        features = rng.normal(size=(120, 64))
        a = audited(120, [], np.zeros(120), rng.random(120) < 0.3, features)
        found += bool(what._with_errors(a, 0, *what.WhatSearch(a)._groups(0)))
    assert found <= 2


def test_a_tint_is_a_rule_that_leads_to_the_class() -> None:
    rng = np.random.default_rng(3)
    n = 600
    label = np.arange(n) % 3
    tinted = rng.random(n) < 0.2
    pred = np.where(tinted & (rng.random(n) < 0.8), 0, label)
    saturation = (
        np.where(tinted, rng.normal(0.7, 0.05, n), rng.normal(0.3, 0.1, n)).astype(np.float32).astype(float)
    )
    noise = [Column(f"noise{i}", f"Noise {i}", rng.normal(size=n)) for i in range(5)]
    columns = [Column("saturation", "Saturation", saturation, (), "image"), *noise]
    found = who.find_who(audited(n, columns, pred, label), 0)
    called = next(c for c in found if c.outcome == "called")
    assert called.property == "saturation"
    assert called.says.startswith("with saturation at least")
    assert tinted[called.members].mean() > 0.95
    assert called.members[tinted & (pred == 0)].mean() > 0.8
    assert len(called.conditions) == 1, "one term says it all"


def test_of_unions_as_good_as_the_best_the_largest_is_taken() -> None:
    rng = np.random.default_rng(4)
    n = 360
    kind = (
        np.arange(n) // 2 % 6
    )  # three kinds of one habit, one of them hits the right class more often, and three without
    features = np.eye(64)[kind] + rng.normal(0, 0.05, (n, 64))
    rates = np.array([0.8, 0.8, 0.5, 0.05, 0.05, 0.05])
    a = audited(n, [], np.zeros(n), rng.random(n) < rates[kind], features)
    (best, *_) = what._with_errors(a, 0, *what.WhatSearch(a)._groups(0))
    np.testing.assert_array_equal(best.members, kind < 3)


def test_groups_without_errors_are_not_joined() -> None:
    label = np.zeros(120)
    label[:24] = 1
    a = audited(120, [], np.zeros(120), label, np.eye(64)[np.zeros(120, int)])
    assert what._with_errors(a, 0, np.arange(120), (label == 0)[:, None], np.array([2])) == []


def test_groups_that_show_the_same_join_the_most_alike_one() -> None:
    core, same, other, unlike = (np.arange(60) // 15 == k for k in range(4))

    class Measured:
        def of(self, members: np.ndarray, box: object) -> float:
            """Return the likeness of the core and what shows the same; what is unlike spoils it."""
            if not (members & core).any():
                return 0.3 if (members & (same | other)).any() else 0.1
            return 0.2 if (members & other).any() else 0.55 if (members & same).any() else 0.7

    groups = [unlike, other, same, core]
    (found,) = what._alike(0, groups, Measured())
    np.testing.assert_array_equal(found.members, core | same)
    assert found.likeness == 0.55
    assert what._alike(0, [other, unlike], Measured()) == []


def test_a_tint_s_effect_is_false_calls_and_stays_apart_from_content() -> None:
    n = 400
    tinted = np.arange(n) % 4 == 0
    label = np.arange(n) // 4 % 2
    pred = np.where(
        tinted, 0, 1
    )  # all that is called 0 has the tint: errors among it have nothing to compare with
    a = audited(n, [], pred, label)
    tint = Candidate("who", 0, "called", tinted & (pred == 0), 9.0, 0.01, property="hue", holds=tinted)
    effect = Comparison(a).measured(tint, held_back=False)
    assert (effect.rate, effect.other_rate) == (1.0, 0.0)
    content = Candidate("what", 0, "wrong", tint.members, 5.0, 0.01)
    assert len(merge(a, [tint, content])) == 2
    assert len(merge(a, [content, replace(content)])) == 1


def test_a_property_that_shows_in_a_part_is_told_with_the_content_there() -> None:
    n = 400
    snow = np.arange(n) // 2 % 2 == 0
    a = audited(n, [], np.zeros(n), snow.astype(int))
    shares = {"least_shown": 0.1, "most_shown": 1.3}
    bright = Candidate(
        "who", 0, "called", snow, 12.0, 0.01, property="brightness", holds=snow, in_part=True, evidence=shares
    )
    between = replace(
        bright, score=15.0, property="contrast", evidence={"least_shown": 0.1, "most_shown": 0.3}
    )
    group = Candidate("what", 0, "wrong", snow, 5.0, 0.01)
    (one,) = merge(a, [bright, between, group])
    assert one.best is group, "the snow speaks, however well its brightness tells"
    assert one.shows_as == ("brightness",), "the contrast shows in neither part"
    assert {"wrong", "called"} == one.outcomes
    assert len(merge(a, [replace(bright, in_part=False), group])) == 2
    # A property of no content at all speaks for itself, and a rule is no content.
    assert [m.shows_as for m in merge(a, [bright])] == [()]
    assert len(merge(a, [bright, replace(group, kind="who")])) == 2
    region = Candidate("where", 0, "wrong", snow & (np.arange(n) < 300), 6.0, 0.01, box=(0, 0, 0.5, 0.2))
    (one,) = merge(a, [bright, region])
    assert one.best is region


def test_groups_found_by_likeness_and_by_errors_that_mean_the_same_are_one() -> None:
    n = 80
    dense, clear = np.arange(n) < 30, (np.arange(n) > 8) & (np.arange(n) < 40)

    class Measured:
        def of(self, members: np.ndarray, box: object) -> float:
            return 0.4 if members.sum() == 40 else 0.0

        def along_edges(self, members: np.ndarray) -> bool:
            return bool(members.sum() == 40)

    by_errors = Candidate("what", 0, "wrong", dense, 6.0, 0.01, likeness=0.1)
    by_likeness = Candidate("what", 0, "alike", clear, 0.0, 1.0, likeness=0.8)
    (one,) = what.joined([by_errors, by_likeness], Measured())
    np.testing.assert_array_equal(one.members, dense | clear)
    assert (one.outcome, one.likeness, one.evidence) == ("wrong", 0.4, {"along_edges": 1.0})
    # Where the group found by its likeness is nearly all of both, they are as alike as it is.
    most = replace(by_likeness, members=(np.arange(n) > 4) & (np.arange(n) < 40), evidence={})
    (one,) = what.joined([replace(by_errors, members=dense, evidence={}), most], Measured())
    assert (one.members.sum(), one.likeness, one.evidence) == (40, 0.8, {})
    apart = replace(by_likeness, members=np.arange(n) > 50)
    assert what.joined([replace(by_errors, members=dense), apart], Measured())[1] is apart


def test_nearly_a_whole_class_is_held_against_the_most_error_prone_part_of_another() -> None:
    n = 1200
    pred = np.arange(n) // 2 % 3  # each class in both halves
    kind = np.arange(n) // 6 % 4
    rates = np.array([[0.9] * 4, [0.0, 0.1, 0.2, 0.6], [0.3] * 4])
    wrong = np.random.default_rng(5).random(n) < rates[pred, kind]
    a = audited(n, [], pred, np.where(wrong, (pred + 1) % 3, pred))
    comparison = Comparison(a, lambda c: [(pred == c) & (kind == k) for k in range(4)])
    class_0 = Candidate("what", 0, "wrong", pred == 0, 9.0, 0.01)
    effect = comparison.measured(class_0, held_back=True)
    assert comparison.nearly_the_class(class_0)
    assert effect.other_rate == (wrong & a.held_back)[pred == 2].sum() / ((pred == 2) & a.held_back).sum()
    # Of class 1 the worst quarter: a finding that is chosen for its errors is held against what is chosen likewise.
    part = comparison.most_error_prone(0, 0.2)
    assert part is not None
    np.testing.assert_array_equal(part, (pred == 1) & (kind == 3))
    quarter = replace(class_0, members=(pred == 0) & (kind == 0))
    assert not comparison.nearly_the_class(quarter)
    within = comparison.measured(quarter, held_back=True)
    rest = (pred == 0) & (kind != 0) & a.held_back
    assert within.other_rate == wrong[rest].mean()


def test_a_class_that_is_all_one_habit_is_proposed_against_others() -> None:
    rng = np.random.default_rng(6)
    n = 400
    pred = np.arange(n) // 2 % 2
    wrong = rng.random(n) < np.array([0.9, 0.2])[pred]
    features = rng.normal(0, 0.2, (n, 64)) + np.eye(64)[pred]
    a = audited(n, [], pred, np.where(wrong, 1 - pred, pred), features)
    search = what.WhatSearch(a)
    a.notices.clear()

    class Unlike:
        def of(self, members: np.ndarray, box: object) -> float:
            return 0.0

    assert search.find(0, Unlike()) == []
    (found,) = search.find(0, Unlike(), Comparison(a, search.finest).most_error_prone)
    assert found.members[pred == 0].mean() > 2 / 3
    assert not found.members[pred == 1].any()
    assert search.find(1, Unlike(), Comparison(a, search.finest).most_error_prone) == []


def test_each_property_of_the_whole_image_has_its_own_rule() -> None:
    rng = np.random.default_rng(9)
    n = 900
    label = np.arange(n) % 3
    tinted = rng.random(n) < 0.2
    pred = np.where(tinted & (rng.random(n) < 0.9), 0, label)
    contrast = np.where(tinted, rng.normal(0.1, 0.01, n), rng.normal(0.2, 0.02, n))
    hue = np.where(tinted & (rng.random(n) < 0.9), rng.normal(200, 5, n), rng.uniform(0, 360, n))
    columns = [
        Column("contrast", "Contrast", contrast.astype(np.float32).astype(float), (), "image"),
        Column("hue", "Hue", hue.astype(np.float32).astype(float), (), "image"),
    ]
    a = audited(n, columns, pred, label)
    found = [c for c in who.find_who(a, 0) if c.outcome == "called"]
    assert {c.property for c in found} == {"contrast", "hue"}
    by_hue = next(c for c in found if c.property == "hue")
    (condition,) = by_hue.conditions
    assert isinstance(condition, Range)
    low, high = (float(str(bound)) for bound in (condition.low, condition.high))
    assert 180 < low < high < 220
    assert by_hue.says.count("hue") == 1
    assert len(merge(a, found)) == 2, "a tint lowers the contrast: two claims, two tests"
    assert len(merge(a, [by_hue, replace(by_hue, property="saturation")])) == 1


def test_a_small_region_does_not_speak_for_a_large_group() -> None:
    n = 400
    habit = np.arange(n) // 2 % 2 == 0
    a = audited(n, [], np.zeros(n), habit.astype(int))
    group = Candidate("what", 0, "wrong", habit, 9.0, 0.01)
    edge = Candidate("where", 0, "wrong", habit & (np.arange(n) < 60), 4.0, 0.01, box=(0, 0, 0.5, 0.2))
    whole = replace(edge, members=habit & (np.arange(n) > 40))
    (one,) = merge(a, [edge, group])
    assert one.best is group
    (one,) = merge(a, [whole, group])
    assert one.best is whole


def test_a_named_value_speaks_for_the_findings_that_it_holds_together() -> None:
    n = 500
    snow = np.arange(n) % 5 > 0
    first, second = snow & (np.arange(n) < 150), snow & (np.arange(n) >= 100) & (np.arange(n) < 300)
    # Wrong are all of the first group, most of the second, and few of the others with snow.
    wrong = first | (second & (np.arange(n) % 3 > 0)) | (np.arange(n) % 25 == 1)
    a = audited(n, [], np.zeros(n), wrong.astype(int))
    named = Candidate(
        "who", 0, "called", snow, 12.0, 0.01, (OneOf("meta.ground", ("snow",)),), says="with snow"
    )
    maps = Candidate(
        "who", 0, "wrong", first, 9.0, 0.01, (OneOf("x", ("y",)),) * 2, evidence={"map_terms": 1.0}
    )
    group = Candidate("what", 0, "wrong", second, 6.0, 0.01)
    assert len(merge(a, [maps, group])) == 2
    (one,) = merge(a, [maps, group, named])
    assert one.best is named
    assert {id(other) for other in one.others} == {id(maps), id(group)}
    # What has snow less often than its class is something else, and so is a region.
    usual = Candidate("what", 0, "wrong", (np.arange(n) >= 300) & (np.arange(n) % 5 < 4), 5.0, 0.01)
    assert {id(one.best) for one in merge(a, [maps, group, named, usual])} == {id(named), id(usual)}
    everywhere = replace(named, members=np.ones(n, bool), score=0.1)
    apart = [replace(maps, members=np.arange(n) < 150), replace(group, members=np.arange(n) >= 350)]
    found = merge(a, [*apart, everywhere])
    assert {id(one.best) for one in found} == {id(one) for one in apart}, (
        "what all of the class have holds none of it together"
    )
    region = replace(maps, kind="where", box=(0, 0, 0.5, 0.2), evidence={})
    assert {id(one.best) for one in merge(a, [region, group, named])} == {id(region), id(group)}


def test_chance_gives_no_rule() -> None:
    rng = np.random.default_rng(4)
    found = 0
    for _ in range(8):
        columns = [Column(f"c{i}", f"C{i}", rng.normal(size=200)) for i in range(6)]
        found += bool(who.find_who(audited(200, columns, np.zeros(200), rng.random(200) < 0.3), 0))
    assert found <= 2


def test_constant_and_unknown_columns_make_no_terms() -> None:
    n = 60
    columns = [Column("same", "Same", np.ones(n)), Column("nothing", "Nothing", np.full(n, np.nan))]
    assert who.terms(audited(n, columns, np.zeros(n), np.zeros(n)), np.arange(n), ("meta",)) == []


def test_two_terms_where_it_takes_two() -> None:
    rng = np.random.default_rng(6)
    n = 800
    x, y = rng.random((2, n))
    label = ((x > 0.7) & (y > 0.6)).astype(int)
    columns = [Column("x", "X", x, single=False), Column("y", "Y", y, single=False)]
    (best, *_) = who.find_who(audited(n, columns, np.zeros(n), label), 0)
    assert len(best.conditions) == 2
    assert best.property is None
    assert label[best.members].mean() > 0.9


def test_map_clustering_tells_corners_from_centres() -> None:
    rng = np.random.default_rng(8)
    grid = np.zeros((120, 14, 14), np.float32)
    grid[:40, 10:, :4], grid[40:, 5:9, 5:9] = 1, 1
    maps = grid.reshape(120, -1) + rng.random((120, 196)).astype(np.float32) * 0.2
    labels = spectral_clusters(maps / maps.sum(axis=1, keepdims=True), 0)
    assert len(set(labels[:40])) == 1
    assert set(labels[:40]).isdisjoint(labels[40:])
