"""Models: a network that is known to behave like a classifier, with its preprocessing and class names."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from cache.errors import ConfigError, ModelError, shown
from engine.architectures import Architecture, build, mending
from engine.checkpoints import Checkpoint, load_checkpoint
from engine.preprocessing import Preprocessing, build_preprocessing, read_preprocessing
from engine.transfers import to_device

_PROBE = 2
"""Images of the probe: two, so that an output that drops the batch is seen."""


@dataclass
class LoadedModel:
    """A classifier that is ready to be explained.

    Attributes:
        module: The network, in evaluation mode, on its device.
        preprocessing: How images become its input.
        classes: Name of every output, None where nobody named them.
        outputs: Number of classes; 2 where the network has a single logit.
        binary: The network has a single logit.
        source: The spec it was loaded from.
        weights: What its weights are called.
        architecture: Name of the network's class.
        fingerprint: BLAKE2b-128 of its weights and structure, hexadecimal.
        device: Where it runs.
        notices: Sentences that a person should read.
        layout: How inputs of three channels lie in memory.
    """

    module: nn.Module
    preprocessing: Preprocessing
    classes: list[str] | None
    outputs: int
    binary: bool
    source: str
    weights: str
    architecture: str
    fingerprint: str
    device: torch.device
    notices: list[str] = field(default_factory=list)
    layout: torch.memory_format = torch.channels_last

    def inputs(self, pixels: NDArray[np.uint8]) -> torch.Tensor:
        """Return pixels (N, height, width, channels) as the network takes them, on its device, in its memory format."""
        x = self.preprocessing.normalise(to_device(pixels, self.device))
        return x if x.shape[1] != 3 else x.contiguous(memory_format=self.layout)

    def scores(self, logits: torch.Tensor) -> torch.Tensor:
        """Return one score a class (N, outputs): the logits, or (−z, z) of a single logit z."""
        return torch.cat((-logits, logits), dim=1) if self.binary else logits

    def log_probabilities(self, logits: torch.Tensor) -> torch.Tensor:
        """Return ln p (N, outputs) in float32: log-softmax, or (ln(1 − σ(z)), ln σ(z)) of a single logit z."""
        logits = logits.float()
        if self.binary:
            return torch.cat((functional.logsigmoid(-logits), functional.logsigmoid(logits)), dim=1)
        return functional.log_softmax(logits, dim=1)


def load_model(
    spec: str,
    *,
    weights: str | None = None,
    checkpoint: str | None = None,
    image_size: int | tuple[int, int] | None = None,
    resize: int | None = None,
    fit: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    interpolation: str | None = None,
    classes: Sequence[str] | None = None,
    native_size: tuple[int, int] | None = None,
    device: str = "cpu",
) -> LoadedModel:
    """Load a network with weights, preprocessing and class names, and try it once.

    What is given here overrides what the checkpoint says, which overrides what the network, its factory or its
    published weights say.

    Args:
        spec: ``torchvision:NAME``, ``timm:NAME``, ``path/to/file.py:factory`` or ``package.module:factory``.
        weights: Published weights of torchvision or timm, ``DEFAULT`` for the best.
        checkpoint: File with weights of one's own.
        image_size: Side, or height and width, of the input.
        resize: Shorter side before the centre crop.
        fit: crop, squash or pad.
        mean: Subtracted from pixels in 0..1, one number or one a channel.
        std: Divides after that.
        interpolation: Pillow's filter.
        classes: Name of every output.
        native_size: Height and width of the dataset's images, where all are alike: the size of last resort.
        device: auto, cpu, cuda, cuda:1, mps.

    Raises:
        ModelError: the network cannot be loaded or is no classifier.
        ConfigError: the options do not fit it.
    """
    if weights is not None and checkpoint is not None:
        raise ConfigError("--weights and --checkpoint exclude each other: give one of them.")
    where = resolve_device(device)
    file = None if checkpoint is None else load_checkpoint(checkpoint)
    options = {
        "size": image_size,
        "resize": resize,
        "fit": fit,
        "mean": mean,
        "std": std,
        "interpolation": interpolation,
    }
    with mending(f"The model {spec} fails"):  # every use of a module may run what somebody wrote
        return _load(spec, weights, file, options, classes, native_size, where)


def _load(
    spec: str,
    weights: str | None,
    file: Checkpoint | None,
    options: Mapping[str, Any],
    classes: Sequence[str] | None,
    native_size: tuple[int, int] | None,
    where: torch.device,
) -> LoadedModel:
    """Build the network, lay the options over what it declares, and try it once."""
    architecture = build(spec, weights, file, classes)
    declared = architecture.preprocessing
    if file is not None:
        declared = {**declared, **read_preprocessing(file.preprocessing, file.path)}
    declared = _override(declared, read_preprocessing(options, "the command line"))
    notices = list(architecture.notices)
    if "size" not in declared and native_size is not None:
        declared["size"] = native_size
    if "size" not in declared:
        raise ConfigError(f"The model {spec} does not say how large its input is: give --image-size.")
    if "mean" not in declared and "std" not in declared:
        notices.append(
            f"{spec} declares no mean and std, so its pixels stay in 0 to 1: say --mean and --std where it was "
            "trained otherwise."
        )
    module = architecture.module
    module.eval()  # without its result: a network's own version may forget to return itself
    _refuse_empty_weights(module, spec)
    preprocessing, probe = _try(module, declared, spec)
    outputs = _count_outputs(probe, spec)
    fingerprint = weights_fingerprint(module, architecture.name)
    notices += _suspicions(module, probe, spec)
    names = list(classes) if classes is not None else (file.classes if file else None) or architecture.classes
    _check_classes(names, max(outputs, 2), classes is not None, architecture)
    place(module, where)
    return LoadedModel(
        module,
        preprocessing,
        names,
        max(outputs, 2),
        outputs == 1,
        spec,
        architecture.weights,
        type(module).__name__,
        fingerprint,
        where,
        notices,
    )


def _refuse_empty_weights(module: nn.Module, spec: str) -> None:
    """Refuse weights that have a shape and no values, as networks built under ``torch.device("meta")`` have."""
    names = [name for name, value in (*module.named_parameters(), *module.named_buffers()) if value.is_meta]
    if names:
        raise ModelError(
            f"The model {spec} has weights without values on the device 'meta', such as {names[0]}: build it on the cpu."
        )


def resolve_device(name: str) -> torch.device:
    """Return the device of a name, the best there is for ``auto`` (raises ConfigError where it is not there)."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        with warnings.catch_warnings(action="ignore"):
            device = torch.device(name)
            torch.empty(1, device=device)
    except Exception as error:  # each backend is missing in a way of its own
        raise ConfigError(
            f"The device {shown(name)} cannot be used on this machine: say --device auto or cpu."
        ) from error
    if device.type == "meta":
        raise ConfigError("The device 'meta' cannot compute: say --device auto or cpu.")
    return device


def weights_fingerprint(module: nn.Module, name: str) -> str:
    """Return BLAKE2b-128 over a network's name, layer types, and its state's names, types, shapes and bytes.

    Equal on every device and in every memory format. Layer types count because ReLU and GELU have no weights.
    """
    digest = blake2b(digest_size=16)
    digest.update(name.encode())
    for path, layer in module.named_modules():
        digest.update(f"|{path}:{type(layer).__name__}".encode())
    for key, value in module.state_dict().items():
        if isinstance(value, torch.Tensor):
            digest.update(f"|{key}:{value.dtype}:{tuple(value.shape)}|".encode())
            flat = value.detach().to("cpu").contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _override(declared: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Lay options over declared values; another size makes the declared resize meaningless."""
    kept = dict(declared)
    if options.get("size", kept.get("size")) != kept.get("size") or options.get("fit") in ("squash", "pad"):
        kept.pop("resize", None)
    return {**kept, **options}


def _try(module: nn.Module, declared: dict[str, Any], spec: str) -> tuple[Preprocessing, Any]:
    """Return the preprocessing with the network's channels, and the output of one small batch."""
    candidates = [declared["channels"]] if "channels" in declared else _channels(module, spec)
    first_error: Exception | None = None
    device = next((p.device for p in module.parameters()), torch.device("cpu"))
    for channels in candidates:
        preprocessing = build_preprocessing(declared, channels)
        generator = torch.Generator().manual_seed(0)
        example = torch.randn(_PROBE, channels, *preprocessing.size, generator=generator).to(device)
        try:
            with torch.no_grad():
                return preprocessing, module(example)
        except Exception as error:  # anything may be wrong in a network that somebody wrote
            first_error = first_error or error
    shape = f"{_PROBE} × {candidates[0]} × {declared['size'][0]} × {declared['size'][1]}"
    reason = (str(first_error).strip().splitlines() or [type(first_error).__name__])[0][:200].rstrip(".")
    raise ModelError(
        f"The model {spec} fails on an input of {shape} ({reason}): check --image-size, and that it takes "
        "batch × channels × height × width."
    ) from first_error


def _channels(module: nn.Module, spec: str) -> list[int]:
    """Return the channel counts to try: what the first convolution takes, or colour then grey where there is none."""
    first = next((layer for layer in module.modules() if isinstance(layer, nn.Conv2d)), None)
    if first is None or not first.in_channels:  # none, or one that waits for its first input
        return [3, 1]
    if first.in_channels not in (1, 3):
        raise ModelError(
            f"The model {spec} takes {first.in_channels} input channels: images have 3, or 1 where they are grey."
        )
    return [first.in_channels]


def _count_outputs(output: Any, spec: str) -> int:
    want = "return logits of shape batch × classes"
    if not isinstance(output, torch.Tensor):
        raise ModelError(f"The model {spec} returns a {type(output).__name__} instead of a tensor: {want}.")
    if output.ndim != 2 or output.shape[0] != _PROBE or output.shape[1] < 1:
        shape = " × ".join(map(str, output.shape)) or "a single number"
        raise ModelError(f"The model {spec} returns {shape} for a batch of {_PROBE} images: {want}.")
    if not output.is_floating_point():
        raise ModelError(f"The model {spec} returns {output.dtype} instead of floating-point logits: {want}.")
    if not bool(torch.isfinite(output).all()):
        raise ModelError(
            f"The model {spec} returns logits that are not finite (NaN or infinite) for random pixels: check its "
            "weights, --mean and --std."
        )
    return int(output.shape[1])


def _suspicions(module: nn.Module, output: torch.Tensor, spec: str) -> list[str]:
    """Notice outputs that look like probabilities; refuse a single one, since its sign decides the class."""
    layers = [layer for layer in module.modules() if not list(layer.children())]
    if output.shape[1] == 1:
        if layers and isinstance(layers[-1], nn.Sigmoid):
            raise ModelError(
                f"The model {spec} ends in a sigmoid: return the logit before it, whose sign says the class."
            )
        return []
    sums = output.float().sum(dim=1)
    if bool((output >= 0).all()) and torch.allclose(sums, torch.ones_like(sums), atol=1e-3):
        return [
            f"The outputs of {spec} look like probabilities: predictions are right, but confidences come out "
            "flattened; return the logits before the softmax."
        ]
    return []


def _check_classes(
    names: Sequence[str] | None, outputs: int, from_option: bool, architecture: Architecture
) -> None:
    if names is None or len(names) == outputs:
        return
    if from_option:
        raise ConfigError(
            f"--classes names {len(names)} classes, but the model {architecture.name} has {outputs} outputs: "
            "give one name an output, in order."
        )
    raise ModelError(
        f"The model {architecture.name} declares {len(names)} classes but has {outputs} outputs: correct its class "
        "names or give --classes FILE."
    )


def place(module: nn.Module, device: torch.device) -> None:
    """Move the network to its device, in the memory format in which convolutions are fastest."""
    try:
        module.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    except RuntimeError as error:
        if "out of memory" in str(error).lower():
            raise ModelError(
                f"The model does not fit into the memory of {device}: say --device cpu."
            ) from error
        module.to(device)  # five-dimensional weights have no channels_last
