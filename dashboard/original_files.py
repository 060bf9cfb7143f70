"""The bytes of originals for a bundle: the same pixels, upright, without what a camera or a person wrote beside them."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Mapping
from typing import Any

from PIL import Image, ImageOps, UnidentifiedImageError

from cache.bundles import OriginalReader
from cache.manifest import Manifest
from dashboard.originals import LARGEST_FILE, original_path

ORIENTATION = 0x0112
QUALITY = 95
_PNG = b"\x89PNG\r\n\x1a\n"
# Colour profiles go, too: they carry names, and photographs are sRGB nearly always.
_PNG_KEPT = {
    b"IHDR",
    b"PLTE",
    b"tRNS",
    b"gAMA",
    b"cHRM",
    b"sRGB",
    b"sBIT",
    b"bKGD",
    b"pHYs",
    b"IDAT",
    b"IEND",
}
_JPEG_KEPT = {0xE0, 0xEE}
"""Marker segments of applications that change how pixels are read: JFIF and Adobe's colour transform."""
_STANDALONE = {0x01, *range(0xD0, 0xD8)}


def original_reader(manifest: Manifest) -> OriginalReader:
    """Return what `cache.bundles.write_bundle` asks for originals: those below the dataset's root on this machine."""

    def read(row: Mapping[str, Any]) -> bytes | None:
        path = original_path(manifest, str(row["uri"]))
        try:
            if path is None or not path.is_file() or path.stat().st_size > LARGEST_FILE:
                return None
            return bare_image(path.read_bytes(), (int(row["width"]), int(row["height"])))
        except OSError:
            return None

    return read


def bare_image(data: bytes, size: tuple[int, int]) -> bytes | None:
    """Return an image without metadata; None where it is none, or not of the upright size that was recorded.

    An upright JPEG or PNG keeps its pixels bit by bit. Others are encoded anew: what a camera stored on its side as a
    JPEG, the rest as a PNG of their first picture.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data)) as image:
                form, turned = image.format, image.getexif().get(ORIENTATION, 1) != 1
                image.load()
                upright = ImageOps.exif_transpose(image)
    except (
        OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ):  # fmt: skip
        return None
    if upright.size != size:
        return None
    if not turned and form == "PNG" and getattr(image, "n_frames", 1) == 1:
        bare = _bare_png(data)
    elif not turned and form == "JPEG":
        bare = _bare_jpeg(data)
    else:
        bare = None
    return bare or _encoded(upright, "JPEG" if form in ("JPEG", "MPO") else "PNG")


def _encoded(image: Image.Image, form: str) -> bytes:
    buffer = io.BytesIO()
    pixels = image if image.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16") else image.convert("RGB")
    bare = Image.frombytes(pixels.mode, pixels.size, pixels.tobytes())
    if pixels.mode == "P":
        palette = pixels.getpalette("RGBA" if "transparency" in pixels.info else "RGB") or []
        bare.putpalette(palette, "RGBA" if "transparency" in pixels.info else "RGB")
        bare = bare.convert("RGBA" if "transparency" in pixels.info else "RGB")
    if form == "JPEG":
        bare = bare if bare.mode in ("L", "RGB") else bare.convert("RGB")
        bare.save(buffer, form, quality=QUALITY, subsampling=0)
    else:
        bare.save(buffer, form)
    return buffer.getvalue()


def _bare_png(data: bytes) -> bytes | None:
    """Return a PNG's chunks of pixels and colours; None where it is put together in another way."""
    kept, at = [_PNG], len(_PNG)
    while at + 12 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        name, end = data[at + 4 : at + 8], at + 12 + length
        if end > len(data):
            return None
        if name in _PNG_KEPT:
            kept.append(data[at:end])
        if name == b"IEND":
            return b"".join(kept)
        at = end
    return None


def _bare_jpeg(data: bytes) -> bytes | None:
    """Return a JPEG's segments of pixels; None where it is put together in another way."""
    kept, at = [data[:2]], 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF or marker in _STANDALONE:
            at += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack(">H", data[at + 2 : at + 4])
        segment = data[at : at + 2 + length]
        if marker == 0xDA:  # the picture itself follows, up to the end that its own markers tell
            last = data.rfind(b"\xff\xd9")
            return (
                b"".join([*kept, data[at : last + 2]]) if last > at and _single(data[at : last + 2]) else None
            )
        if marker in _JPEG_KEPT or not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            kept.append(segment if marker != 0xE0 else _plain_jfif(segment))
        at += 2 + length
    return None


def _single(picture: bytes) -> bool:
    """Tell whether nothing but one picture's scans is in some bytes: no second picture, no comment, no application's."""
    at = 0
    while (at := picture.find(b"\xff", at)) >= 0 and at + 1 < len(picture):
        marker = picture[at + 1]
        if marker in (0xD8, 0xFE) or 0xE0 <= marker <= 0xEF:
            return False
        if marker == 0xD9:
            return at + 2 == len(picture)
        at += 1 if marker == 0xFF else 2
    return False


def _plain_jfif(segment: bytes) -> bytes:
    """Return a JFIF segment without the thumbnail that it may carry; without an extension's altogether."""
    if segment[4:9] != b"JFIF\0" or len(segment) < 18:
        return b""
    return segment[:2] + b"\x00\x10" + segment[4:16] + b"\0\0"
