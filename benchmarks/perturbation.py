"""LIME, Kernel SHAP, RISE and occlusion against the forward passes alone that they need, with the packages beside them.

Contenders take turns. Before and after each of them the network's own forward pass is timed on batches of the same
size in its best memory format, and the ratio is the time that so many forward passes take at that moment over the time
that the contender took: what else the machine does touches both alike. The network has random weights: the arithmetic
is the same.

    python -m benchmarks.perturbation --network mobilenet_v3_large --images 2 --repeats 3
    python -m benchmarks.perturbation --network resnet18 --size 64 --passes 64 --repeats 1 --forwards 2
"""

from __future__ import annotations

import argparse
import contextlib
import io
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from benchmarks.cams import best_format, forward, seconds
from engine.allocation import keep_freed_memory
from engine.attribution.perturbation import PerturbationExplainer
from engine.attribution.registry import MethodRequest, methods
from engine.attribution.subjects import Network, Subjects
from engine.attribution.superpixels import segment

MEAN, STD = 0.45, 0.225


@dataclass(frozen=True)
class Contender:
    """What is timed, how many forward passes it needs, and how often it takes its turn."""

    name: str
    task: Callable[[], object]
    passes: int
    own: bool


def pictures(count: int, size: int, folder: Path | None) -> NDArray[np.uint8]:
    """Return photographs of a folder, or smooth random pictures with some noise, (count, size, size, 3)."""
    if folder is not None:
        files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpeg", ".jpg", ".png"))[:count]
        return np.stack([np.asarray(Image.open(p).convert("RGB").resize((size, size))) for p in files])
    generator = np.random.default_rng(0)
    found = []
    for _ in range(count):
        coarse = Image.fromarray(generator.integers(0, 256, (9, 11, 3), np.uint8)).resize((size, size), 3)
        noisy = np.asarray(coarse, np.int16) + generator.integers(-20, 20, (size, size, 3))
        found.append(np.clip(noisy, 0, 255).astype(np.uint8))
    return np.stack(found)


def normalised(pixels: NDArray[np.uint8], like: Tensor) -> Tensor:
    """Return the network's input of uint8 pictures (N, H, W, 3), in the memory format of another."""
    inputs = (torch.from_numpy(pixels.copy()).to(like.device).permute(0, 3, 1, 2).float() / 255 - MEAN) / STD
    channels_last = like.is_contiguous(memory_format=torch.channels_last)
    return inputs.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def ours(network: nn.Module, subjects: Subjects, passes: int) -> Iterator[Contender]:
    """Return Gazelake's methods on all images at once."""
    black = torch.full((3,), -MEAN / STD, device=subjects.inputs.device)
    seen = Network(network, lambda logits: logits, lambda logits: logits.float().softmax(1), black)
    explainer = PerturbationExplainer(seen, subjects.inputs[:1])
    for name, option in (
        ("lime", "samples"),
        ("kernel_shap", "samples"),
        ("rise", "masks"),
        ("occlusion", ""),
    ):
        method = methods()[name]
        request = MethodRequest(method, method.resolve({option: passes} if option else {}))
        needed = passes if option else _positions(subjects)
        # Once with few passes: libraries are imported and the superpixels' code is compiled.
        explainer.explain(subjects, [MethodRequest(method, method.resolve({option: 16} if option else {}))])
        yield Contender(
            f"Gazelake, {method.title}",
            lambda request=request: explainer.explain(subjects, [request]),  # type: ignore[misc]
            needed * len(subjects),
            True,
        )


def _positions(subjects: Subjects) -> int:
    from engine.attribution.occlusions import occlusion_boxes

    height, width = subjects.inputs.shape[2:]
    return len(occlusion_boxes(height, width, 0, 0)) + 1


def packages(network: nn.Module, subjects: Subjects, passes: int, batch: int) -> Iterator[Contender]:
    """Return the packages' methods on the first image, with the same superpixels, batch size and memory format."""
    pixels, target = subjects.pixels[0], int(subjects.targets[0, 0])

    def classify(images: NDArray[np.float64]) -> NDArray[np.float32]:
        logits = forward(network, normalised(np.asarray(images).astype(np.uint8), subjects.inputs))
        found: NDArray[np.float32] = logits.softmax(1).cpu().numpy()
        return found

    try:
        from lime.lime_image import LimeImageExplainer

        def lime() -> None:
            with contextlib.redirect_stderr(io.StringIO()):
                LimeImageExplainer(random_state=0).explain_instance(
                    pixels, classify, top_labels=1, num_samples=passes, batch_size=batch, random_seed=0,
                    segmentation_fn=lambda image: segment(image, "slic", 50),
                )  # fmt: skip

        yield Contender("lime, LIME", lime, passes, False)
    except ImportError:
        print("lime is not installed: left out")
    try:
        import shap

        masker = shap.maskers.Image(np.full(pixels.shape, 128, np.uint8), pixels.shape)
        partition = shap.PartitionExplainer(classify, masker)

        def shares() -> None:
            partition(pixels[None], max_evals=passes, batch_size=batch, outputs=[target], silent=True)

        yield Contender("shap, partition explainer", shares, passes, False)
    except ImportError:
        print("shap is not installed: left out")
    try:
        from captum.attr import Occlusion

        captum = Occlusion(network.eval())
        window = max(round(pixels.shape[0] / 7), 1)

        def occlude() -> None:
            with torch.no_grad():
                captum.attribute(
                    subjects.inputs[:1], (3, window, window), (3, window // 2, window // 2),
                    target=target, perturbations_per_eval=batch,
                )  # fmt: skip

        yield Contender("Captum, Occlusion", occlude, _positions(subjects), False)
    except ImportError:
        print("Captum is not installed: left out")


def run(name: str, asked: argparse.Namespace) -> dict[str, float]:
    """Print medians and throughput ratios; return each contender's ratio to the forward passes alone."""
    torch.manual_seed(0)
    device = torch.device(asked.device)
    network = torchvision.models.get_model(name, weights=None).to(device).eval()
    pixels = pictures(asked.images, asked.size, asked.data)
    batch = torch.randn(asked.batch, 3, asked.size, asked.size, device=device)
    network, batch, layout = best_format(network, batch)
    inputs = normalised(pixels, batch)
    targets = forward(network, inputs).argmax(1)[:, None].cpu()
    subjects = Subjects(inputs, pixels, targets, [str(i) for i in range(len(pixels))], asked.batch)
    print(
        f"\n{name}, batches of {asked.batch} at {asked.size}×{asked.size}, {layout}, {device}, "
        f"{torch.get_num_threads()} threads, {len(pixels)} images, {asked.passes} passes each"
    )
    contenders = [*ours(network, subjects, asked.passes)]
    if not asked.without_packages:
        contenders += packages(network, subjects, asked.passes, asked.batch)

    def alone() -> float:
        def several() -> None:
            for _ in range(asked.forwards):
                forward(network, batch)

        return seconds(several, device) / (asked.forwards * asked.batch)

    alone()
    found: dict[str, list[tuple[float, float]]] = {c.name: [] for c in contenders}
    for turn in range(asked.repeats):
        for contender in contenders[turn % len(contenders) :] + contenders[: turn % len(contenders)]:
            if turn and not contender.own:
                continue  # the packages take long, and once is enough to see where they stand
            before = alone()
            taken = seconds(contender.task, device)
            expected = contender.passes * (before + alone()) / 2
            found[contender.name].append((1e3 * taken / contender.passes, expected / taken))
    print(f"{'':<32}{'ms a pass':>12}{'of forward throughput':>24}")
    ratios = {}
    for contender in contenders:
        times, shares = zip(*found[contender.name], strict=True)
        ratios[contender.name] = statistics.median(shares)
        print(
            f"{contender.name:<32}{statistics.median(times):>12.2f}{ratios[contender.name]:>24.3f}",
            flush=True,
        )
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--network", nargs="*", default=["resnet50", "mobilenet_v3_large"])
    parser.add_argument("--data", type=Path, help="folder of photographs; smooth random pictures without it")
    parser.add_argument("--images", type=int, default=1)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--passes", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--forwards", type=int, default=6, help="batches of the forward pass timed at a time")
    parser.add_argument("--without-packages", action="store_true")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    keep_freed_memory()
    for network in asked.network:
        run(network, asked)


if __name__ == "__main__":
    main()
