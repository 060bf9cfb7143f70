"""Transplant: does the attended content make images of other classes the class, wherever it is pasted?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from cache.findings import Finding
from cache.schema import GRID
from engine.interventions import Pixels, paste
from engine.verifying.intervals import Outcome
from engine.verifying.patches import (
    FRAME_PATCH,
    FRAME_SQUARE,
    Patch,
    fitted,
    heaviest,
    is_frame,
    of_size,
    place_at,
    second_window,
    starts,
    unattended,
)
from engine.verifying.subjects import Stock, Subject
from engine.verifying.trials import Predict, Trial, conduct

PILOT = 16
"""Images on which the shape of the patch is chosen; the test itself is made on others."""
PILOT_SHARE = 4
"""The pilot takes at most one in so many of the receiving images."""
FEWEST_OTHERS = 5
"""Fewer other images of the class are none to compare with: the finding's own second windows stand in for them."""

Cut = Callable[[Subject], Patch | None]


@dataclass(frozen=True)
class Shape:
    """A way to cut the patch out of a donor.

    Attributes:
        name: For people.
        cut: Returns a donor's patch; None where its map does not say where the model looked.
        moves: The patch may be pasted anywhere, since the content is found anywhere.
        spread: The content lies all over the view, as a background does: the same image has no place without it, so
            that controls come from other images.
    """

    name: str
    cut: Cut
    moves: bool
    spread: bool = False


def shapes_of(finding: Finding, donors: list[Subject]) -> list[Shape]:
    """Return the shapes that a finding's content may have, the likeliest first.

    A finding with a box is cut along it, and pasted in its place or where there is room. Content that moves about is cut around each donor's attended component; since
    backgrounds are spread over the view, strips and a square are tried as well, where they hold most of the mass.
    A frame is tried where the edges are attended to.
    """
    maps = [donor.attention for donor in donors if donor.attention is not None]
    mean = np.mean(maps, axis=0) if maps else None
    shapes = []
    if finding.box is not None:
        patch = fitted(finding.box, mean)
        shapes.append(Shape("the region", lambda _: patch, moves=False))
        # Where the region is where objects are, its content is pasted beside them.
        shapes.append(Shape("the region, moved to where there is room", lambda _: patch, moves=True))
    elif maps:
        shapes.append(Shape("the attended component", Subject.window, moves=True))
        for name, rows, columns in (("a square", 7, 7), ("a strip across", 4, 12), ("a strip down", 12, 4)):
            size = of_size(rows / GRID, columns / GRID)
            shapes.append(Shape(name, partial(_heaviest_of, size=size), moves=True, spread=True))
    if mean is not None and is_frame(mean):
        shapes.append(Shape("the frame", lambda _: FRAME_PATCH, moves=False, spread=True))
    return shapes


def _heaviest_of(donor: Subject, size: Patch) -> Patch | None:
    return None if donor.attention is None else heaviest(donor.attention, size)


def choose_shape(
    shapes: list[Shape],
    donors: Stock,
    receivers: Stock,
    others: Stock | None,
    count: int,
    class_index: int,
    predict: Predict,
    rng: np.random.Generator,
) -> Shape:
    """Return the shape that makes more of a pilot's images the class than its control and the rest of the class do.

    By the smaller of the two differences; the first of equals. The pilot's images take no part in the test, so that the choice does not flatter it.
    """
    gains = []
    for shape in shapes:
        dice = np.random.default_rng(rng.integers(2**32))
        trials = transplants(shape, donors, receivers, others, class_index, dice, 0, count)
        outcomes = conduct(trials, predict, looks=(count,))
        against = max(sum(o.control for o in outcomes), sum(bool(o.other) for o in outcomes))
        gains.append(sum(o.hit for o in outcomes) - against)
    return shapes[int(np.argmax(gains))]


def transplants(
    shape: Shape,
    donors: Stock,
    receivers: Stock,
    others: Stock | None,
    class_index: int,
    rng: np.random.Generator,
    first: int = 0,
    last: int | None = None,
) -> Iterator[Trial]:
    """Yield a trial for each receiving image that has room for the patch.

    Each gets a donor's patch, an equal-area control (`_control`), and the patch of that size that the model attends to
    in another image of the class, all three at the same place.

    Args:
        shape: How patches are cut.
        donors: The finding's images; they take turns.
        receivers: Images of other classes, each used once.
        others: Images of the class that are not in the finding; None where the donors' second windows are taken.
        class_index: The class that the patch should lead to.
        rng: Draws controls and places.
        first: The first receiving image.
        last: The one after the last; None for all.
    """
    turn, at = 0, first
    while last is None or at < last:
        receiver = receivers.get(at)
        at += 1
        if receiver is None:
            return
        donor, patch = _next_donor(shape, donors, turn)
        if donor is None or patch is None:
            return
        place = _place(patch, receiver, shape.moves, rng)
        if place is None:
            continue
        control = _control(shape, donor, patch, receivers.turn(at), rng)
        views = [_moved(receiver, donor.view, patch, place), _moved(receiver, *control, place)]
        compared = []
        for other, leads_to in _compared(others, donor, patch, turn, receivers, receiver, class_index):
            there = place if not patch.ring else _place(other[1], receiver, True, rng)
            if there is not None:
                views.append(_moved(receiver, *other, there))
                compared.append(leads_to)
        turn += 1
        yield Trial(views, partial(_became, class_index=class_index, compared=compared))


def _became(predicted: NDArray[np.int64], class_index: int, compared: Sequence[int]) -> Outcome:
    hits = (predicted[:2] == class_index).tolist()
    others = (predicted[2:] == np.array(compared, np.int64)).tolist()
    return Outcome(hits[0], hits[1], any(others) if others else None)


def _next_donor(shape: Shape, donors: Stock, turn: int) -> tuple[Subject | None, Patch | None]:
    """Return the donor whose turn it is, passing over those whose map does not say where the patch lies."""
    for passed in range(PILOT * PILOT_SHARE):
        donor = donors.turn(turn + passed)
        patch = None if donor is None else shape.cut(donor)
        if patch is not None:
            return donor, patch
    return None, None


def _place(patch: Patch, receiver: Subject, moves: bool, rng: np.random.Generator) -> Patch | None:
    """Return where a patch goes: where it was, or for content that moves about anywhere with room; None without room."""
    if receiver.has_room_for(patch):
        return patch
    if not moves:
        return None
    free = receiver.places_for(patch)
    return place_at(patch, int(rng.choice(free))) if len(free) else None


def _control(
    shape: Shape, donor: Subject, patch: Patch, elsewhere: Subject | None, rng: np.random.Generator
) -> tuple[Pixels, Patch]:
    """Return an image and the equal-area patch of it that shows what pasting alone does.

    It is cut where the model looked least in the same donor; for content that is spread, at a random place of an image
    of another class.
    """
    if shape.spread and elsewhere is not None:
        width, height = patch.sides
        return elsewhere.view, patch.moved(
            float(rng.choice(starts(width))), float(rng.choice(starts(height)))
        )
    return donor.view, unattended(patch, donor.attention, rng)


def _moved(receiver: Subject, view: Pixels, patch: Patch, place: Patch) -> Pixels:
    height, width = receiver.size
    return paste(receiver.view, view, patch.mask(height, width), patch.shift_to(place, height, width))


def _compared(
    others: Stock | None,
    donor: Subject,
    patch: Patch,
    turn: int,
    receivers: Stock,
    receiver: Subject,
    class_index: int,
) -> list[tuple[tuple[Pixels, Patch], int]]:
    """Return the windows of the patch's size that a patch is compared with, and the class that each should lead to.

    The window that an image of the rest of the class attends to most. Where there is no rest, the donor's second window,
    and what an image of another class attends to most, which may lead to that class: so much any class's own features do.
    """
    size = FRAME_SQUARE if patch.ring else of_size(patch.sides[1], patch.sides[0])
    if others is not None:
        image = others.turn(turn)
        if image is None or image.attention is None:
            return []
        return [((image.view, heaviest(image.attention, size)), class_index)]
    found = []
    if donor.attention is not None:
        found.append(((donor.view, second_window(patch, donor.attention)), class_index))
    for passed in range(FEWEST_OTHERS):
        image = receivers.turn(turn + 1 + passed)
        if image is not None and image.attention is not None and image.pred != receiver.pred:
            found.append(((image.view, heaviest(image.attention, size)), image.pred))
            break
    return found
