"""All seven CAMs against the network's own forward pass, with pytorch-grad-cam and Captum beside them.

Contenders alternate in one run, each in turn on the same batch, and ratios are taken within a round, so that what
else the machine does touches all of them alike. The network has random weights: the arithmetic is the same.

    python -m benchmarks.cams --network resnet50 --batch 16 --repeats 7
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
import torchvision
from torch import Tensor, nn

from engine.attribution.activation import ActivationExplainer
from engine.attribution.registry import parse_methods
from engine.layers import evaluating, find_target_layer
from engine.statistics import measure

FORWARD = "forward alone"


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(task: Callable[[], object], device: torch.device) -> float:
    synchronise(device)
    start = time.perf_counter()
    task()
    synchronise(device)
    return time.perf_counter() - start


def forward(network: nn.Module, batch: Tensor) -> Tensor:
    with evaluating(network), torch.inference_mode():
        output: Tensor = network(batch)
        return output


def best_format(network: nn.Module, batch: Tensor) -> tuple[nn.Module, Tensor, str]:
    """Return network and batch in the memory format whose forward pass is the faster here."""
    taken: dict[str, float] = {}
    layouts = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
    for name, layout in layouts.items():
        laid_network, laid_batch = network.to(memory_format=layout), batch.to(memory_format=layout)
        task = partial(forward, laid_network, laid_batch)
        task()
        taken[name] = min(seconds(task, batch.device) for _ in range(3))
    best = min(taken, key=lambda name: taken[name])
    return network.to(memory_format=layouts[best]), batch.to(memory_format=layouts[best]), best


def contenders(network: nn.Module, batch: Tensor, targets: Tensor) -> dict[str, Callable[[], object]]:
    """Return what is timed, by name; the packages' own memory layout is the network's best one too."""
    layer = find_target_layer(network, batch[:1])
    explainer = ActivationExplainer(network, layer, batch[:2])
    asked = parse_methods("fast")
    methods = [request for request in asked if explainer.refusal(request.method) is None]
    refused = [request.method.title for request in asked if request not in methods]
    print(f"target layer {layer.name}, {layer.channels} × {layer.height} × {layer.width}; "
          f"{len(methods)} methods" + (f" ({', '.join(refused)} refused)" if refused else ""))  # fmt: skip
    column = targets[:, None]

    def explain_and_measure() -> None:
        result = explainer.explain(batch, column, methods)
        measure(torch.cat([maps[:, 0] for maps in result.maps.values()]))

    found: dict[str, Callable[[], object]] = {
        FORWARD: lambda: forward(network, batch),
        f"Gazelake, {len(methods)} CAMs": lambda: explainer.explain(batch, column, methods),
        f"Gazelake, {len(methods)} CAMs and statistics": explain_and_measure,
    }
    part = network.get_submodule(layer.name)
    try:
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        package = GradCAM(network, [part])
        wanted = [ClassifierOutputTarget(int(target)) for target in targets]
        found["pytorch-grad-cam, Grad-CAM"] = lambda: package(batch, wanted)
    except ImportError:
        print("pytorch-grad-cam is not installed: left out")
    try:
        from captum.attr import LayerGradCam

        captum = LayerGradCam(network.eval(), part)
        found["Captum, Grad-CAM"] = lambda: captum.attribute(batch, targets)
    except ImportError:
        print("Captum is not installed: left out")
    return found


def run(name: str, batch_size: int, size: int, repeats: int, device: torch.device) -> dict[str, float]:
    """Print medians and throughput ratios; return each contender's ratio to the forward pass alone."""
    torch.manual_seed(0)
    network = torchvision.models.get_model(name, weights=None).to(device).eval()
    batch = torch.randn(batch_size, 3, size, size, device=device)
    network, batch, layout = best_format(network, batch)
    targets = forward(network, batch).argmax(1)
    print(
        f"\n{name}, batch of {batch_size} at {size}×{size}, {layout}, {device}, {torch.get_num_threads()} threads"
    )
    tasks = contenders(network, batch, targets)
    for task in tasks.values():
        task()
    taken: dict[str, list[float]] = {name: [] for name in tasks}
    names = list(tasks)
    for turn in range(repeats):
        # The order rotates, so that nobody always follows the same neighbour.
        for contender in names[turn % len(names) :] + names[: turn % len(names)]:
            taken[contender].append(seconds(tasks[contender], device))
    ratios = {
        contender: statistics.median(f / t for f, t in zip(taken[FORWARD], times, strict=True))
        for contender, times in taken.items()
    }
    print(f"{'':<40}{'ms an image':>12}{'of forward throughput':>24}")
    for contender, times in taken.items():
        print(
            f"{contender:<40}{1e3 * statistics.median(times) / batch_size:>12.2f}{ratios[contender]:>24.3f}"
        )
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--network", nargs="*", default=["resnet50", "mobilenet_v3_large"])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    for network in asked.network:
        run(network, asked.batch, asked.size, asked.repeats, torch.device(asked.device))


if __name__ == "__main__":
    main()
