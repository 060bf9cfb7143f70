"""`explain` with the CAM family, from files to published cache, against its steps measured apart.

On a CPU the steps share the cores, so the limit is 1 / (decode + thumbnail + CAMs); on an accelerator it is the
slowest of them. Steps and whole alternate in one run, and ratios are taken within a round.

    python -m benchmarks.explain --network resnet50 --images 640 --rounds 5
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter

from engine.config import read_config
from engine.datasets import open_dataset
from engine.explain import execute
from engine.images import decode, thumbnail
from engine.plan import Plan, make_plan
from engine.progress import Silent

PHOTOGRAPHS = Path(__file__).parents[2] / "shared" / "data" / "imagenet-sample"


def write_photographs(folder: Path, count: int) -> str:
    """Write so many different JPEG files of photographs, or of blurred noise where there are no photographs."""
    originals = sorted(PHOTOGRAPHS.glob("*.JPEG"))
    generator = np.random.default_rng(0)
    folder = folder / "images" / "any"
    folder.mkdir(parents=True)
    for i in range(count):
        path = folder / f"{i:05d}.jpg"
        if originals:
            # A comment makes the bytes of a repeated photograph its own.
            data = originals[i % len(originals)].read_bytes()
            comment = b"%08d" % i
            path.write_bytes(
                data[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + data[2:]
            )
        else:
            noise = Image.fromarray(generator.integers(0, 256, (375, 500, 3), np.uint8))
            noise.filter(ImageFilter.GaussianBlur(2)).save(path, quality=92)
    print("photographs of imagenet-sample" if originals else "blurred noise: no photographs are there")
    return str(folder.parent)


def plan_for(data: str, network: str, out: Path, device: str) -> Plan:
    options = {
        "data": data,
        "model": f"torchvision:{network}",
        "out": out,
        "unlabelled": True,
        "device": device,
    }
    return make_plan(read_config(options), open_dataset(data, unlabelled=True), Silent())


def measure_round(plan: Plan, out: Path, threads: int) -> dict[str, float]:
    """Return the seconds an image of each step, and of the whole."""
    dataset, count = plan.records.dataset, len(plan.records)
    taken = {}
    with ThreadPoolExecutor(threads) as pool:
        start = time.perf_counter()
        views = list(pool.map(lambda i: plan.model.preprocessing.view(decode(dataset.read(i))), range(count)))
        taken["decode"] = time.perf_counter() - start
        start = time.perf_counter()
        list(pool.map(lambda view: thumbnail(view.pixels), views))
        taken["thumbnail"] = time.perf_counter() - start
    start = time.perf_counter()
    for first in range(0, count, plan.batch_size):
        pixels = np.stack([view.pixels for view in views[first : first + plan.batch_size]])
        x = plan.model.preprocessing.normalise(pixels, plan.model.device)
        plan.families.activation.explain(x, lambda scores: scores.argmax(1)[:, None], plan.requests)
    if plan.model.device.type == "cuda":
        torch.cuda.synchronize()
    taken["CAMs"] = time.perf_counter() - start
    del views
    plan.config = plan.config.model_copy(update={"out": out})
    plan.manifest.parts, plan.manifest.generation, plan.manifest.retired = {}, 0, []
    start = time.perf_counter()
    execute(plan, Silent())
    taken["explain"] = time.perf_counter() - start
    return {step: seconds / count for step, seconds in taken.items()}


def run(network: str, images: int, rounds: int, device: str) -> float:
    """Print the medians of the steps and of the whole; return the ratio of the whole to the limit."""
    with tempfile.TemporaryDirectory() as folder:
        data = write_photographs(Path(folder), images)
        plan = plan_for(data, network, Path(folder) / "plan", device)
        threads = os.cpu_count() or 1
        taken = []
        for number in range(rounds + 1):
            measured = measure_round(plan, Path(folder) / f"run{number}", threads)
            if number:  # the first round warms up
                taken.append(measured)
    accelerated = plan.model.device.type != "cpu"
    steps = ("decode", "thumbnail", "CAMs")
    limits = [max(t[s] for s in steps) if accelerated else sum(t[s] for s in steps) for t in taken]
    ratio = statistics.median(limit / t["explain"] for limit, t in zip(limits, taken, strict=True))
    print(
        f"\n{network}, {images} images, batches of {plan.batch_size}, {len(plan.requests)} methods, {plan.model.device}"
    )
    for step in (*steps, "explain"):
        print(f"  {step:<12}{1e3 * statistics.median(t[step] for t in taken):>10.2f} ms an image")
    words = "the slowest step" if accelerated else "1 / (decode + thumbnail + CAMs)"
    print(f"  explain at {ratio:.3f} of {words}")
    return ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--network", nargs="*", default=["resnet50", "mobilenet_v3_large"])
    parser.add_argument("--images", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    asked = parser.parse_args()
    for network in asked.network:
        run(network, asked.images, asked.rounds, asked.device)


if __name__ == "__main__":
    main()
