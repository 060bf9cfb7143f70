"""Ray workers against the local executor on the same cores: images a second, and what one more shard costs.

Both explain the same photographs into runs of their own, alternately. What is timed begins when workers are there and
have explained a few images: starting processes and loading PyTorch is paid once an audit.

    python -m benchmarks.executors --images 512 --rounds 4
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

import torch

import engine.executors.ray as distributed
from benchmarks.explain import write_photographs
from cache.writer import RunWriter
from engine.config import read_config
from engine.datasets import open_dataset
from engine.executors.local import LocalExecutor
from engine.executors.ray import RayExecutor
from engine.ledger import Ledger
from engine.plan import Plan, make_plan
from engine.progress import Silent
from engine.worker import Worker

WARM = 64
"""Images that are explained before the clock starts."""


def plan_for(data: str, network: str, out: Path, workers: int | None) -> Plan:
    options = {
        "data": data,
        "model": f"torchvision:{network}",
        "out": out,
        "unlabelled": True,
        "device": "cpu",
        "executor": "ray" if workers else "local",
        "workers": workers or os.cpu_count(),
    }
    return make_plan(read_config(options), open_dataset(data, unlabelled=True), Silent())


def timed(plan: Plan) -> tuple[float, int]:
    """Return the seconds from the first image after warming up to the last publication, and the shards it took."""
    shutil.rmtree(plan.config.out, ignore_errors=True)
    plan.manifest.parts, plan.manifest.generation, plan.manifest.retired = {}, 0, []
    with RunWriter(plan.config.out, plan.manifest) as writer:
        writer.save()
        if plan.config.executor == "ray":
            with RayExecutor(plan, writer, Silent(), stop=lambda: False, absent={}) as executor:
                return explain(executor, plan, writer)
        worker = Worker(plan.model, plan.families, plan.targets, plan.recording, plan.batch_size)
        local = LocalExecutor(
            plan.records,
            worker,
            writer,
            Silent(),
            batch_size=plan.images_at_once,
            threads=plan.config.workers or 1,
            publish_every=plan.config.publish_every,
            stop=lambda: False,
            absent={},
        )
        return explain(local, plan, writer)


def explain(executor: LocalExecutor | RayExecutor, plan: Plan, writer: RunWriter) -> tuple[float, int]:
    def run(indices: range) -> None:
        executor.run(indices, Ledger.read(writer.storage, writer.manifest, plan.keys), {})

    run(range(WARM))
    shards = getattr(executor, "attempts", 0)
    start = time.perf_counter()
    run(range(WARM, len(plan.records)))
    return time.perf_counter() - start, getattr(executor, "attempts", 0) - shards


def compare(network: str, images: int, rounds: int, workers: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = write_photographs(Path(folder), images + WARM)
        plans = {
            "local": plan_for(data, network, Path(folder) / "local", None),
            "ray": plan_for(data, network, Path(folder) / "ray", workers),
        }
        taken: dict[str, list[float]] = {name: [] for name in plans}
        for turn in range(rounds):
            for name in list(plans) if turn % 2 else [*reversed(plans)]:
                taken[name].append(timed(plans[name])[0])
    ratio = statistics.median(a / b for a, b in zip(taken["local"], taken["ray"], strict=True))
    print(
        f"\n{network}, {images} images, {torch.get_num_threads()} threads against {workers} workers of one core"
    )
    for name, times in taken.items():
        print(f"  {name:<8}{images / statistics.median(times):>8.1f} images/s")
    print(f"  ray at {ratio:.3f} of local")


def overhead(network: str, images: int, rounds: int) -> None:
    """Print what one more shard costs: the same images on one worker, in large shards and in small ones."""
    largest = distributed.LARGEST_SHARD
    costs = []
    with tempfile.TemporaryDirectory() as folder:
        data = write_photographs(Path(folder), images + WARM)
        plan = plan_for(data, network, Path(folder) / "run", 1)
        for _ in range(rounds):
            few = timed(plan)
            distributed.LARGEST_SHARD = 1  # one batch
            many = timed(plan)
            distributed.LARGEST_SHARD = largest
            costs.append((many[0] - few[0]) / (many[1] - few[1]))
    print(
        f"\n{network}: {1e3 * statistics.median(costs):.1f} ms for one more shard ({many[1]} against {few[1]} shards)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--network", default="mobilenet_v3_large")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    compare(asked.network, asked.images, asked.rounds, asked.workers)
    overhead(asked.network, asked.images // 2, asked.rounds)


if __name__ == "__main__":
    main()
