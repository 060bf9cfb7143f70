"""How many passes LIME and Kernel SHAP take: rank correlation with a converged reference against the number of passes.

On each photograph one function is explained: the probability of the predicted class, given which superpixels are
shown. The reference of a method is the mean of the package's and Gazelake's estimates at many passes. Draws of LIME
at fewer passes are stretches of those of the reference, each judged by a reference without it; those of Kernel SHAP are
fresh. Everything runs through the engine, one photograph after the other, and the curve so far is printed
after each. With ``--cache`` every pass is kept, so that a run that was stopped goes on where it was, and another
design of draws only costs its own passes.

    python -m benchmarks.sampling --data ../shared/data/imagenet-sample --cache FOLDER
    python -m benchmarks.sampling --data FOLDER --images 1 --reference 200 --passes 40 80 --size 64
"""

from __future__ import annotations

import argparse
import hashlib
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from engine.allocation import keep_freed_memory
from engine.attribution.designs import BLOCK, importance
from engine.attribution.fills import fill_of
from engine.attribution.masking import Job, Layout, MaskedForward
from engine.attribution.subjects import Subjects
from engine.attribution.superpixel_methods import SuperpixelMasks
from engine.attribution.superpixels import segment
from engine.attribution.surrogates import lime_fit, lime_states, shap_coalitions, shap_fit
from engine.families import network_of
from engine.models import load_model

MODEL = "examples/imagenet_sample/efficientnet_lite0.py:efficientnet_lite0"
STRETCHES = 8
"""Stretches of a reference of LIME that are judged at each number of passes, at most."""
KEPT_AT_ONCE = 1000
"""Passes that are run before they are written to the cache."""

Floats = NDArray[np.float64]
Estimated = tuple[str, int, Floats, Floats | None]
"""Estimator, passes, weights, and what stands in for the estimator's part of the reference when these are judged."""
Curves = dict[tuple[str, str, int], list[float]]


class Memory:
    """The scores of passes that were run before, in files of a folder; in memory only without one."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._scores: dict[bytes, float] = {}
        self._files = 0
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            for file in sorted(folder.glob("*.npz")):
                with np.load(file) as kept:
                    self._scores |= zip(map(bytes, kept["states"]), kept["scores"].tolist(), strict=True)
                self._files += 1

    def missing(self, packed: NDArray[np.uint8]) -> NDArray[np.intp]:
        """Return the rows of packed states whose scores are not known, of equal ones the first."""
        new = {row: at for at, row in reversed([*enumerate(map(bytes, packed))]) if row not in self._scores}
        return np.array(sorted(new.values()), np.intp)

    def keep(self, packed: NDArray[np.uint8], scores: Floats) -> None:
        """Remember the scores of packed states."""
        self._scores |= zip(map(bytes, packed), scores.tolist(), strict=True)
        if self._folder is not None:
            np.savez(self._folder / f"{self._files:05d}.npz", states=packed, scores=scores)
            self._files += 1

    def recall(self, packed: NDArray[np.uint8]) -> Floats:
        """Return the scores of packed states, all of them known."""
        return np.array([self._scores[row] for row in map(bytes, packed)])


class Game:
    """The probability of an image's predicted class as a function of the superpixels that are shown."""

    def __init__(self, asked: argparse.Namespace, file: Path) -> None:
        model = load_model(asked.model, image_size=asked.size)
        pixels = model.preprocessing.view(Image.open(file).convert("RGB")).pixels
        inputs = model.preprocessing.normalise(pixels[None], model.device)
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        self.network = network_of(model)
        with torch.no_grad():
            target = self.network.scores(model.module(inputs)).argmax(1, keepdim=True)
        self.subjects = Subjects(inputs, pixels[None], target, [str(file)], asked.batch)
        self.labels = segment(pixels, "slic", asked.segments)
        self.importance = importance(pixels, self.labels)
        self.superpixels = len(self.importance)
        numbers = torch.from_numpy(self.labels.astype(np.int64))
        hidden = fill_of("mean", inputs[0], self.network.black, np.random.default_rng(0), numbers)
        self._layout = Layout.of(inputs)
        self._fill = self._layout.laid(hidden)
        self._difference = self._layout.laid(inputs[0]) - self._fill
        self._labels = self._layout.laid(numbers[None].int()).contiguous()
        # What a score depends on besides the state: the network, the view, the superpixels.
        key = hashlib.sha256(
            f"{asked.model} {pixels.shape}".encode() + pixels.tobytes() + self.labels.tobytes()
        )
        folder = asked.cache / f"{file.stem}-{key.hexdigest()[:12]}" if asked.cache else None
        self._memory = Memory(folder)
        self.passes = 0

    def __call__(self, states: NDArray[Any]) -> Floats:
        """Return the probability for each row of states (passes, superpixels), as a column."""
        shown = np.asarray(states).astype(bool)
        packed = np.packbits(shown, axis=1)
        new = self._memory.missing(packed)
        for rows in np.split(new, range(KEPT_AT_ONCE, len(new), KEPT_AT_ONCE)) if len(new) else []:
            self._memory.keep(packed[rows], self._run(shown[rows]))
        return self._memory.recall(packed)[:, None]

    def _run(self, shown: NDArray[np.bool_]) -> Floats:
        masks = SuperpixelMasks(
            torch.from_numpy(shown), self._labels, self._fill, self._difference, self._layout
        )
        (job,) = MaskedForward(self.network, self.subjects).run([Job(0, masks, "probability")])
        self.passes += len(shown)
        return job.scores[:, 0].numpy().astype(np.float64)


def draws(asked: argparse.Namespace) -> list[tuple[int, int]]:
    """Return numbers of passes and which draw of that number it is, the reference's first."""
    return [(asked.reference, 0), *product(asked.passes, range(asked.repeats))]


def lime_estimates(game: Game, asked: argparse.Namespace, seed: int) -> Iterator[Estimated]:
    """Return the estimates of LIME; those of the most passes first."""
    drawn = {
        "lime package": np.random.RandomState(seed).randint(0, 2, (asked.reference, game.superpixels)),
        "Gazelake": lime_states(
            game.superpixels, asked.reference, "paired", np.random.default_rng(seed), game.importance
        ),
    }
    for name, rows in drawn.items():
        states = rows.astype(bool)
        states[0] = True
        scores = game(states)
        yield name, asked.reference, lime_fit(states, scores, 0.25).weights[0], None
        for passes in asked.passes:
            # Pairs are laid out in blocks, of which the first rows are what fewer passes would have drawn.
            step = 2 * BLOCK if name == "Gazelake" else passes - 1
            for start in range(1, asked.reference - passes + 2, step)[:STRETCHES]:
                stretch = np.r_[0, start : start + passes - 1]
                rest = np.delete(np.arange(asked.reference), stretch[1:])
                others = lime_fit(states[rest], scores[rest], 0.25).weights[0] if len(rest) > 1 else None
                yield name, passes, lime_fit(states[stretch], scores[stretch], 0.25).weights[0], others


def shap_estimates(game: Game, asked: argparse.Namespace, seed: int) -> Iterator[Estimated]:
    """Return the estimates of Kernel SHAP; those of the most passes first."""
    import shap

    explainer = shap.KernelExplainer(lambda states: game(states)[:, 0], np.zeros((1, game.superpixels)))
    whole = np.ones((1, game.superpixels))
    for passes, repeat in draws(asked):
        np.random.seed([seed, passes, repeat])
        # Its passes do not count the two with everything shown and hidden; by default it would keep 10 values only.
        values = explainer.shap_values(whole, nsamples=passes - 2, l1_reg=0, silent=True)
        yield "shap package", passes, np.asarray(values).ravel(), None
        coalitions = shap_coalitions(game.superpixels, passes, np.random.default_rng([seed, passes, repeat]))
        yield "Gazelake", passes, shap_fit(coalitions, game(coalitions.states)).weights[0], None


def judge(method: str, estimates: Iterator[Estimated], reference: int, curves: Curves) -> dict[str, float]:
    """Add the rank correlations of the estimates to the curves; return how far the two references agree."""
    from scipy.stats import spearmanr

    converged: dict[str, Floats] = {}
    few = []
    for name, passes, weights, rest in estimates:
        if passes == reference:
            converged[name] = weights
        else:
            few.append((name, passes, weights, rest))
    correlations: dict[tuple[str, int], list[float]] = defaultdict(list)
    for name, passes, weights, rest in few:
        parts = converged if rest is None else {**converged, name: rest}
        found = spearmanr(weights, np.mean(list(parts.values()), axis=0))[0]
        correlations[name, passes].append(float(found))
    for (name, passes), values in correlations.items():
        curves[method, name, passes].append(float(np.mean(values)))
    return {method: float(spearmanr(*converged.values())[0])}


def explain(game: Game, asked: argparse.Namespace, seed: int, curves: Curves) -> dict[str, float]:
    """Add the curves of one photograph; return how far the two references of each method agree."""
    agreement: dict[str, float] = {}
    if "lime" in asked.methods:
        agreement |= judge("LIME", lime_estimates(game, asked, seed), asked.reference, curves)
    if "kernel_shap" in asked.methods:
        agreement |= judge("Kernel SHAP", shap_estimates(game, asked, seed), asked.reference, curves)
    return agreement


def table(curves: Curves, passes: Sequence[int]) -> None:
    """Print the mean over the photographs so far, with its standard error."""
    print(f"\n| method | estimator | {' | '.join(f'{n:,} passes' for n in passes)} |")
    print("|" + "---|" * (len(passes) + 2))
    for method, name in dict.fromkeys((method, name) for method, name, _ in curves):
        cells = []
        for n in passes:
            values = curves[method, name, n]
            cells.append(f"{np.mean(values):.3f} ± {np.std(values) / max(len(values) - 1, 1) ** 0.5:.3f}")
        print(f"| {method} | {name} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="folder of photographs")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--segments", type=int, default=50)
    parser.add_argument(
        "--reference", type=int, default=8000, help="passes of each estimator of the reference"
    )
    parser.add_argument(
        "--methods", nargs="*", choices=("lime", "kernel_shap"), default=["lime", "kernel_shap"]
    )
    parser.add_argument("--passes", type=int, nargs="*", default=[100, 200, 400, 1000])
    parser.add_argument(
        "--repeats", type=int, default=3, help="fresh draws of Kernel SHAP at each number of passes"
    )
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--cache", type=Path, help="folder in which every pass is kept")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    keep_freed_memory()
    files = sorted(p for p in asked.data.rglob("*") if p.suffix.lower() in (".jpeg", ".jpg", ".png"))
    # Spread over the folder: neighbours are of neighbouring classes.
    chosen = [files[i] for i in np.linspace(0, len(files) - 1, asked.images).astype(int)]
    start = time.perf_counter()
    curves: Curves = defaultdict(list)
    for seed, file in enumerate(chosen):
        game = Game(asked, file)
        agreement = explain(game, asked, seed, curves)
        agreed = ", ".join(f"{method} {value:.3f}" for method, value in agreement.items())
        print(f"\n{file.name}: {game.superpixels} superpixels, {game.passes:,} passes run, "
              f"{time.perf_counter() - start:.0f} s; the two references agree: {agreed}")  # fmt: skip
        table(curves, asked.passes)


if __name__ == "__main__":
    main()
