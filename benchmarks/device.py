"""One device from end to end: ResNet-50 with the seven CAMs and with LIME, against its forward pass and the packages.

The same rows for a GPU and for a CPU, images a second, medians of rounds in which all of them take turns. On a GPU the
defaults are the sizes that are to be reported; a CPU wants fewer (`--images 32 --passes 200 --rounds 2`).

    python -m benchmarks.device --network resnet50 --images 512 --passes 1000
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.cams import forward, seconds
from benchmarks.explain import write_photographs
from engine.attribution.registry import MethodRequest, methods, parse_methods
from engine.attribution.subjects import Subjects
from engine.config import read_config
from engine.datasets import open_dataset
from engine.explain import execute
from engine.images import decode
from engine.plan import Plan, make_plan
from engine.progress import Silent
from engine.statistics import measure

PACKAGE_IMAGES = 1
"""Images that the LIME package explains a round: it takes one at a time, and minutes on a CPU."""


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    words = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    return f"{words[0] if words else device.type}, {torch.get_num_threads()} threads"


def plan_for(data: str, out: Path, asked: argparse.Namespace) -> Plan:
    options = {
        "data": data,
        "model": f"torchvision:{asked.network}",
        "out": out,
        "unlabelled": True,
        "device": asked.device,
        "precision": asked.precision,
    }
    return make_plan(read_config(options), open_dataset(data, unlabelled=True), Silent())


def end_to_end(plan: Plan, out: Path) -> None:
    plan.config = plan.config.model_copy(update={"out": out})
    plan.manifest.parts, plan.manifest.generation, plan.manifest.retired = {}, 0, []
    execute(plan, Silent())


def packages(
    plan: Plan, batch: Tensor, targets: Tensor, pixels: Any, passes: int
) -> dict[str, tuple[int, Callable[[], object]]]:
    """Return what the packages do with the same network, by name: images, and the work."""
    found: dict[str, tuple[int, Callable[[], object]]] = {}
    module, layer = plan.model.module, plan.families.layer
    assert layer is not None
    part = module.get_submodule(layer.name)
    try:
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        cam, wanted = GradCAM(module, [part]), [ClassifierOutputTarget(int(target)) for target in targets]
        found["pytorch-grad-cam, Grad-CAM"] = len(batch), lambda: cam(batch, wanted)
    except ImportError:
        print("pytorch-grad-cam is not installed: left out")
    try:
        from captum.attr import LayerGradCam

        captum = LayerGradCam(module, part)
        found["Captum, Grad-CAM"] = len(batch), lambda: captum.attribute(batch, targets)
    except ImportError:
        print("Captum is not installed: left out")
    try:
        from lime.lime_image import LimeImageExplainer

        def classify(images: Any) -> Any:
            x = plan.model.inputs(np.asarray(images, np.uint8))
            with torch.no_grad():
                return plan.model.log_probabilities(plan.model.module(x)).exp().cpu().numpy()

        def lime() -> None:
            for view in pixels[:PACKAGE_IMAGES]:
                LimeImageExplainer(random_state=0).explain_instance(
                    view,
                    classify,
                    num_samples=passes,
                    batch_size=plan.batch_size,
                    progress_bar=False,
                    top_labels=1,
                )

        found[f"lime, {passes:,} passes"] = PACKAGE_IMAGES, lime
    except ImportError:
        print("lime is not installed: left out")
    return found


def contenders(
    plan: Plan, folder: Path, asked: argparse.Namespace
) -> dict[str, tuple[int, Callable[[], object]]]:
    dataset, model, activation = plan.records.dataset, plan.model, plan.families.activation
    size = min(plan.batch_size, len(plan.records))
    pixels = np.stack([model.preprocessing.view(decode(dataset.read(i))).pixels for i in range(size)])
    batch = model.inputs(pixels)
    targets = forward(model.module, batch).argmax(1)
    requests = [r for r in parse_methods("fast") if activation.refusal(r.method) is None]
    lime = methods()["lime"]
    request = MethodRequest(lime, lime.resolve({"samples": asked.passes}))
    few = max(1, size // 16)
    subjects = Subjects(
        batch[:few],
        pixels[:few],
        targets[:few, None].cpu(),
        [f"{i:032x}" for i in range(few)],
        plan.batch_size,
    )

    def cams(measured: bool) -> None:
        result = activation.explain(model.inputs(pixels), targets[:, None].cpu(), requests)
        if measured:
            measure(torch.cat([maps[:, 0] for maps in result.maps.values()]))

    runs = iter(range(10**6))
    return {
        "forward alone": (size, lambda: forward(model.module, batch)),
        f"Gazelake, {len(requests)} CAMs": (size, lambda: cams(False)),
        f"Gazelake, {len(requests)} CAMs and statistics": (size, lambda: cams(True)),
        f"Gazelake, LIME, {asked.passes:,} passes": (
            few,
            lambda: plan.families.maps(subjects, {"lime": np.ones((few, 1), bool)}, [request]),
        ),
        f"forward alone, {asked.passes:,} passes": (
            few,
            lambda: [forward(model.module, batch) for _ in range(-(-few * asked.passes // size))],
        ),
        "explain, from files to published run": (
            len(plan.records),
            lambda: end_to_end(plan, folder / f"run{next(runs)}"),
        ),
        **packages(plan, batch, targets, pixels, asked.passes),
    }


def run(asked: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plan = plan_for(write_photographs(folder, asked.images), folder / "plan", asked)
        device = plan.model.device
        print(
            f"\n{asked.network} on {device_name(device)}: {asked.precision}, batches of {plan.batch_size}, {plan.model.layout}"
        )
        tasks = contenders(plan, folder, asked)
        taken: dict[str, list[float]] = {name: [] for name in tasks}
        names = list(tasks)
        for turn in range(asked.rounds + 1):  # the first round warms up
            for contender in names[turn % len(names) :] + names[: turn % len(names)]:
                images, task = tasks[contender]
                took = seconds(task, device) / images
                if turn:
                    taken[contender].append(took)
    for contender, times in taken.items():
        print(f"  {contender:<44}{1 / statistics.median(times):>12.2f} images/s")
    print(time.strftime("  measured %Y-%m-%d, ") + f"PyTorch {torch.__version__}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--network", default="resnet50")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--passes", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="float32")
    run(parser.parse_args())


if __name__ == "__main__":
    main()
