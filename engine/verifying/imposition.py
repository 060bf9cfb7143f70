"""Imposition: does a property of the whole image, such as a tint, make images of other classes the class?"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import count

import numpy as np
from numpy.typing import NDArray

from engine.interventions import IMPOSE, Pixels, take_the_rest
from engine.verifying.intervals import Outcome
from engine.verifying.subjects import Stock, Subject
from engine.verifying.trials import Trial


def impositions(
    name: str, donors: Stock, receivers: Stock, others: Stock | None, class_index: int
) -> Iterator[Trial]:
    """Yield a trial for each image of another class: it takes on the property of one of the finding's images.

    The control takes on that of another receiving image, the comparison that of an image of the class outside the
    finding.

    Args:
        name: The property, a key of `IMPOSE`.
        donors: The finding's images; they take turns.
        receivers: Images of other classes, each used once; the next one gives the control.
        others: Images of the class that are not in the finding; None where other properties of the finding's own images
            are compared with.
        class_index: The class that the property should lead to.
    """
    for at in count():
        receiver, donor, control = receivers.get(at), donors.turn(at), receivers.turn(at + 1)
        if receiver is None or donor is None or control is None or control is receiver:
            return
        views = [_taken(name, receiver, donor), _taken(name, receiver, control)]
        other = None if others is None else others.turn(at)
        views.append(
            take_the_rest(name, receiver.view, donor.view, receiver.surroundings(), donor.surroundings())
            if other is None
            else _taken(name, receiver, other)
        )
        yield Trial(views, partial(_became, class_index=class_index))


def changes(name: str, donors: Stock, receivers: Stock, class_index: int) -> Iterator[Trial]:
    """Yield a trial for each of the finding's images: it takes on the property of an image of another class.

    The control takes on that of another image of the finding, which is as much of a change of the pixels but not of
    what the finding says.
    """

    def left(predicted: NDArray[np.int64]) -> Outcome:
        gone = (predicted != class_index).tolist()
        return Outcome(gone[0], gone[1])

    for at in count():
        donor, usual, alike = donors.get(at), receivers.turn(at), donors.turn(at + 1)
        if donor is None or usual is None or alike is None or alike is donor:
            return
        yield Trial([_taken(name, donor, usual), _taken(name, donor, alike)], left)


def _taken(name: str, subject: Subject, example: Subject) -> Pixels:
    """Return a subject's view with the property of another, as the surroundings of the two show it.

    A property of the whole image shows beside the object too. Taken from the whole, the orange of a fox would be laid over
    everything as if it were a tint.
    """
    return IMPOSE[name](subject.view, example.view, subject.surroundings(), example.surroundings())


def _became(predicted: NDArray[np.int64], class_index: int) -> Outcome:
    hits = (predicted == class_index).tolist()
    return Outcome(*hits)
