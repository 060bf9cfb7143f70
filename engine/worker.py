"""A worker: holds the model, takes prepared images in batches, explains them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cache.errors import MemoryShortError, ModelError
from engine.attribution_rows import Prepared
from engine.batch_rows import Recording, Rows, batch_rows
from engine.ledger import EMBEDDINGS, Ledger
from engine.targets import TOP_STORED, Targets

if TYPE_CHECKING:
    from torch import Tensor

    from engine.attribution.activation import ActivationResult
    from engine.attribution.subjects import Maps
    from engine.families import Families
    from engine.models import LoadedModel


@dataclass(frozen=True)
class Explained:
    """What the model said and the methods found about a batch; nothing of it is measured yet.

    Attributes:
        batch: The images.
        asked: Classes explained for each, its prediction first.
        order: The best classes of each, best first.
        log_probabilities: (N, classes).
        result: What the forward pass gave.
        maps: Every method's maps, by its name.
    """

    batch: Sequence[Prepared]
    asked: list[list[int]]
    order: NDArray[np.intp]
    log_probabilities: NDArray[np.float64]
    result: ActivationResult
    maps: dict[str, Maps]

    @property
    def finite(self) -> NDArray[np.bool_]:
        """Which of the images have scores, (N,)."""
        return np.asarray(np.isfinite(self.log_probabilities).all(axis=1))


class Worker:
    """Explains batches with one model; what it returns does not depend on how images were batched."""

    def __init__(
        self, model: LoadedModel, families: Families, targets: Targets, recording: Recording, budget: int
    ) -> None:
        """Take over a model.

        Args:
            model: The loaded model.
            families: Explainers over its module.
            targets: Which classes to explain.
            recording: With which methods, and what is recorded of their maps.
            budget: Inputs that one pass through the network may hold; halved when memory runs out.
        """
        self.model = model
        self.families = families
        self.targets = targets
        self.recording = recording
        self.budget = budget

    def explain(self, batch: Sequence[Prepared], ledger: Ledger) -> list[Explained]:
        """Explain one batch; where the device has too little memory, half of it at a time from then on.

        Args:
            batch: Images, each content once.
            ledger: What the run holds already; costly methods do not compute it again.

        Raises:
            ModelError: The network fails.
            MemoryShortError: Not even one image fits.
        """
        from engine.transfers import forget_freed

        found: list[Explained] = []
        done = 0
        while done < len(batch):
            some = batch[done : done + self.budget]
            explained = self._try(some, ledger)
            if explained is not None:
                found.append(explained)
                done += len(some)
                continue
            if self.budget == 1:
                raise MemoryShortError(
                    f"One image does not fit the memory of {self.model.device}: say --device cpu or a smaller "
                    "--image-size."
                )
            # Alone in its batch, an image may still have had a full pass of masks.
            self.budget = (min(self.budget, len(some)) if len(some) > 1 else self.budget) // 2
            forget_freed(self.model.device)
        return found

    def _try(self, batch: Sequence[Prepared], ledger: Ledger) -> Explained | None:
        """Explain a batch; None where memory ran out, and what the pass held is free again."""
        try:
            return self._explain(batch, ledger)
        except (RuntimeError, MemoryError) as error:
            if _out_of_memory(error):
                return None
            reason = str(error).strip().partition("\n")[0]
            raise ModelError(
                f"The model failed on a batch of {len(batch)} images ({reason}): what was published is kept."
            ) from error

    def rows(self, explained: Explained, ledger: Ledger) -> Rows:
        """Measure what was found about a batch, and return it as rows for the cache; needs the model no more."""
        return batch_rows(explained, self.recording, ledger)

    def _explain(self, batch: Sequence[Prepared], ledger: Ledger) -> Explained:
        import torch

        x = self.model.inputs(np.stack([p.view.pixels for p in batch]))
        asked: list[list[int]] = []

        def choose(scores: Tensor) -> Tensor:
            asked[:] = self._targets(batch, ranking(scores).tolist())
            width = max(len(targets) for targets in asked)
            return torch.tensor([[*targets, *[-1] * (width - len(targets))] for targets in asked])

        cams = [request for request in self.recording.requests if request.method.family == "activation"]
        result = self.families.activation.explain(x, choose, cams)
        log_probabilities = self.model.log_probabilities(result.logits).cpu().double().numpy()
        finite = np.isfinite(log_probabilities).all(axis=1)
        maps = self._maps(x, batch, finite, result, ledger)
        return Explained(batch, asked, ranking(result.scores), log_probabilities, result, maps)

    def _targets(self, batch: Sequence[Prepared], order: list[list[int]]) -> list[list[int]]:
        """Return the classes to explain for each sample, its prediction first."""
        chosen = []
        for prepared, top in zip(batch, order, strict=True):
            wanted = self.targets.of(top, prepared.label) if prepared.targets is None else prepared.targets
            chosen.append(list(dict.fromkeys([top[0], *wanted])))
        return chosen

    def _maps(
        self,
        x: Tensor,
        batch: Sequence[Prepared],
        finite: NDArray[np.bool_],
        result: ActivationResult,
        ledger: Ledger,
    ) -> dict[str, Maps]:
        """Return every method's maps; those of costly families only where the run lacks them."""
        from engine.attribution.subjects import Maps, Subjects

        found = {name: Maps(maps) for name, maps in result.maps.items()}
        if len(found) == len(self.recording.requests):
            return found
        targets = result.targets.cpu()
        wanted = {}
        for request in self.recording.requests:
            needed = (targets >= 0).numpy() & finite[:, None]
            for i, t in np.argwhere(needed):
                needed[i, t] = not ledger.holds(request.name, batch[i].content, int(targets[i, t]))
            if request.name == self.recording.default_method:
                lacking = [not ledger.holds(EMBEDDINGS, prepared.content, -1) for prepared in batch]
                needed[:, 0] |= finite & np.array(lacking)
            wanted[request.name] = needed
        pixels = np.stack([prepared.view.pixels for prepared in batch])
        subjects = Subjects(x, pixels, targets, [prepared.content for prepared in batch], self.budget)
        return found | self.families.maps(subjects, wanted, self.recording.requests)


def _out_of_memory(error: BaseException) -> bool:
    """Tell whether a pass failed for want of memory; on a CPU the allocator says so in words alone."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return "DefaultCPUAllocator" in str(error) or "out of memory" in str(error).lower()


def ranking(scores: Tensor) -> NDArray[np.intp]:
    """Return the best classes of each row of scores, at most TOP_STORED, ties in the order of the outputs."""
    values = np.nan_to_num(scores.cpu().double().numpy(), nan=-np.inf)
    order: NDArray[np.intp] = np.argsort(-values, axis=1, kind="stable")
    return order[:, :TOP_STORED]
