"""Every benchmark, one after the other: ``make bench``."""

from __future__ import annotations

import subprocess
import sys

BENCHMARKS = ("cams", "explain", "memory")


def main() -> None:
    for name in BENCHMARKS:
        print(f"\n=== {name}", flush=True)
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *sys.argv[1:]], check=True)


if __name__ == "__main__":
    main()
