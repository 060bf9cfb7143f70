"""The benchmark's plants, scores and table: what is planted is where it is said to be, and scores count what they say."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from benchmarks.planted import kinds_for, reached, report
from benchmarks.planting.plants import KINDS, LOCAL, make_plant
from benchmarks.planting.pools import SIDE, Pool, open_pool
from benchmarks.planting.scores import Truth, _about, overlaps
from tests.engine.habits import finding
from tests.seeding import rng

RED = 2


def picture() -> tuple[np.ndarray, np.ndarray]:
    pixels = rng.integers(60, 200, (SIDE, SIDE, 3)).astype(np.uint8)
    body = np.zeros((SIDE, SIDE), bool)
    body[30:80, 40:70] = True
    return pixels, body


@pytest.mark.parametrize("kind", KINDS)
def test_a_plant_changes_what_it_says_and_nothing_else(kind: str) -> None:
    pixels, body = picture()
    before = pixels.copy()
    planted, where = make_plant(kind, 0)(pixels, body, np.random.default_rng(5))
    assert np.array_equal(pixels, before)
    assert (planted.shape, planted.dtype) == (pixels.shape, np.uint8)
    changed = (planted != pixels).any(axis=2)
    if where is None:
        assert kind == "tint"
        assert changed.mean() > 0.9
        return
    assert changed[where].mean() > 0.2
    # A background blends into the object's edge by a pixel or two.
    assert changed[~where].mean() < (0.25 if kind == "background" else 1e-9)
    if kind in LOCAL:
        assert 0.005 < where.mean() < 0.25


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_dice_give_the_same_plant_and_seeds_differ(kind: str) -> None:
    pixels, body = picture()
    one, again = (make_plant(kind, 3)(pixels, body, np.random.default_rng(5))[0] for _ in range(2))
    assert np.array_equal(one, again)
    others = [make_plant(kind, seed)(pixels, body, np.random.default_rng(5))[0] for seed in range(8)]
    assert kind == "background" or any(not np.array_equal(one, other) for other in others)


def test_a_sticker_lies_anywhere_and_a_tag_in_its_corner() -> None:
    pixels, body = picture()

    def centres(kind: str) -> np.ndarray:
        plant = make_plant(kind, 1)
        places = [plant(pixels, body, np.random.default_rng(i))[1] for i in range(20)]
        return np.array([np.argwhere(place).mean(axis=0) for place in places])

    assert centres("sticker").std(axis=0).min() > 10
    assert centres("tag").std(axis=0).max() < 2


def test_a_background_needs_a_known_object() -> None:
    with pytest.raises(ValueError, match="known object"):
        make_plant("background", 0)(picture()[0], None, np.random.default_rng(0))
    assert "background" not in kinds_for("photographs", None)
    assert "background" in kinds_for("demo", None)


def test_a_pool_is_split_class_by_class(tmp_path) -> None:
    for k, name in enumerate(("a", "b")):
        (tmp_path / name).mkdir()
        for i in range(10):
            Image.new("RGB", (30, 40), (40 * k, 10 * i, 90)).save(tmp_path / name / f"{i}.png")
    pool = open_pool(str(tmp_path), tmp_path / "kept")
    assert pool.classes == ("a", "b")
    assert pool.pixels.shape == (20, SIDE, SIDE, 3)
    train, audit = pool.split(4, 0.6)
    assert np.bincount(pool.labels[train]).tolist() == [6, 6]
    assert sorted([*train, *audit]) == list(range(20))
    assert not np.array_equal(train, pool.split(5, 0.6)[0])
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match="two subfolders"):
        open_pool(str(tmp_path / "empty"), tmp_path / "kept")


def test_plants_are_counted_where_they_are_carried() -> None:
    from benchmarks.planting.cases import Case

    pixels = rng.integers(60, 200, (6, SIDE, SIDE, 3)).astype(np.uint8)
    pool = Pool("any", ("a", "b"), pixels, np.arange(6) % 2)
    case = Case(pool, "tag-silent", 0)
    assert (case.plant, case.planted_class, case.name) == ("tag", 0, "any-tag-silent-0")
    assert Case(pool, "clean", 0).planted_class is None
    rows, carries = np.array([1, 3, 5]), np.array([True, False, True])
    planted, where = case.planted(rows, carries, 2)
    assert [not np.array_equal(planted[i], pixels[rows[i]]) for i in range(3)] == carries.tolist()
    assert where is not None
    assert where.max() == 1.0
    assert where.mean() < 0.05


def test_what_a_finding_is_about() -> None:
    where = np.zeros((SIDE, SIDE))
    where[84:, :28] = 1
    truth = Truth("tag", RED, ["1", "2", "3"], where.tolist())
    assert overlaps(where, (0.0, 0.75, 0.25, 1.0))
    assert overlaps(where, (0.0, 0.5, 0.5, 1.0))
    assert not overlaps(where, (0.5, 0.0, 1.0, 0.5))
    carriers = set(truth.carriers)
    assert _about(truth, finding(("9",)), carriers)
    assert not _about(truth, finding(("1",), class_index=0), carriers)
    assert _about(truth, finding(("1", "9"), box=None), carriers)
    assert not _about(truth, finding(("1", "8", "9"), box=None), carriers)
    # A tag is no property of the whole picture; a tint is.
    assert not _about(truth, finding(("1",), box=None, property="hue"), carriers)
    tint = Truth("tint", RED, ["1"], None)
    assert _about(tint, finding(("1",), box=None, property="hue"), carriers)
    assert not _about(tint, finding(("1",)), carriers)


def result(**known: object) -> dict[str, object]:
    values: dict[str, object] = {
        "data": "demo",
        "kind": "tag",
        "seed": 0,
        "flips": 0.9,
        "accuracy": 0.95,
        "rank": 1,
        "verdict": "shortcut",
        "title": "Predicted red, looking at the corner",
        "precision": 0.95,
        "recall": 0.7,
        "false_shortcuts": [],
        "maps": {"rank": 0, "precision": 0.4, "recall": None},
        "discover_s": 5.0,
        "verify_s": 11.0,
    }
    return values | known


def test_the_table_and_what_misses_a_bar() -> None:
    results = [
        result(),
        result(seed=1, precision=0.8, recall=0.5, verdict="relied on"),
        result(kind="tint", flips=0.3, rank=0),
        result(kind="clean", rank=0, false_shortcuts=["Predicted blue, with hue"]),
    ]
    table = report(results)
    assert (
        "| demo | tag | 2 | 0.90 · 0.90 | 2 of 2 | 1 of 2 | 0.95 · 0.80 | 0.70 · 0.50 | 0 | 0 of 2, 0.40 · 0.40, – · – | 5 + 11 s |"
        in table
    )
    assert "Not learned by the network (share of flips): demo tint seed 0 (0.30)" in table
    assert "1 clean controls, 1 shortcut verdicts on them: Predicted blue, with hue" in table
    assert [line.split(":")[0] for line in reached(results)] == ["demo tag 1"] * 3 + ["demo clean 0"]
