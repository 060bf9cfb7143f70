"""Resident memory of `explain` over the size of the dataset: it must not grow with it.

Each size runs in a process of its own, on as many different small images; the peak is what the system saw.

    python -m benchmarks.memory --images 1000 50000
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from engine.images import encode_raw

SIDE = 32


def write_images(folder: Path, count: int) -> None:
    """Write so many different small images, a thousand a folder."""
    generator = np.random.default_rng(0)
    for start in range(0, count, 1000):
        part = folder / f"{start // 1000:04d}"
        part.mkdir(parents=True)
        for i in range(start, min(start + 1000, count)):
            (part / f"{i:06d}.ppm").write_bytes(
                encode_raw(generator.integers(0, 256, (SIDE, SIDE, 3), np.uint8))
            )


def explain_here(data: str, out: str) -> None:
    """Explain in this process and print its peak of resident memory in MB."""
    from engine.config import read_config
    from engine.explain import explain

    options = {
        "data": data,
        "model": "benchmarks.memory:network",
        "out": out,
        "unlabelled": True,
        "image_size": SIDE,
    }
    summary = explain(read_config({**options, "mean": "0.5", "std": "0.25", "device": "cpu"}))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{summary.samples} {summary.seconds:.1f} {peak:.1f}")


def network() -> object:
    """Return a small convolutional network."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2), nn.ReLU(), nn.Conv2d(16, 64, 3, stride=2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--images", nargs="*", type=int, default=[1_000, 50_000])
    parser.add_argument("--inside", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.inside:
        explain_here(*asked.inside)
        return
    first = None
    for count in asked.images:
        with tempfile.TemporaryDirectory() as folder:
            write_images(Path(folder) / "images", count)
            command = [
                sys.executable,
                "-m",
                "benchmarks.memory",
                "--inside",
                f"{folder}/images",
                f"{folder}/run",
            ]
            said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        samples, seconds, peak = int(said[0]), float(said[1]), float(said[2])
        first = peak if first is None else first
        rate = f"{1e3 * seconds / samples:.2f} ms an image"
        print(f"{samples:>8,} images: peak {peak:,.1f} MB, {peak - first:+,.1f} MB, {rate}", flush=True)


if __name__ == "__main__":
    main()
