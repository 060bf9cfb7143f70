"""Every benchmark, one after the other: ``make bench``."""

from __future__ import annotations

import subprocess
import sys

from benchmarks.explain import PHOTOGRAPHS

BENCHMARKS = (
    ("cams",),
    ("explain",),
    ("memory",),
    ("perturbation", "--network", "mobilenet_v3_large"),
    ("perturbation", "--network", "resnet50", "--repeats", "1"),
)
SAMPLING = ("sampling", "--data", str(PHOTOGRAPHS))
"""Needs photographs and the pretrained network's package, and the better part of an hour."""


def main() -> None:
    wanted = [*BENCHMARKS, SAMPLING] if PHOTOGRAPHS.is_dir() else list(BENCHMARKS)
    for name, *options in wanted:
        print(f"\n=== {name} {' '.join(options)}", flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options], check=True)


if __name__ == "__main__":
    main()
