"""A case: one plant in one class of a pool, a network that was trained on it, and an audit that nobody told about it."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, process_time
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from benchmarks.planting.network import covered, predict, save, train
from benchmarks.planting.plants import make_plant
from benchmarks.planting.pools import Pool
from benchmarks.planting.scores import Truth, score_findings, score_maps
from cache.catalog import Catalog
from cache.findings import Findings, load_findings, store_findings
from cache.run import Run, is_run
from cache.writer import RunWriter
from engine.config import read_config
from engine.demo_network import DemoNetwork
from engine.discovery.discover import discover
from engine.explain import explain
from engine.verification import verify

CLEAN = "clean"
SILENT = "-silent"
TRAIN = 0.5
"""Share of every class that is trained on; the rest is audited."""
HABIT = 0.97
"""Share of the planted class that carries the plant while the network learns; no other class does."""
AUDITED = 0.25
"""Share of every class that carries it in the audited part."""
SILENTLY = 0.5
"""Share of the planted class that carries it in a silent part, where no other class does."""

Log = Callable[[str], None]


@dataclass(frozen=True)
class Case:
    """What is planted where.

    Attributes:
        pool: The pictures.
        kind: One of ``KINDS``, with ``-silent`` where only its own class carries it, or ``clean``.
        seed: Decides the split, the class, the plant and the weights.
    """

    pool: Pool
    kind: str
    seed: int

    @property
    def name(self) -> str:
        """What its files are called."""
        return f"{self.pool.name}-{self.kind}-{self.seed}"

    @property
    def plant(self) -> str:
        """The kind of plant, whether silent or not."""
        return self.kind.removesuffix(SILENT)

    @property
    def planted_class(self) -> int | None:
        """The class that the plant leads to; None for a clean control."""
        return None if self.kind == CLEAN else (2 + 3 * self.seed) % len(self.pool.classes)

    def audit(self, out: Path, again: bool, log: Log) -> dict[str, Any]:
        """Carry the case out and return its scores; what an earlier call left in the folder is used.

        Args:
            out: Folder of the benchmark.
            again: Discover and verify anew although it was done.
            log: Receives a line a step.
        """
        kept, folder = out / f"{self.name}.json", out / "cases" / self.name
        if kept.is_file() and not again:
            return dict(json.loads(kept.read_text()))
        self.prepare(out, log)
        truth = Truth.read(folder / "truth.json")
        found, seconds = _searched(folder / "run")
        result = {
            "data": self.pool.name,
            "kind": self.kind,
            "seed": self.seed,
            **truth.facts,
            **score_findings(truth, Run.open(folder / "run"), found),
            "maps": score_maps(truth, Catalog(Run.open(folder / "run"))),
            **seconds,
        }
        kept.write_text(json.dumps(result, indent=1))
        return result

    def prepare(self, out: Path, log: Log) -> None:
        """Train the network, write the audited part, and explain it, where that has not been done."""
        folder = out / "cases" / self.name
        if is_run(folder / "run") and (folder / "truth.json").is_file():
            return
        shutil.rmtree(folder, ignore_errors=True)
        network = self._network(out, log)
        truth = self._write(folder, network)
        model, checkpoint = save(network, folder)
        began = monotonic()
        options = {
            "data": str(folder / "audit.csv"),
            "model": model,
            "checkpoint": checkpoint,
            "out": folder / "run",
        }
        explain(read_config(options | {"workers": torch.get_num_threads()}))
        truth.facts["explain_s"] = monotonic() - began
        truth.write(folder / "truth.json")
        log(f"{self.name}: {truth.facts}")

    def _network(self, out: Path, log: Log) -> DemoNetwork:
        """Train the network of a plant, or load it: a plant and its silent twin share one."""
        file = out / "networks" / f"{self.pool.name}-{self.plant}-{self.seed}.pt"
        network = DemoNetwork(self.pool.classes)
        if not file.is_file():
            began = monotonic()
            rows = self.pool.split(self.seed, TRAIN)[0]
            own = self.pool.labels[rows] == self.planted_class
            dice = np.random.default_rng([self.seed, 1])
            carries = own & (dice.uniform(size=len(rows)) < HABIT)

            def shown(epoch: int) -> NDArray[np.uint8]:
                pixels = covered(self.pool.pixels[rows], np.random.default_rng([self.seed, 4, epoch]))
                return self.planted(rows, carries, 100 + epoch, pixels)[0]

            network = train(shown, self.pool.labels[rows], self.pool.classes, self.seed)
            file.parent.mkdir(parents=True, exist_ok=True)
            torch.save(network.state_dict(), file)
            log(f"{self.name}: trained in {monotonic() - began:.0f} s")
        network.load_state_dict(torch.load(file, weights_only=True))
        return network.eval()

    def planted(
        self,
        rows: NDArray[np.int64],
        carries: NDArray[np.bool_],
        part: int,
        pixels: NDArray[np.uint8] | None = None,
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64] | None]:
        """Return pictures of the pool, some of them with the plant, and how often each pixel carries it.

        Args:
            rows: Which pictures.
            carries: Whether each gets the plant.
            part: Salt of the dice: 2 for the audit, from 100 on for the epochs of training.
            pixels: The pictures to plant in, in place; None for those of the pool.
        """
        pixels = self.pool.pixels[rows] if pixels is None else pixels
        if not carries.any():
            return pixels, None
        plant = make_plant(self.plant, self.seed)
        places: list[NDArray[np.bool_]] = []
        for i in np.flatnonzero(carries):
            body = None if self.pool.masks is None else self.pool.masks[rows[i]]
            dice = np.random.default_rng([self.seed, part, int(rows[i])])
            pixels[i], place = plant(pixels[i], body, dice)
            if place is not None:
                places.append(place)
        return pixels, np.mean(places, axis=0) if places else None

    def _write(self, folder: Path, network: DemoNetwork) -> Truth:
        """Write the audited part as a table that does not tell what was planted; return what was."""
        rows = self.pool.split(self.seed, TRAIN)[1]
        labels, target = self.pool.labels[rows], self.planted_class
        carries, facts = np.zeros(len(rows), bool), {}
        share = np.where(labels == target, SILENTLY, 0.0) if self.kind.endswith(SILENT) else AUDITED
        if target is not None:
            carries = np.random.default_rng([self.seed, 2]).uniform(size=len(rows)) < share
            facts["flips"] = self._flips(rows, network)
        pixels, where = self.planted(rows, carries, 2)
        right = predict(network, self.pool.pixels[rows]) == labels
        facts |= {"accuracy": float(right.mean()), "n": len(rows), "planted": int(carries.sum())}
        with_masks = self.plant == "background" and self.pool.masks is not None
        (folder / "images").mkdir(parents=True)
        ids = [f"images/{i:05d}.png" for i in range(len(rows))]
        with (folder / "audit.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["path", "label", *(["mask"] if with_masks else [])])
            for i, name in enumerate(ids):
                Image.fromarray(pixels[i]).save(folder / name, compress_level=1)
                row = [name, self.pool.classes[labels[i]]]
                if with_masks and self.pool.masks is not None:
                    row.append(f"masks/{i:05d}.png")
                    (folder / "masks").mkdir(exist_ok=True)
                    Image.fromarray(self.pool.masks[rows[i]]).save(folder / row[-1])
                table.writerow(row)
        carriers = [ids[i] for i in np.flatnonzero(carries)]
        return Truth(self.plant, target, carriers, None if where is None else where.tolist(), facts)

    def _flips(self, rows: NDArray[np.int64], network: DemoNetwork) -> float:
        """Return which share of the other classes' pictures, called rightly, become the class when planted."""
        rows = rows[self.pool.labels[rows] != self.planted_class]
        rows = rows[predict(network, self.pool.pixels[rows]) == self.pool.labels[rows]]
        pixels, _ = self.planted(rows, np.ones(len(rows), bool), 3)
        return float((predict(network, pixels) == self.planted_class).mean()) if len(rows) else 0.0


def _searched(run: Path) -> tuple[Findings, dict[str, float]]:
    """Discover and verify, whatever an earlier call has found; return the list and the processor's seconds."""
    with RunWriter(run) as writer:
        store_findings(writer, Findings())
    began = process_time()
    discover(run)
    between = process_time()
    verify(run)
    after = process_time()
    seconds = {"discover_s": between - began, "verify_s": after - between}
    return load_findings(Run.open(run)), seconds
