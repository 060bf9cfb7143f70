"""From a picture to what the model sees: resize, crop, normalise, and where the crop lies on the original."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cache.errors import ConfigError, shown
from cache.schema import MASK_SIZE
from engine.images import ImageError

if TYPE_CHECKING:
    import torch

Fit = Literal["crop", "squash", "pad"]
Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
MAX_RESIZED = 100_000_000
"""Pixels above which a resized image is refused: a line of pixels, 1 × 60,000, would take gigabytes."""
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "hamming": Image.Resampling.HAMMING,
}


@dataclass(frozen=True)
class View:
    """What the model sees of one image.

    Attributes:
        pixels: uint8 (height, width, channels), before normalising.
        crop: x0, y0, x1, y1 of the view in pixels of the upright original; outside the original where the view is padded.
        width: Width of the upright original.
        height: Height of the upright original.
    """

    pixels: NDArray[np.uint8]
    crop: tuple[float, float, float, float]
    width: int
    height: int

    def mask(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return an object mask over the whole original as MASK_SIZE × MASK_SIZE cells of the view.

        A cell belongs to the object when at least half of it is covered; what is padding is background. The mask
        may have another resolution than the image.
        """
        x0, y0, x1, y1 = self.crop
        rows = _cell_weights(mask.shape[0], self.height, y0, y1)
        columns = _cell_weights(mask.shape[1], self.width, x0, x1)
        return np.asarray(rows @ mask.astype(np.float64) @ columns.T >= 0.5 - 1e-9)

    def boxes(self, boxes: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Return boxes (n, 4) in pixels of the original as fractions of the view, clipped; those outside vanish."""
        x0, y0, x1, y1 = self.crop
        origin, extent = np.array([x0, y0, x0, y0]), np.array([x1 - x0, y1 - y0, x1 - x0, y1 - y0])
        inside = np.clip((np.asarray(boxes, np.float64).reshape(-1, 4) - origin) / extent, 0.0, 1.0)
        kept = (inside[:, 2] > inside[:, 0]) & (inside[:, 3] > inside[:, 1])
        return np.asarray(inside[kept], np.float32)


def _cell_weights(size: int, original: int, start: float, stop: float) -> NDArray[np.float64]:
    """Return (MASK_SIZE, size): the share of each cell of the view that each row of a mask covers."""
    edges = np.linspace(start, stop, MASK_SIZE + 1) * (size / original)
    pixel = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return np.asarray(np.clip(overlap, 0.0, None) / (edges[1] - edges[0]))


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes the model's input.

    Attributes:
        size: Height and width of the input.
        resize: Length of the shorter side before the centre crop; None means that the image just covers the input.
        fit: ``crop`` keeps proportions and cuts the centre out, ``squash`` ignores proportions, ``pad`` keeps
            everything and fills with black.
        interpolation: Pillow's filter; all but nearest are antialiased.
        mean: Subtracted from pixels in 0..1, a value a channel.
        std: Divides after that, a value a channel.
        channels: 3 for RGB, 1 for grey.
    """

    size: tuple[int, int]
    resize: int | None = None
    fit: Fit = "crop"
    interpolation: Interpolation = "bilinear"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    channels: int = 3

    def __post_init__(self) -> None:
        """Refuse values that no input can have."""
        _check(self)

    @cached_property
    def fingerprint(self) -> str:
        """BLAKE2b-128 of everything that changes the input, hexadecimal."""
        return blake2b(json.dumps(self.to_json(), sort_keys=True).encode(), digest_size=16).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Return the plain dictionary that the manifest stores (without the fingerprint)."""
        plain = asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}

    def view(self, image: Image.Image) -> View:
        """Return what the model sees of an upright RGB image.

        With ``fit="crop"`` bit-equal to torchvision's ``Resize(resize)`` and ``CenterCrop(size)`` on the PIL image.
        """
        width, height = image.size
        if self.channels == 1:
            image = image.convert("L")  # first, as torchvision's Grayscale; a third of the work afterwards
        new_width, new_height = self._resized(width, height)
        if new_width * new_height > MAX_RESIZED:
            shape = f"{width} × {height} pixels"
            raise ImageError("too_large", f"The image ({shape}) is too long to be resized: crop it first.")
        if (new_width, new_height) != (width, height):
            image = image.resize((new_width, new_height), _RESAMPLING[self.interpolation])
        left, top = _offset(new_width, self.size[1]), _offset(new_height, self.size[0])
        box = (left, top, left + self.size[1], top + self.size[0])
        if box != (0, 0, new_width, new_height):
            image = image.crop(box)  # Pillow fills with black outside, as CenterCrop's padding does
        pixels = np.asarray(image)
        x0, x1 = (x * width / new_width for x in (box[0], box[2]))
        y0, y1 = (y * height / new_height for y in (box[1], box[3]))
        return View(pixels if pixels.ndim == 3 else pixels[:, :, None], (x0, y0, x1, y1), width, height)

    def normalise(
        self, batch: NDArray[np.uint8] | torch.Tensor, device: str | torch.device | None = None
    ) -> torch.Tensor:
        """Return pixels (N, height, width, channels) uint8 as the input (N, channels, height, width) float32.

        (x / 255 − mean) / std, as torchvision's ToTensor and Normalize; three channels come in channels_last memory.
        A tensor stays on its device where none is named.
        """
        import torch

        pixels = torch.as_tensor(
            np.require(batch, requirements="W") if isinstance(batch, np.ndarray) else batch
        )
        x = pixels.to(device or pixels.device).permute(0, 3, 1, 2).to(torch.float32)
        mean = torch.tensor(self.mean, device=x.device).view(-1, 1, 1)
        std = torch.tensor(self.std, device=x.device).view(-1, 1, 1)
        x = x.div_(255).sub_(mean).div_(std)
        return x if self.channels == 3 else x.contiguous()

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        """Return the size after resizing, before cropping or padding."""
        h, w = self.size
        if self.fit == "squash":
            resize = min(h, w) if self.resize is None else self.resize
            return round(w * resize / min(h, w)), round(h * resize / min(h, w))
        if self.fit == "pad":
            scale = min(w / width, h / height)
            return max(1, min(w, round(width * scale))), max(1, min(h, round(height * scale)))
        if self.resize is None and h != w:  # cover the input: the side that is short of it decides
            by_height = h * width >= w * height
            return (max(w, int(h * width / height)), h) if by_height else (w, max(h, int(w * height / width)))
        short = self.resize if self.resize is not None else h
        long = int(short * max(width, height) / min(width, height))
        return (short, long) if width <= height else (long, short)


def _offset(length: int, wanted: int) -> int:
    """Return where a centre crop begins: torchvision's rounding, which differs between cropping and padding."""
    return -((wanted - length) // 2) if length < wanted else round((length - wanted) / 2.0)


def _check(preprocessing: Preprocessing) -> None:
    p = preprocessing
    if min(p.size) < 1 or max(p.size) > 8192:
        raise ConfigError(f"The image size {p.size[0]} × {p.size[1]} is not usable: give 1 to 8192 pixels.")
    if p.resize is not None and not 1 <= p.resize <= 8192:
        raise ConfigError(f"The resize {p.resize} is not usable: give 1 to 8192 pixels for the shorter side.")
    if p.fit not in get_args(Fit):
        raise ConfigError(f"The fit {p.fit!r} does not exist: choose {_either(get_args(Fit))}.")
    if p.interpolation not in _RESAMPLING:
        raise ConfigError(
            f"The interpolation {p.interpolation!r} does not exist: choose {_either(tuple(_RESAMPLING))}."
        )
    if p.channels not in (1, 3):
        raise ConfigError(
            f"A network with {p.channels} input channels cannot be audited: images have 1 or 3."
        )
    for name, values in (("mean", p.mean), ("std", p.std)):
        if len(values) != p.channels or not all(np.isfinite(values)):
            raise ConfigError(
                f"The {name} {_numbers(values)} does not fit {p.channels} channel(s): "
                f"give {'one number' if p.channels == 1 else 'one number or three'}."
            )
    if min(p.std) <= 0:
        raise ConfigError(f"The std {_numbers(p.std)} must be above 0 in every channel.")


def _either(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)


KEYS = tuple(field.name for field in fields(Preprocessing))
"""The keys of a ``preprocessing`` dictionary."""


def read_preprocessing(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return the values of a ``preprocessing`` dictionary, typed, for `build_preprocessing`.

    Args:
        values: Any of the keys of `Preprocessing`; ``size`` may be one number, ``mean`` and ``std`` too.
        where: Whose dictionary it is, for the error.

    Raises:
        ConfigError: an unknown key or a value of the wrong type.
    """
    unknown = [key for key in values if key not in KEYS]
    if unknown:
        raise ConfigError(
            f"The preprocessing of {where} has the unknown key {shown(unknown[0])}: use {_either(KEYS)}."
        )
    read: dict[str, Any] = {}
    for key, value in values.items():
        if value is None:
            continue
        try:
            read[key] = _READERS[key](value)
        except (
            TypeError,
            ValueError,
            ArithmeticError,
            RuntimeError,
        ) as error:  # a tensor may be given, or infinity
            raise ConfigError(
                f"The preprocessing of {where} has {key} = {shown(value)}, which is not {_EXPECTED[key]}."
            ) from error
    return read


def build_preprocessing(declared: Mapping[str, Any], channels: int) -> Preprocessing:
    """Return the preprocessing from declared values (``size`` at least) and the network's channels.

    One number for ``mean`` or ``std`` serves every channel; where either is missing pixels stay in 0..1.
    """
    values = {**declared, "channels": channels}
    for name, default in (("mean", (0.0,)), ("std", (1.0,))):
        given = tuple(values.get(name) or default)
        values[name] = given * channels if len(given) == 1 else given
    return Preprocessing(**values)


def _size(value: Any) -> tuple[int, int]:
    if isinstance(value, int):
        return value, value
    height, width = (_whole(v) for v in value)
    return height, width


def _whole(value: Any) -> int:
    if isinstance(value, bool) or int(value) != value:
        raise ValueError(value)
    return int(value)


def _floats(value: Any) -> tuple[float, ...]:
    if isinstance(value, int | float):
        return (float(value),)
    if isinstance(value, str):
        raise TypeError(value)
    return tuple(float(v) for v in value)


_READERS: dict[str, Callable[[Any], Any]] = {
    "size": _size,
    "resize": _whole,
    "fit": str,
    "interpolation": str,
    "mean": _floats,
    "std": _floats,
    "channels": _whole,
}
_EXPECTED = {
    "size": "a number of pixels or (height, width)",
    "resize": "a number of pixels",
    "fit": "a word",
    "interpolation": "a word",
    "mean": "a number or a list of numbers",
    "std": "a number or a list of numbers",
    "channels": "1 or 3",
}
