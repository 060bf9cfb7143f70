"""Interventions and patches: what is changed, what is left alone, and where patches lie."""

from __future__ import annotations

import numpy as np
import pytest

from engine.image_statistics import image_statistics
from engine.interventions import (
    FILLS,
    IMPOSE,
    inpaint_fill,
    mean_fill,
    paste,
    take_brightness,
    take_colours,
    take_contrast,
    take_sharpness,
)
from engine.verifying.patches import (
    FRAME_PATCH,
    LARGEST,
    Patch,
    attended_window,
    elsewhere,
    fitted,
    heaviest,
    mass_by_place,
    mass_in,
    of_size,
    overlap,
    place_at,
    second_window,
    starts,
    unattended,
)
from engine.verifying.subjects import Subject


def places(patch: Patch) -> list[Patch]:
    """Return the patch at every place."""
    width, height = patch.sides
    return [patch.moved(float(x), float(y)) for y in starts(height) for x in starts(width)]


def view(seed: int = 0, channels: int = 3, size: tuple[int, int] = (32, 40)) -> np.ndarray:
    return np.random.default_rng(seed).integers(30, 200, (*size, channels)).astype(np.uint8)


def square(height: int = 32, width: int = 40) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[8:20, 10:22] = True
    return mask


def smooth(channels: int = 3) -> np.ndarray:
    """Return a view of slow waves with a patch of stripes in the square."""
    y, x = np.mgrid[:32, :40]
    waves = 120 + 40 * np.sin(x / 12) + 30 * np.cos(y / 10)
    waves[square()] = np.where((x + y) % 2, 250, 0)[square()]
    return np.rint(waves)[:, :, None].repeat(channels, 2).astype(np.uint8)


@pytest.mark.parametrize("name", FILLS)
@pytest.mark.parametrize("channels", [1, 3])
def test_fills_cover_the_area_and_nothing_else(name: str, channels: int) -> None:
    before, mask = smooth(channels), square()
    kept = before.copy()
    filled = FILLS[name](before, mask)
    np.testing.assert_array_equal(before, kept)
    np.testing.assert_array_equal(filled[~mask], before[~mask])
    assert (filled[mask] != before[mask]).mean() > 0.9
    assert filled.dtype == np.uint8
    assert filled[mask].std() < before[mask].std() / 2


@pytest.mark.parametrize("name", FILLS)
def test_fills_take_any_area(name: str) -> None:
    before = view()
    everything = FILLS[name](before, np.ones((32, 40), bool))
    assert everything.shape == before.shape
    corner = np.zeros((32, 40), bool)
    corner[-8:, :8] = True
    filled = FILLS[name](smooth(), corner)[-4:, :4]
    assert abs(filled.mean() - smooth()[-12:-8, 8:12].mean()) < 60


def test_the_mean_is_of_what_lies_around() -> None:
    before, mask = np.full((32, 40, 3), 50, np.uint8), square()
    before[mask] = 250
    assert (mean_fill(before, mask) == 50).all()


@pytest.mark.parametrize("size", [(32, 40), (112, 90), (224, 224)])
def test_inpainting_continues_a_ramp_and_forgets_what_was_covered(size: tuple[int, int]) -> None:
    ramp = np.tile(np.linspace(20, 220, size[1]), (size[0], 1))[:, :, None].repeat(3, 2).astype(np.uint8)
    mask = np.zeros(size, bool)
    mask[size[0] // 4 : size[0] // 2, size[1] // 4 : size[1] // 2] = True
    covered = ramp.copy()
    covered[mask] = 255
    filled = inpaint_fill(covered, mask)
    assert np.abs(filled.astype(int) - ramp).max() < 14


def test_paste_moves_what_lies_under_the_mask() -> None:
    receiver, donor, mask = view(1), view(2), square()
    pasted = paste(receiver, donor, mask, (3, -4))
    np.testing.assert_array_equal(pasted[11:23, 6:18], donor[8:20, 10:22])
    rest = np.ones((32, 40), bool)
    rest[11:23, 6:18] = False
    np.testing.assert_array_equal(pasted[rest], receiver[rest])
    assert (receiver == view(1)).all()


def test_colours_undo_a_tint() -> None:
    plain, other = view(3), view(4)
    tinted = (0.6 * other + 0.4 * np.array([240, 20, 20])).astype(np.uint8)
    given = take_colours(plain, tinted).astype(float)
    np.testing.assert_allclose(given.mean((0, 1)), tinted.mean((0, 1)), atol=1)
    np.testing.assert_allclose(given.std((0, 1)), tinted.std((0, 1)), atol=1)
    flat = np.full((32, 40, 3), 90, np.uint8)
    assert np.isfinite(take_colours(flat, plain)).all()


def test_each_property_comes_near_the_example() -> None:
    before = view(5)
    dark = (view(6) * 0.7).astype(np.uint8)
    after = image_statistics(take_brightness(before, dark))["brightness"]
    assert after == pytest.approx(image_statistics(dark)["brightness"], abs=0.01)
    after = image_statistics(take_contrast(before, dark))["contrast"]
    assert after == pytest.approx(image_statistics(dark)["contrast"], abs=0.01)
    crisp = smooth()
    soft = take_sharpness(crisp, np.full_like(crisp, 90))
    softer = (0.5 * crisp + 0.5 * soft).astype(np.uint8)
    for source, example in ((crisp, softer), (softer, crisp)):
        wanted = image_statistics(example)["sharpness"]
        found = image_statistics(take_sharpness(source, example))["sharpness"]
        assert found == pytest.approx(wanted, rel=0.25, abs=0.01)


def test_what_is_imposed_is_what_the_surroundings_show() -> None:
    fox, husky = np.full((2, 40, 40, 3), 120, np.uint8)
    around = ~square(40, 40)
    fox[~around], husky[~around] = (220, 110, 20), (90, 90, 100)
    # The orange of a fox is no tint of its surroundings.
    given = take_colours(husky, fox, around, around)
    np.testing.assert_allclose(given[around].mean(axis=0), 120, atol=1)
    assert abs(take_colours(husky, fox)[around].mean(axis=0) - 120).max() > 3
    tinted = (0.7 * husky + 0.3 * np.array([40, 160, 220])).astype(np.uint8)
    given = take_colours(fox, tinted, around, around)
    np.testing.assert_allclose(given[around].mean(axis=0), tinted[around].mean(axis=0), atol=1)
    dark = (husky * 0.5).astype(np.uint8)
    assert abs(take_brightness(fox, dark, around, around)[around].mean() - 60) < 2


@pytest.mark.parametrize("name", IMPOSE)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_property_takes_grey_and_colour_and_flat_views(name: str, channels: int) -> None:
    before = view(8, channels)
    for example in (view(9, channels), np.full_like(before, 7), before):
        after = IMPOSE[name](before, example)
        assert (after.shape, after.dtype) == (before.shape, np.uint8)


def slow_mass(density: np.ndarray, box: tuple[float, float, float, float], fine: int = 140) -> float:
    """Sum a density the slow way: point by point on a fine raster."""
    n, total = density.shape[0], 0.0
    for i in range(fine):
        for j in range(fine):
            y, x = (i + 0.5) / fine, (j + 0.5) / fine
            if box[0] <= x < box[2] and box[1] <= y < box[3]:
                total += density[int(y * n), int(x * n)] * (n / fine) ** 2
    return total


def test_the_mass_of_a_patch() -> None:
    density = np.random.default_rng(0).uniform(size=(14, 14))
    density /= density.sum()
    for box in ((0.1, 0.2, 0.55, 0.9), (0.0, 0.0, 1.0, 1.0), (0.5, 0.5, 0.6, 0.6)):
        assert mass_in(density, Patch(box)) == pytest.approx(slow_mass(density, box), abs=2e-3)
    inner = Patch(FRAME_PATCH.hole)
    assert mass_in(density, FRAME_PATCH) == pytest.approx(1 - mass_in(density, inner))
    size = of_size(0.3, 0.2)
    slow = [mass_in(density, place) for place in places(size)]
    np.testing.assert_allclose(mass_by_place(density, size).ravel(), slow, atol=1e-12)
    assert mass_in(density, heaviest(density, size)) == pytest.approx(max(slow))
    assert starts(0.3)[-1] == pytest.approx(0.7)
    assert starts(1.0).tolist() == [0.0]


def test_the_frame_takes_a_quarter() -> None:
    assert FRAME_PATCH.area == pytest.approx(LARGEST)
    mask = FRAME_PATCH.mask(200, 200)
    assert mask.mean() == pytest.approx(LARGEST, abs=0.01)
    assert mask[0].all()
    assert not mask[100, 100]


def test_patches_of_one_size_cover_equally_many_pixels() -> None:
    size = of_size(3 / 14, 5 / 14)
    counts = {int(place.mask(32, 45).sum()) for place in places(size)}
    assert len(counts) == 1
    for place in places(size)[::17]:
        down, right = size.shift_to(place, 32, 45)
        np.testing.assert_array_equal(np.roll(size.mask(32, 45), (down, right), (0, 1)), place.mask(32, 45))


def test_the_attended_window_is_the_peaks_component() -> None:
    density = np.full((14, 14), 0.01)
    density[2:4, 9:12] = 1.0
    density[10:13, 1:3] = 0.9  # another component, below the peak's
    density[2, 9] = 1.2
    assert attended_window(density / density.sum()).box == pytest.approx((9 / 14, 2 / 14, 12 / 14, 4 / 14))
    point = np.zeros((14, 14))
    point[0, 13] = 1
    small = attended_window(point)
    assert small.sides == pytest.approx((2 / 14, 2 / 14))
    assert mass_in(point, small) == pytest.approx(1)
    flat = attended_window(np.full((14, 14), 1 / 196))
    assert flat.area <= LARGEST + 1e-9


def test_boxes_that_are_too_large_keep_their_heaviest_part() -> None:
    density = np.zeros((14, 14))
    density[12, 2] = 1
    assert fitted((0.0, 0.75, 0.25, 1.0), density).box == (0.0, 0.75, 0.25, 1.0)
    part = fitted((0.0, 0.5, 1.0, 1.0), density)
    assert part.area == pytest.approx(LARGEST)
    assert part.box[1] >= 0.5 - 1e-9
    assert part.box[3] <= 1 + 1e-9
    assert mass_in(density, part) == pytest.approx(1)
    assert fitted((0.0, 0.0, 1.0, 1.0), None).box == pytest.approx((0.25, 0.25, 0.75, 0.75))


def shared(first: Patch, second: Patch) -> float:
    """Return the share of the first that the second covers, counted in pixels."""
    a, b = first.mask(2800, 2800), second.mask(2800, 2800)
    return float((a & b).sum() / a.sum())


def test_overlap_counts_what_two_boxes_share() -> None:
    size, other = of_size(0.25, 0.4), Patch((0.1, 0.3, 0.6, 0.8))
    slow = [shared(place, other) for place in places(size)[::23]]
    np.testing.assert_allclose(overlap(size, other).ravel()[::23], slow, atol=3e-3)
    assert [place_at(size, i).box for i in (0, 40, 100)] == [places(size)[i].box for i in (0, 40, 100)]


def test_controls_lie_elsewhere() -> None:
    rng = np.random.default_rng(0)
    corner = Patch((0.0, 0.75, 0.25, 1.0))
    seen = set()
    for _ in range(12):
        other = elsewhere(corner, rng)
        assert shared(other, corner) == 0
        assert other.area == pytest.approx(corner.area)
        seen.add(other.box)
    assert len(seen) > 6
    middle = Patch((0.25, 0.25, 0.75, 0.75))  # no room for its own shape beside it: a strip is
    other = elsewhere(middle, rng)
    assert shared(other, middle) == 0
    assert other.area == pytest.approx(middle.area)
    inside = elsewhere(FRAME_PATCH, rng)
    assert inside.area == pytest.approx(FRAME_PATCH.area)
    assert inside.box[0] >= FRAME_PATCH.ring


def test_a_transplants_control_is_where_the_model_looked_least() -> None:
    rng = np.random.default_rng(0)
    density = np.ones((14, 14))
    density[:, 7:] = 9.0
    density /= density.sum()
    for _ in range(20):
        other = unattended(Patch((0.5, 0.5, 0.7, 0.7)), density, rng)
        assert other.box[2] <= 0.5 + 1e-9
        assert other.sides == pytest.approx((0.2, 0.2))
    corner = Patch((0.0, 0.0, 0.3, 0.3))
    assert shared(unattended(corner, None, rng), corner) == 0


def test_the_second_window_shows_nothing_of_the_first() -> None:
    density = np.full((14, 14), 0.01)
    density[0] = 1.0  # a strip that reaches beyond the patch on both sides
    density[9, 4] = 0.5
    strip = Patch((1 / 14, 0.0, 13 / 14, 4 / 14))
    second = second_window(strip, density / density.sum())
    assert shared(second, strip) == 0
    assert mass_in(density, second) == pytest.approx(0.5 + 47 * 0.01)
    inside = second_window(FRAME_PATCH, density / density.sum())
    assert inside.box[0] >= FRAME_PATCH.ring - 1e-9
    assert inside.box[2] <= 1 - FRAME_PATCH.ring + 1e-9


def test_patches_leave_the_object_in_view() -> None:
    body = np.zeros((56, 56))
    body[:28, :28] = 1
    attention = np.zeros((14, 14))
    attention[13, 13] = 1
    masked = Subject("a", "a", 0, view(), attention, body / body.sum())
    assert masked.has_room_for(Patch((0.5, 0.5, 1.0, 1.0)))
    assert not masked.has_room_for(Patch((0.0, 0.0, 0.5, 0.5)))
    assert masked.has_room_for(Patch((0.25, 0.25, 0.75, 0.75)))  # a quarter of it
    assert not masked.has_room_for(Patch((0.2, 0.2, 0.7, 0.7)))
    unmasked = Subject("a", "a", 0, view(), attention, None)
    assert not unmasked.has_room_for(Patch((0.5, 0.5, 1.0, 1.0)))
    for subject in (masked, unmasked, Subject("a", "a", 0, view(), None, None)):
        size = of_size(0.5, 0.5)
        slow = [i for i, place in enumerate(places(size)) if subject.has_room_for(place)]
        assert subject.places_for(size).tolist() == slow
        assert slow
