"""Checkpoints: weights from a file, without ever running code from it."""

from __future__ import annotations

import os
import pickle
import re
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cache.errors import ModelError
from engine.labels import declared_classes

_NESTS = ("state_dict", "model_state_dict", "model_state", "model", "net")
_PREFIXES = ("module.", "_orig_mod.", "model.")
"""What DataParallel, torch.compile and Lightning put before every name."""
_IGNORED = "num_batches_tracked"
"""A counter that batch normalisation does not use when it predicts; old checkpoints lack it."""
_LONGEST = 120
"""Characters of a name that an error tells."""


@dataclass(frozen=True)
class Checkpoint:
    """A file's tensors by name, and what else it says about its model.

    Attributes:
        path: The file.
        tensors: The state dictionary.
        classes: Class names, where the file holds ``classes``.
        preprocessing: Declared preprocessing, where the file holds ``preprocessing``.
    """

    path: str
    tensors: dict[str, torch.Tensor]
    classes: list[str] | None = None
    preprocessing: dict[str, Any] = field(default_factory=dict)


def load_checkpoint(path: str) -> Checkpoint:
    """Read a checkpoint: a state dictionary, alone or under a usual key, from PyTorch or safetensors.

    Raises:
        ModelError: missing, damaged, without weights, or only readable by running code that it contains.
    """
    file = Path(os.path.expanduser(path))
    if not os.path.isfile(file):
        raise ModelError(f"There is no checkpoint at {path}: check the path.")
    content = _read_safetensors(path, file) if file.suffix == ".safetensors" else _read_torch(path, file)
    tensors = _state_dict(content)
    if not tensors:
        raise ModelError(
            f"The checkpoint {path} holds no weights: save model.state_dict(), alone or under 'state_dict' or 'model'."
        )
    for name, tensor in tensors.items():
        odd = _oddity(tensor)
        if odd:
            raise ModelError(
                f"The checkpoint {path} holds {_few([name])} as a {odd} tensor: save dense weights that hold real numbers."
            )
    extras = content if isinstance(content, Mapping) else {}
    preprocessing = extras.get("preprocessing")
    return Checkpoint(
        path,
        tensors,
        declared_classes(extras.get("classes"), f"The checkpoint {path}"),
        dict(preprocessing) if isinstance(preprocessing, Mapping) else {},
    )


def _read_torch(path: str, file: Path) -> Any:
    try:
        with warnings.catch_warnings(
            action="ignore"
        ):  # what is odd about its tensors is said in our own words
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        text = str(error)
        if "GLOBAL" in text or "Unsupported" in text or "not an allowed" in text:
            found = re.search(r"GLOBAL ([\w.]+)|Unsupported (?:class|operand) ([\w.]+)", text)
            what = f" ({next(g for g in found.groups() if g)})" if found else ""
            raise ModelError(
                f"The checkpoint {path} holds Python objects{what} and loading them would run code, so nothing was "
                "loaded: save its weights alone with torch.save(model.state_dict(), FILE)."
            ) from error
        raise _damaged(path) from error
    except PermissionError as error:
        raise ModelError(f"The checkpoint {path} may not be read: permission denied.") from error
    except Exception as error:  # torch's readers of zip, tar and pickle raise many kinds on damaged bytes
        if "TorchScript" in str(error):
            raise ModelError(
                f"The checkpoint {path} is a TorchScript program, not weights: save torch.save(model.state_dict(), FILE)."
            ) from error
        raise _damaged(path) from error


def _damaged(path: str) -> ModelError:
    return ModelError(
        f"The checkpoint {path} cannot be read: it is cut short or no PyTorch file; copy it again."
    )


def _read_safetensors(path: str, file: Path) -> Any:
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise ModelError(
            f"The checkpoint {path} needs the package safetensors: install it, or save with torch.save."
        ) from error
    try:
        return load_file(file)
    except Exception as error:  # its errors are of a Rust type of its own
        raise _damaged(path) from error


def _state_dict(content: Any) -> dict[str, torch.Tensor]:
    """Find the tensors: the content itself, or what lies under one of the usual keys."""
    for _ in _NESTS:  # no deeper: a content may hold itself
        nested = content if isinstance(content, Mapping) else {}
        content = next((nested[nest] for nest in _NESTS if isinstance(nested.get(nest), Mapping)), content)
    if not isinstance(content, Mapping):
        return {}
    return {
        name: value
        for name, value in content.items()
        if isinstance(name, str) and isinstance(value, torch.Tensor)
    }


def _oddity(tensor: torch.Tensor) -> str:
    """Return what keeps a tensor from being the weights of a layer, empty where nothing does."""
    oddities = {
        "nested": tensor.is_nested,
        "sparse": tensor.layout != torch.strided,
        "quantised": tensor.is_quantized,
        "meta": tensor.is_meta,
        "complex": tensor.is_complex(),
    }
    return next((name for name, is_so in oddities.items() if is_so), "")


def fitted_names(tensors: Mapping[str, torch.Tensor], own: Iterable[str]) -> dict[str, torch.Tensor]:
    """Return the tensors without the prefixes that wrappers put before every name, where the model has none such."""
    names, renamed = set(own), dict(tensors)
    stripped = True
    while stripped:
        stripped = False
        for prefix in _PREFIXES:
            if not all(name.startswith(prefix) for name in renamed):
                continue
            if not any(name.startswith(prefix) for name in names):
                renamed = {name[len(prefix) :]: value for name, value in renamed.items()}
                stripped = bool(renamed) and all(renamed)
    return renamed


def apply_checkpoint(module: nn.Module, checkpoint: Checkpoint) -> None:
    """Load a checkpoint's weights into a network.

    Raises:
        ModelError: names or shapes do not fit; it names up to three of them.
    """
    own = {name: value for name, value in module.state_dict().items() if isinstance(value, torch.Tensor)}
    given = fitted_names(checkpoint.tensors, own)
    missing = [name for name in own if name not in given and not name.endswith(_IGNORED)]
    unexpected = [name for name in given if name not in own and not name.endswith(_IGNORED)]
    wrong = [
        f"{_few([name])} is {_shape(given[name])} instead of {_shape(own[name])}"
        for name in own
        if name in given and not nn.parameter.is_lazy(own[name]) and given[name].shape != own[name].shape
    ]
    problems = []
    if missing:
        problems.append(f"it lacks {_few(missing)}")
    if unexpected:
        problems.append(f"it has the unknown {_few(unexpected)}")
    if wrong:
        problems.append(_few(wrong))
    if problems:
        raise ModelError(
            f"The checkpoint {checkpoint.path} does not fit {type(module).__name__}: {'; '.join(problems)}: "
            "give the model that it was saved from."
        )
    module.load_state_dict({name: value for name, value in given.items() if name in own}, strict=False)


def _shape(tensor: torch.Tensor) -> str:
    return "×".join(map(str, tensor.shape)) or "a number"


def _few(names: list[str]) -> str:
    said = ", ".join(f"{name[:_LONGEST]}…" if len(name) > _LONGEST else name or "''" for name in names[:3])
    return said + (f" and {len(names) - 3} more" if len(names) > 3 else "")
