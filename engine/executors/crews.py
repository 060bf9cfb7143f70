"""How many workers a cluster takes, and what each of them is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CORES_A_WORKER = 4
"""Without accelerators: more cores than these do not make one small network's passes faster."""


@dataclass(frozen=True)
class Post:
    """What one worker is given: cores, and accelerators or none."""

    cores: int
    gpus: int


def crew(nodes: Sequence[Mapping[str, float]], device: str, workers: int | None) -> list[Post]:
    """Return the posts of a cluster's workers: one an accelerator, or one for every few cores.

    Args:
        nodes: Resources of each node: CPU and GPU, both may be missing.
        device: Device that was asked for.
        workers: How many workers were asked for, at most; None for as many as there are good posts.
    """
    cpus = [int(node.get("CPU", 0)) for node in nodes]
    gpus = [int(node.get("GPU", 0)) for node in nodes]
    if device == "auto" or device.startswith("cuda"):
        posts = [Post(max(1, c // g), 1) for c, g in zip(cpus, gpus, strict=True) for _ in range(g)]
        if posts:
            return posts[:workers]
    if workers is None:
        return [
            Post(c // count, 0) for c in cpus for count in [-(-c // CORES_A_WORKER)] for _ in range(count)
        ]
    cores = max(
        (c for c in range(1, max(cpus, default=1) + 1) if sum(n // c for n in cpus) >= workers), default=1
    )
    return [Post(cores, 0)] * min(workers, sum(n // cores for n in cpus))
