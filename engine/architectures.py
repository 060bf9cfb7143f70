"""Where networks come from: torchvision, timm, or a factory of one's own."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cache.errors import GazelakeError, ModelError
from engine.checkpoints import Checkpoint, apply_checkpoint, fitted_names
from engine.labels import declared_classes, imagenet_classes, read_classes
from engine.preprocessing import read_preprocessing

TORCHVISION, TIMM = "torchvision:", "timm:"


@dataclass
class Architecture:
    """A network with its weights, and what travels with it.

    Attributes:
        module: The network.
        name: Where it came from, without machine paths: enters the fingerprint.
        weights: What its weights are called; ``random`` where none were given.
        preprocessing: Declared values, keys of `engine.preprocessing.Preprocessing`.
        classes: Class names, where known.
        notices: Sentences that a person should read.
    """

    module: nn.Module
    name: str
    weights: str
    preprocessing: dict[str, Any] = field(default_factory=dict)
    classes: list[str] | None = None
    notices: list[str] = field(default_factory=list)


def build(
    spec: str, weights: str | None, checkpoint: Checkpoint | None, classes: Sequence[str] | None
) -> Architecture:
    """Build the network that a spec names and load its weights (raises ModelError)."""
    if spec.startswith(TORCHVISION):
        return _torchvision(spec.removeprefix(TORCHVISION), weights, checkpoint, classes)
    if spec.startswith(TIMM):
        return _timm(spec.removeprefix(TIMM), weights, checkpoint, classes)
    if weights is not None:
        raise ModelError(
            f"--weights {weights} names published weights of torchvision: or timm: models; "
            f"for {spec} give --checkpoint FILE."
        )
    return _factory(spec, checkpoint)


def _torchvision(
    name: str, weights: str | None, checkpoint: Checkpoint | None, classes: Sequence[str] | None
) -> Architecture:
    from torchvision import models

    known = models.list_models(module=models)
    if name not in known:
        raise ModelError(f"torchvision has no classifier {name!r}{_close(name, known)}.")
    enum = models.get_model_weights(name)
    if weights is None:
        module = _sized(
            lambda **k: models.get_model(name, weights=None, **_auxiliary(name, checkpoint), **k),
            checkpoint,
            classes,
        )
        result = _with_checkpoint(module, TORCHVISION + name, checkpoint)
        reference = getattr(enum, "DEFAULT", None) or next(iter(enum), None)
    else:
        reference = enum.DEFAULT if weights == "DEFAULT" else enum.__members__.get(weights)
        if reference is None:
            raise ModelError(
                f"torchvision's {name} has no weights {weights!r}: choose {', '.join(enum.__members__)}."
            )
        module = _downloaded(lambda: models.get_model(name, weights=reference), TORCHVISION + name)
        result = Architecture(module, TORCHVISION + name, reference.name)
        categories = reference.meta.get("categories")
        result.classes = list(categories) if categories else None
    if reference is not None:
        result.preprocessing = _torchvision_preprocessing(reference)
        if weights is None:
            result.notices.append(_borrowed(name, result.preprocessing))
    return result


def _torchvision_preprocessing(weights: Any) -> dict[str, Any]:
    preset = weights.transforms()
    size, resize = preset.crop_size, preset.resize_size
    return {
        "size": (size[0], size[-1]),
        "resize": resize[0],
        "fit": "crop",
        "interpolation": preset.interpolation.value,
        "mean": tuple(preset.mean),
        "std": tuple(preset.std),
    }


def _auxiliary(name: str, checkpoint: Checkpoint | None) -> dict[str, Any]:
    """Say whether the two networks with auxiliary heads are built with them: as the checkpoint has them."""
    if name not in ("googlenet", "inception_v3"):
        return {}
    if checkpoint is None:
        return {"init_weights": True}
    has = any(".aux" in f".{key.lower()}" for key in checkpoint.tensors)
    return {"init_weights": False, "aux_logits": has}


def _timm(
    name: str, weights: str | None, checkpoint: Checkpoint | None, classes: Sequence[str] | None
) -> Architecture:
    try:
        import timm
        from timm.data import resolve_data_config
    except ImportError as error:
        raise ModelError(f"The model timm:{name} needs the package timm: install it.") from error

    if not timm.is_model(name):
        raise ModelError(f"timm has no model {name!r}{_close(name.partition('.')[0], timm.list_models())}.")
    if weights is None:
        module = _sized(lambda **k: timm.create_model(name, pretrained=False, **k), checkpoint, classes)
        result = _with_checkpoint(module, TIMM + name, checkpoint)
    else:
        full = name if weights == "DEFAULT" else f"{name.partition('.')[0]}.{weights}"
        if weights != "DEFAULT" and full not in timm.list_pretrained(f"{name.partition('.')[0]}.*"):
            tags = [n.partition(".")[2] for n in timm.list_pretrained(f"{name.partition('.')[0]}.*")]
            raise ModelError(
                f"timm's {name} has no weights {weights!r}: choose {', '.join([*tags[:6], 'DEFAULT'])}."
            )
        module = _downloaded(lambda: timm.create_model(full, pretrained=True), TIMM + name)
        result = Architecture(module, TIMM + name, _timm_config(module).get("tag") or "DEFAULT")
        result.classes = _timm_classes(module)
    config = resolve_data_config({}, model=module)
    result.preprocessing = _timm_preprocessing(config)
    if weights is None:
        result.notices.append(_borrowed(name, result.preprocessing))
    return result


def _timm_preprocessing(config: Mapping[str, Any]) -> dict[str, Any]:
    _, height, width = config["input_size"]
    fit = {"squash": "squash", "border": "pad"}.get(config.get("crop_mode", "center"), "crop")
    declared = {
        "size": (height, width),
        "fit": fit,
        "interpolation": config["interpolation"] if config["interpolation"] != "random" else "bilinear",
        "mean": tuple(config["mean"]),
        "std": tuple(config["std"]),
    }
    if fit != "pad":
        declared["resize"] = int(min(height, width) / config["crop_pct"])
    return declared


def _timm_config(module: nn.Module) -> dict[str, Any]:
    config: Any = module.pretrained_cfg
    return dict(config)


def _timm_classes(module: nn.Module) -> list[str] | None:
    from timm.data import ImageNetInfo, infer_imagenet_subset

    config = _timm_config(module)
    if config.get("label_names"):
        return [str(name) for name in config["label_names"]]
    subset = infer_imagenet_subset(module)
    if subset is None:
        return None
    if subset == "imagenet-1k":
        return imagenet_classes()
    info = ImageNetInfo(subset)
    return [info.index_to_description(i) for i in range(info.num_classes())]


def _borrowed(name: str, declared: Mapping[str, Any]) -> str:
    height, width = declared["size"]
    return (
        f"The input of {name} ({height} × {width} pixels, its mean and std) is that of its published weights: "
        "say --image-size, --mean and --std where yours was trained otherwise."
    )


def _with_checkpoint(module: nn.Module, name: str, checkpoint: Checkpoint | None) -> Architecture:
    if checkpoint is None:
        notice = (
            f"{name} has random weights, so its predictions mean nothing: give --weights or --checkpoint."
        )
        return Architecture(module, name, "random", notices=[notice])
    apply_checkpoint(module, checkpoint)
    return Architecture(module, name, f"checkpoint {Path(checkpoint.path).name}")


def _sized(
    create: Callable[..., nn.Module], checkpoint: Checkpoint | None, classes: Sequence[str] | None
) -> nn.Module:
    """Create a network with as many outputs as its checkpoint's last layer has, else as there are class names."""
    outputs = None
    if checkpoint is not None:
        with torch.device("meta"), warnings.catch_warnings(action="ignore"):
            outputs = _outputs_of(create(), checkpoint)
    elif classes is not None:
        outputs = len(classes)
    return create() if outputs is None else create(num_classes=outputs)


def _outputs_of(module: nn.Module, checkpoint: Checkpoint) -> int | None:
    given = fitted_names(checkpoint.tensors, module.state_dict())
    layers = [
        name for name, layer in module.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d) and name
    ]
    last = given.get(f"{layers[-1]}.weight") if layers else None
    return None if last is None or not last.ndim else int(last.shape[0])


def _downloaded(create: Callable[[], nn.Module], name: str) -> nn.Module:
    try:
        return create()
    except Exception as error:  # offline, proxies and hubs fail in many ways
        reason = (str(error).splitlines() or [""])[0][:160].rstrip(".") or type(error).__name__
        raise ModelError(
            f"The weights of {name} could not be downloaded ({reason}): connect to the internet once, "
            "or give a file with --checkpoint."
        ) from error


def _factory(spec: str, checkpoint: Checkpoint | None) -> Architecture:
    where, colon, attribute = spec.rpartition(":")
    if not colon or not where or not attribute:
        raise ModelError(
            f"The model {spec!r} is not understood: write torchvision:NAME, timm:NAME, path/to/file.py:factory or "
            "package.module:factory."
        )
    is_file = where.endswith(".py") or os.sep in where
    folder = str(Path(os.path.expanduser(where)).resolve().parent) if is_file else os.getcwd()
    with _importable(folder):
        source = _import_file(where) if is_file else _import_module(where)
        factory = getattr(source, attribute, None)
        if factory is None:
            raise ModelError(
                f"{where} defines no {attribute!r}{_close(attribute, _public(source))}: name the function that returns "
                "the network."
            )
        module = factory if isinstance(factory, nn.Module) else _call(factory, spec)
    name = f"{Path(where).name if is_file else where}:{attribute}"
    result = Architecture(module, name, "as built")
    for owner, title in ((source, where), (factory, spec), (module, spec)):
        declared = getattr(owner, "preprocessing", None)
        if isinstance(declared, Mapping):
            result.preprocessing = read_preprocessing(declared, title)
        classes = getattr(owner, "classes", None)
        if isinstance(classes, str):
            result.classes = read_classes(classes)
        else:
            result.classes = declared_classes(classes, f"The model {title}") or result.classes
    if checkpoint is not None:
        apply_checkpoint(module, checkpoint)
        result.weights = f"checkpoint {Path(checkpoint.path).name}"
    return result


@contextmanager
def mending(what: str, but: type[Exception] = GazelakeError) -> Iterator[None]:
    """Turn whatever code that somebody wrote raises into one sentence.

    Args:
        what: What failed, the beginning of the sentence.
        but: An error that the caller tells apart.

    Raises:
        ModelError: the code raised anything but one of our own errors.
    """
    try:
        yield
    except (GazelakeError, but):
        raise
    except (Exception, SystemExit) as error:  # a file with an unguarded argparse leaves with SystemExit
        raise ModelError(f"{what} with {_first_line(error)}: mend it.") from error


def _call(factory: Any, spec: str) -> nn.Module:
    if not callable(factory):
        raise ModelError(f"{spec} is a {type(factory).__name__}: name a function that returns the network.")
    with mending(f"The factory {spec} failed"):
        module = factory()
    if not isinstance(module, nn.Module):
        raise ModelError(f"The factory {spec} returned a {type(module).__name__}: return a torch.nn.Module.")
    return module


def _import_file(path: str) -> Any:
    file = Path(os.path.expanduser(path)).resolve()
    if not os.path.isfile(file):
        raise ModelError(f"There is no file {path}: check the path of --model.")
    spec = importlib.util.spec_from_file_location(f"gazelake_model_{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ModelError(f"{path} is not a Python file: --model wants path/to/file.py:factory.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickle look their module up there
    with mending(f"The file {path} fails on import"):
        spec.loader.exec_module(module)
    return module


def _import_module(name: str) -> Any:
    try:
        with mending(f"The module {name} fails on import", but=ModuleNotFoundError):
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise ModelError(
                f"There is no Python module {name}: check --model, or start from the folder that holds it."
            ) from error
        raise ModelError(
            f"The module {name} needs {error.name}, which is not installed: install it."
        ) from error


@contextmanager
def _importable(folder: str) -> Iterator[None]:
    """Let the factory import its neighbours, during import and when it is called."""
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


def _public(source: Any) -> list[str]:
    return [
        n
        for n, value in vars(source).items()
        if callable(value) and not n.startswith("_") and (inspect.isfunction(value) or inspect.isclass(value))
    ]


def _close(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    return f" (close: {', '.join(close)})" if close else ""


def _first_line(error: BaseException) -> str:
    try:
        line = (str(error).strip().splitlines() or [""])[0][:160].rstrip(".:")
    except Exception:  # an error of one's own that cannot even be told
        line = ""
    return f"{type(error).__name__}: {line}" if line else type(error).__name__
