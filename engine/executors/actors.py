"""What runs on a Ray cluster: the board that workers share, and the workers; plain classes that the driver makes actors of."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from cache.errors import GazelakeError, ModelError
from engine.executors.shards import Report, Round, Shard, ShardExplainer, Tally
from engine.recipe import OtherNetworkError, Recipe

if TYPE_CHECKING:
    from engine.models import LoadedModel


@dataclass(frozen=True)
class Ready:
    """What a worker that has loaded the network says of itself."""

    images_at_once: int
    device: str


class Board:
    """What workers share: who explains which content, and how far each of them is. An actor."""

    def __init__(self) -> None:
        self._owners: dict[bytes, int] = {}
        self._tallies: dict[int, Tally] = {}
        self._released: set[int] = set()

    def claim(self, attempt: int, contents: Sequence[str], tally: Tally) -> list[bool]:
        """Note how far an attempt is; return which contents are its to explain."""
        if attempt in self._released:
            return [False] * len(contents)
        self._tallies[attempt] = tally
        return [self._owners.setdefault(bytes.fromhex(content), attempt) == attempt for content in contents]

    def release(self, attempt: int) -> None:
        """Give back what an attempt claimed that came to nothing."""
        self._released.add(attempt)
        self._tallies.pop(attempt, None)
        self._owners = {content: owner for content, owner in self._owners.items() if owner != attempt}

    def clear(self) -> None:
        """Begin a new round."""
        self._owners.clear()

    def tallies(self) -> dict[int, Tally]:
        """Return how far each attempt is."""
        return self._tallies

    def settle(self, attempt: int) -> None:
        """Forget how far an attempt came that is finished; what it explained stays its own."""
        self._tallies.pop(attempt, None)


class Hand:
    """A worker on the cluster: holds the network once. An actor."""

    def __init__(self, recipe: Recipe, cores: int, board: Any) -> None:
        self._recipe = recipe
        self._cores = cores
        self._board = board
        self._explainer: ShardExplainer | None = None
        self._stopped = -1

    def begin(self, sent: bytes | None = None) -> Ready | OtherNetworkError | GazelakeError:
        """Load the network; where that is not possible, return why."""
        unpack = None if sent is None else partial(unpacked_network, sent)
        try:
            self._explainer = ShardExplainer(self._recipe, self._cores, unpack)
        except (OtherNetworkError, GazelakeError) as error:
            return error
        return Ready(self._explainer.images_at_once, str(self._explainer.worker.model.device))

    def explain(
        self, shard: Shard, attempt: int, round_: Round, seconds: float, halvings: int
    ) -> Report | GazelakeError:
        """Explain a shard; a mistake that the user can mend is returned."""
        assert self._explainer is not None

        import ray

        def claim(contents: Sequence[str], tally: Tally) -> Sequence[bool]:
            granted: list[bool] = ray.get(self._board.claim.remote(attempt, contents, tally))
            return granted

        try:
            return self._explainer.explain(
                shard, round_, seconds, halvings, claim, lambda: attempt <= self._stopped
            )
        except GazelakeError as error:
            return error

    def stop(self, attempt: int) -> None:
        """Finish this attempt's batch and no more of it; an attempt that comes later is none of its business."""
        self._stopped = max(self._stopped, attempt)


def packed_network(model: LoadedModel) -> bytes:
    """Return a network as bytes, the code of its classes included where it is not part of an installed package."""
    from ray import cloudpickle as pickle

    own = {type(part).__module__ for part in model.module.modules()}
    by_value = [
        sys.modules[name] for name in own if name.startswith("gazelake_model_") and name in sys.modules
    ]
    for module in by_value:
        pickle.register_pickle_by_value(module)
    try:
        packed: bytes = pickle.dumps(model)
    except Exception as error:  # lambdas, handles, locks: networks hold all sorts of things
        raise ModelError(
            "The network cannot be loaded on the Ray cluster's nodes, and cannot be sent there "
            f"({str(error).partition(chr(10))[0]}): put its file and its weights where every node finds them."
        ) from error
    finally:
        for module in by_value:
            pickle.unregister_pickle_by_value(module)
    return packed


def unpacked_network(packed: bytes) -> LoadedModel:
    """Return the network that was packed."""
    from ray import cloudpickle as pickle

    model: LoadedModel = pickle.loads(packed)
    return model
