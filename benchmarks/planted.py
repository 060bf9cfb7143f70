"""Planted shortcuts: is what was planted found at rank 1, proven, and is nothing found where nothing was planted?

One known shortcut is planted in one class of a folder of classes, a small network is trained on it, and a part in which the
plant is also on other classes (in a silent part on its own class alone) is explained, searched and verified through the
public functions. Resumes: each case leaves a JSON file in the folder. Beside it, the clustering of the maps alone (SpRAy).

    python -m benchmarks.planted --data demo --kinds tag tint clean --seeds 0 1 --out DIR
    python -m benchmarks.planted --data FOLDER --out DIR --report
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.planting.plants import KINDS, LOCAL

SILENT = ("tag-silent", "sticker-silent")
ALL = (*KINDS, *SILENT, "clean")
LEARNED = 0.5
"""Plants that make fewer of the other classes' pictures the class were not learned, and are listed apart."""


def kinds_for(data: str, asked: list[str] | None) -> list[str]:
    """Return the kinds to plant: a background only where objects are known."""
    return [kind for kind in asked or ALL if data == "demo" or kind != "background"]


def report(results: list[dict[str, Any]]) -> str:
    """Return the table of all results in Markdown, a row a kind and image set."""
    lines = [
        "| images | plant | seeds | flips | rank 1 | shortcut | precision | recall | other shortcuts | maps alone: rank 1, precision, recall | discover + verify |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    missed = [r for r in results if r.get("flips", 1.0) < LEARNED]
    learned = [r for r in results if r not in missed and r["kind"] != "clean"]
    for data, kind in sorted({(r["data"], r["kind"]) for r in learned}, key=_order):
        lines.append(_row(data, kind, [r for r in learned if (r["data"], r["kind"]) == (data, kind)]))
    for data in sorted({r["data"] for r in results}):
        clean = [r for r in results if r["data"] == data and r["kind"] == "clean"]
        if clean:
            wrong = [title for r in clean for title in r["false_shortcuts"]]
            lines.append(
                f"\n{data}: {len(clean)} clean controls, {len(wrong)} shortcut verdicts on them"
                + (": " + "; ".join(wrong) if wrong else "")
                + f"; accuracy {mean(r['accuracy'] for r in clean):.2f}; {_seconds(clean)}."
            )
    if missed:
        names = ", ".join(f"{r['data']} {r['kind']} seed {r['seed']} ({r['flips']:.2f})" for r in missed)
        lines.append(f"\nNot learned by the network (share of flips): {names}.")
    return "\n".join(lines)


def _order(pair: tuple[str, str]) -> tuple[str, int]:
    return pair[0], ALL.index(pair[1])


def _row(data: str, kind: str, rows: list[dict[str, Any]]) -> str:
    first, proven = (
        sum(r["rank"] == 1 for r in rows),
        [r["rank"] == 1 and r["verdict"] == "shortcut" for r in rows],
    )
    maps = [r["maps"] for r in rows]
    cells = [
        data,
        kind,
        str(len(rows)),
        _each([r["flips"] for r in rows]),
        f"{first} of {len(rows)}",
        f"{sum(proven)} of {len(rows)}",
        _each([r["precision"] for r in rows]),
        _each([r["recall"] for r in rows]),
        str(sum(len(r["false_shortcuts"]) for r in rows)),
        f"{sum(m['rank'] for m in maps)} of {len(rows)}, {_each([m['precision'] for m in maps])}, {_each([m['recall'] for m in maps])}",
        _seconds(rows),
    ]
    return f"| {' | '.join(cells)} |"


def _each(values: list[float | None]) -> str:
    return " · ".join("–" if value is None else f"{value:.2f}" for value in values)


def _seconds(rows: list[dict[str, Any]]) -> str:
    return f"{mean(r['discover_s'] for r in rows):.0f} + {mean(r['verify_s'] for r in rows):.0f} s"


def reached(results: list[dict[str, Any]]) -> list[str]:
    """Return what misses a bar, a line each."""
    missed = []
    for r in results:
        name = f"{r['data']} {r['kind']} {r['seed']}"
        if r["false_shortcuts"]:
            missed.append(f"{name}: a shortcut that is none: {'; '.join(r['false_shortcuts'])}")
        if r["kind"] == "clean" or r["flips"] < LEARNED:
            continue
        if r["rank"] != 1 or r["verdict"] != "shortcut":
            missed.append(f"{name}: rank {r['rank']}, first is {r['title']!r}: {r['verdict']}")
        if r["kind"].removesuffix("-silent") in LOCAL and (r["precision"] or 0) < 0.9:
            missed.append(f"{name}: precision {_each([r['precision']])}")
        if (r["recall"] or 0) < 0.6:
            missed.append(f"{name}: recall {_each([r['recall']])}")
    return missed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", default="demo", help="a folder of classes, demo, demo-pale or digits")
    parser.add_argument("--kinds", nargs="*", choices=ALL)
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--again", action="store_true", help="discover and verify anew on the runs that are there"
    )
    parser.add_argument(
        "--prepare", action="store_true", help="train and explain only; the next call goes on"
    )
    parser.add_argument("--report", action="store_true", help="print the table of what is there, and stop")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    asked = parser.parse_args()
    if not asked.report:
        _carry_out(asked)
    results = [json.loads(file.read_text()) for file in sorted(asked.out.glob("*.json"))]
    print(report(results))
    for line in reached(results):
        print(f"- {line}")


def _carry_out(asked: argparse.Namespace) -> None:
    os.environ.setdefault("OMP_NUM_THREADS", str(asked.threads))
    import torch

    from benchmarks.planting.cases import Case
    from benchmarks.planting.pools import open_pool

    torch.set_num_threads(asked.threads)
    pool = open_pool(asked.data, asked.out / "pools")

    def log(line: str) -> None:
        print(line, flush=True)

    for seed in asked.seeds:
        for kind in kinds_for(asked.data, asked.kinds):
            if asked.prepare:
                Case(pool, kind, seed).prepare(asked.out.resolve(), log)
                continue
            result = Case(pool, kind, seed).audit(asked.out.resolve(), asked.again, log)
            shown = (
                "rank",
                "verdict",
                "precision",
                "recall",
                "title",
                "false_shortcuts",
                "discover_s",
                "verify_s",
            )
            log(f"{pool.name} {kind} {seed}: " + ", ".join(f"{k} {result[k]}" for k in shown))


if __name__ == "__main__":
    main()
