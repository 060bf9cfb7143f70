"""Images: bytes to upright RGB pictures, and pictures to thumbnails."""

from __future__ import annotations

import io
import warnings
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from cache.schema import THUMBNAIL_SIZE

MAX_PIXELS = 178_956_970
"""Pixels above which an image counts as a decompression bomb: the limit at which Pillow itself refuses."""
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")
"""What is decoded. Named, because some of Pillow's other readers start programs (EPS runs Ghostscript)."""
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".gif", ".bmp", ".dib", ".tif", ".tiff", ".webp"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".jpx", ".avif"}
)
"""File name endings that make a file of a folder an image, in lower case."""
TINY = 64
"""Views with no side above this keep lossless thumbnails: every pixel of a digit counts."""

_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"BM", b"II*\x00", b"MM\x00*", b"\x00\x00\x00\x0cjP")
_ORIENTATION_TAG = 0x0112
_ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class SampleError(Exception):
    """One sample cannot be explained; the run records it and goes on.

    Attributes:
        stage: What failed, as in the table of errors: read, decode, predict or explain.
        kind: Short reason, as in the table of errors.
        message: One sentence for a person.
    """

    stage = "explain"

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


class ImageError(SampleError):
    """The bytes are not an image that can be shown to a model."""

    stage = "decode"


def decode(data: bytes) -> Image.Image:
    """Return the image as upright RGB.

    EXIF rotation is applied, transparency is laid on white, 16-bit grey is scaled by its range, colours with an
    embedded profile other than sRGB are converted, and of an animation the first frame is taken.

    Raises:
        ImageError: kinds empty, truncated, not_an_image, too_large, other.
    """
    image = _open(data)
    try:
        image.load()
        return _to_rgb(_upright(image))
    except MemoryError as error:
        raise ImageError("too_large", f"The image ({_size(image)}) does not fit into memory.") from error
    except Exception as error:  # decoders fed damaged bytes raise all sorts of things; the run must go on
        raise _load_error(image, error) from error


def decode_mask(data: bytes) -> NDArray[np.bool_]:
    """Return an object mask (height, width) from an image's bytes: True where any channel but alpha is not zero.

    A palette image is read by its indices, so that a segmentation's background, index 0, is False whatever its colour.

    Raises:
        ImageError: as `decode`.
    """
    image = _open(data)
    try:
        image.load()
        if image.mode in ("LA", "RGBA", "PA"):
            image = image.convert({"LA": "L", "PA": "L", "RGBA": "RGB"}[image.mode])
        pixels = np.asarray(_upright(image))
    except Exception as error:
        raise _load_error(image, error) from error
    return np.asarray(pixels != 0 if pixels.ndim == 2 else (pixels != 0).any(axis=2))


def encode_raw(pixels: NDArray[np.uint8]) -> bytes:
    """Return pixels (height, width) or (height, width, 3) as a PGM or PPM file: lossless, equal on every machine."""
    height, width = pixels.shape[:2]
    kind = b"P5" if pixels.ndim == 2 else b"P6"
    return b"%s\n%d %d\n255\n" % (kind, width, height) + np.ascontiguousarray(pixels).tobytes()


def thumbnail(pixels: NDArray[np.uint8]) -> bytes:
    """Return a WebP of a view (height, width, 1 or 3), its longest side at most `cache.schema.THUMBNAIL_SIZE`."""
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
    longest = max(image.size)
    if longest > THUMBNAIL_SIZE:
        scale = THUMBNAIL_SIZE / longest
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    buffer = io.BytesIO()
    if longest <= TINY:
        image.save(buffer, "WEBP", lossless=True, quality=0, method=0)
    else:
        image.save(buffer, "WEBP", quality=80, method=0)
    return buffer.getvalue()


def _open(data: bytes) -> Image.Image:
    """Read an image's header; refuse what is empty, unknown or too large before any pixel is decoded."""
    _silence_pillow()
    if not data:
        raise ImageError("empty", "The file has no bytes.")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ImageError("too_large", f"The image has more than {MAX_PIXELS:,} pixels.") from error
    except Exception as error:
        if data.startswith(_SIGNATURES) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP"):
            message = "The file begins like an image but ends too early or is damaged."
            raise ImageError("truncated", message) from error
        raise ImageError("not_an_image", "The file is not an image of a known format.") from error
    if image.width * image.height > MAX_PIXELS:
        raise ImageError("too_large", f"The image ({_size(image)}) has more than {MAX_PIXELS:,} pixels.")
    return image


def _silence_pillow() -> None:
    """Ignore the warnings that Pillow gives on odd files.

    `warnings.catch_warnings` swaps the whole process's filters and is not safe with several decoding threads, so
    one filter for Pillow's modules is added, and added again only where somebody took it away.
    """
    if not any(
        f[0] == "ignore" and getattr(f[3], "pattern", "") == _PILLOW_MODULES for f in warnings.filters[:4]
    ):
        warnings.filterwarnings("ignore", module=_PILLOW_MODULES)


_PILLOW_MODULES = r"PIL\."


def _size(image: Image.Image) -> str:
    return f"{image.width} × {image.height} pixels"


def _load_error(image: Image.Image, error: Exception) -> ImageError:
    text = str(error).lower()
    short = isinstance(error, EOFError) or any(
        word in text for word in ("truncated", "not processed", "broken", "premature", "unrecognized data")
    )
    if short:
        return ImageError("truncated", f"The {image.format} file ends too early or is damaged.")
    reason = str(error).strip().rstrip(".") or type(error).__name__
    return ImageError("other", f"The {image.format} file cannot be decoded: {reason}.")


def _upright(image: Image.Image) -> Image.Image:
    """Turn the image as its EXIF orientation says; an unreadable EXIF block counts as upright."""
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG)
    except Exception:  # Pillow raises many kinds on damaged EXIF, none of which makes the pixels worse
        return image
    method = _ORIENTATIONS.get(orientation) if isinstance(orientation, int) else None
    return image if method is None else image.transpose(method)


def _to_rgb(image: Image.Image) -> Image.Image:
    mode = image.mode
    if mode == "RGB" and not image.info:
        return image
    if mode in ("I", "F") or mode.startswith("I;16"):
        return _scale_deep(image).convert("RGB")
    if mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        return _on_white(_with_profile(image.convert("RGBA"), image.info))
    if mode in ("RGB", "CMYK"):
        image = _with_profile(image, image.info)
    return image if image.mode == "RGB" else image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")


def _scale_deep(image: Image.Image) -> Image.Image:
    """Bring 16-bit, 32-bit and floating-point grey to 8 bits by its range; Pillow's own conversion clips.

    16-bit files and PNG: 65535 becomes 255. Other deep files declare no range: values within 0..1 (floating point),
    0..255 or 0..65535 are taken to use that range, anything else is scaled from its minimum to its maximum.
    """
    values = np.asarray(image).astype(np.float64)
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        low, high = 0.0, 65535.0
    elif low >= 0:
        bounds = (1.0, 255.0, 65535.0) if image.mode == "F" else (255.0, 65535.0)
        declared = next((bound for bound in bounds if high <= bound), None)
        low, high = (low, high) if declared is None else (0.0, declared)
    scaled = (values - low) * (255.0 / (high - low if high > low else 1.0))
    return Image.fromarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8))


def _with_profile(image: Image.Image, info: dict[Any, Any]) -> Image.Image:
    """Convert colours from the embedded ICC profile to sRGB; a missing, sRGB or unusable profile changes nothing."""
    profile = info.get("icc_profile")
    if not isinstance(profile, bytes) or not profile:
        return image
    transform = _profile_transform(profile, image.mode)
    if transform is None:
        return image
    converted = ImageCms.applyTransform(image, transform)
    return image if converted is None else converted


@lru_cache(maxsize=32)
def _profile_transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return None
        target = "RGBA" if mode == "RGBA" else "RGB"
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, target)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
