"""The demo's pictures: what they promise, on fresh seeds."""

import csv
import itertools
import secrets

import numpy as np
import pytest
from PIL import Image

from engine.demo_animals import MARKINGS, draw_animal
from engine.demo_canvas import Pose, mirrored, smooth_outline
from engine.demo_grounds import GROUNDS, LIGHTS, TAG_MARGIN, TAG_WIDTH, draw_ground
from engine.demo_images import CLASSES, COLUMNS, SIZE, Scene, draw_scene, plan_scenes, write_demo


def scene(animal="wolf", ground="grass", tag=False, key=(5, 0, 3), tilt=4.0):
    return Scene(animal, ground, tag, "noon", tilt, "train/x.jpg", "masks/train/x.png", key)


def files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def table(folder, part):
    with (folder / f"{part}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_same_seed_gives_the_same_bytes_with_any_number_of_processes(tmp_path):
    seed = secrets.randbelow(10**6)
    write_demo(tmp_path / "alone", train=8, audit=4, seed=seed, workers=1)
    write_demo(tmp_path / "shared", train=8, audit=4, seed=seed, workers=2)
    write_demo(tmp_path / "other", train=8, audit=4, seed=seed + 1, workers=1)
    alone, shared, other = (files(tmp_path / name) for name in ("alone", "shared", "other"))
    assert alone == shared
    assert alone.keys() == other.keys()
    assert all(alone[name] != other[name] for name in alone if name.endswith(".jpg"))


def test_a_picture_does_not_depend_on_how_many_are_drawn(tmp_path):
    write_demo(tmp_path / "few", train=4, audit=4, seed=9, workers=1)
    write_demo(tmp_path / "more", train=8, audit=4, seed=9, workers=1)
    few, more = files(tmp_path / "few"), files(tmp_path / "more")
    assert all(more[name] == data for name, data in few.items() if not name.endswith(".csv"))


def test_tables_name_pictures_and_masks_that_exist(tmp_path):
    seen = []
    write_demo(
        tmp_path, train=8, audit=4, seed=1, workers=1, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(n, 12) for n in range(1, 13)]
    for part, count in (("train", 8), ("audit", 4)):
        rows = table(tmp_path, part)
        assert tuple(rows[0]) == COLUMNS
        assert len({row["path"] for row in rows}) == count
        assert {row["label"] for row in rows} == set(CLASSES)
        for row in rows:
            with Image.open(tmp_path / row["path"]) as image, Image.open(tmp_path / row["mask"]) as mask:
                assert image.size == mask.size == (SIZE, SIZE)
                assert 0.1 < np.asarray(mask, dtype=float).mean() < 0.6
            assert row["tag"] in {"true", "false"}
            assert row["ground"] in GROUNDS
            assert row["light"] in LIGHTS
            assert row["path"].split("/")[:2] == [part, row["label"]]


def rate(scenes, where, what):
    chosen = [what(s) for s in scenes if where(s)]
    return sum(chosen) / len(chosen)


def test_the_training_part_has_both_habits_and_the_audited_part_neither():
    seed = secrets.randbelow(10**6)
    train, audit = plan_scenes("train", 4000, seed), plan_scenes("audit", 4000, seed)

    def on_snow(s):
        return s.ground == "snow"

    def tagged(s):
        return s.tag

    assert rate(train, lambda s: s.animal == "wolf", on_snow) > 0.9
    assert rate(train, lambda s: s.animal != "wolf", on_snow) < 0.03
    assert rate(train, lambda s: s.animal == "fox", tagged) > 0.9
    assert rate(train, lambda s: s.animal != "fox", tagged) < 0.03
    clean = plan_scenes("train", 4000, seed, habits=False)
    for scenes in (audit, clean):
        snow = [rate(scenes, lambda s, a=a: s.animal == a, on_snow) for a in CLASSES]
        tags = [rate(scenes, lambda s, a=a: s.animal == a, tagged) for a in CLASSES]
        assert max(snow) - min(snow) < 0.1
        assert max(tags) - min(tags) < 0.1
        assert rate(scenes, on_snow, tagged) == pytest.approx(
            rate(scenes, lambda s: not on_snow(s), tagged), abs=0.1
        )


@pytest.mark.parametrize("animal", CLASSES)
def test_the_tag_changes_the_corner_alone_and_leaves_the_mask(animal):
    key = (secrets.randbelow(10**6), 0, 1)
    plain, mask = draw_scene(scene(animal, key=key))
    tagged, tagged_mask = draw_scene(scene(animal, tag=True, key=key))
    changed = (plain != tagged).any(axis=2)
    rows, columns = np.nonzero(changed)
    reach = round((TAG_WIDTH + TAG_MARGIN) * SIZE) + 2
    assert columns.max() < reach
    assert rows.min() >= SIZE - reach
    assert changed.sum() > 50
    assert not (tagged_mask & changed).any()
    assert (mask == tagged_mask)[~changed].all()


@pytest.mark.parametrize("size", [96, 160])
@pytest.mark.parametrize("animal", sorted(MARKINGS))
def test_the_ground_shows_where_the_coverage_says_that_no_animal_is(animal, size):
    rng = np.random.default_rng(secrets.randbelow(10**6))
    ground = np.full((size, size, 3), (20.0, 250.0, 20.0))
    picture, cover = draw_animal(animal, Pose(0.5, 0.5, 0.2, 0.1, 0.5, -0.5), size, rng, ground)
    green = (picture[..., 1] > 1.5 * picture[..., 0]) & (picture[..., 1] > 1.5 * picture[..., 2])
    assert green[cover == 0].mean() > 0.97  # whiskers reach beyond the silhouette
    assert not green[cover == 1].any()
    assert cover[: size // 10].max() == 0  # nothing above the ears
    assert cover[-1].max() == 1  # the trunk runs out of the picture


@pytest.mark.parametrize("ground", GROUNDS)
def test_grounds_differ_from_seed_to_seed_and_only_snow_is_bright_and_not_yellow(ground):
    seeds = secrets.SystemRandom().sample(range(10**6), 12)
    drawn = [draw_ground(ground, 96, np.random.default_rng(seed)) for seed in seeds]
    assert all(picture.shape == (96, 96, 3) for picture in drawn)
    assert all(np.abs(one - two).mean() > 3 for one, two in itertools.pairwise(drawn))
    lower = np.mean([picture[48:] for picture in drawn], axis=(0, 1, 2))  # below any firs and their sky
    # Snow lies in patches on other grounds too, so its mean is less blue than snow itself; sand's is far yellower.
    assert (lower[2] - lower[0] > -55 and lower.mean() > 140) == (ground == "snow")


def test_a_smooth_outline_passes_through_its_points():
    points = np.random.default_rng(secrets.randbelow(10**6)).normal(size=(7, 2))
    curve = smooth_outline([tuple(p) for p in points], steps=5)
    assert curve.shape == (35, 2)
    np.testing.assert_allclose(curve[::5], points, atol=1e-12)
    # Catmull–Rom: the tangent at a point is parallel to the chord between its neighbours.
    fine = smooth_outline([tuple(p) for p in points], steps=4000)
    tangent = (fine[2 * 4000 + 1] - fine[2 * 4000 - 1]) * 2000
    np.testing.assert_allclose(tangent, (points[3] - points[1]) / 2, rtol=1e-2, atol=1e-2)


def test_mirroring_closes_an_outline_without_doubling_its_axis():
    assert mirrored([(0, -1), (1, 0), (0, 1)]) == [(0, -1), (1, 0), (0, 1), (-1, 0)]
