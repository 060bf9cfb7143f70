"""Finds and decodes the original of a sample, where the run names it and it can be reached."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from cache.manifest import Manifest
from dashboard.rendering import Pixels

LONGEST_SIDE = 900
LARGEST_FILE = 200 * 2**20
SIXTEEN_BITS = 257.0
FETCH_VARIABLE = "GAZELAKE_FETCH_ORIGINALS"
"""Set to 1, originals on the net are fetched; ``--fetch-originals`` sets it."""
FETCHED_SCHEMES = ("http", "https", "s3")
FETCH_SECONDS = 10
LARGEST_FETCH = 32 * 2**20
FETCH_BLOCK = 2**18
_READING: dict[str, dict[str, Any]] = {
    "http": {"block_size": 0},
    "https": {"block_size": 0},
    "s3": {"block_size": 2**22},
}
"""How each scheme is read: streams over HTTP, since not every server answers for ranges."""
_INSTEAD = "The model's view is shown."


class OriginalError(Exception):
    """An original could not be fetched this time; another time it may be."""


@dataclass(frozen=True)
class Original:
    """The original of a sample, or why it cannot be shown.

    Attributes:
        pixels: RGB (h, w, 3), upright, at most `LONGEST_SIDE` a side; None where it cannot be shown.
        reason: A sentence that says why not; empty where it can.
    """

    pixels: Pixels | None
    reason: str = ""


def original_path(manifest: Manifest, uri: str) -> Path | None:
    """Return where a sample's original lies on this machine; None where that is nowhere below the dataset's root."""
    root = str(manifest.dataset.get("root") or "")
    if not root or not uri or "\0" in uri or "://" in uri or "://" in root:
        return None
    folder = Path(root).resolve()
    path = (folder / uri).resolve()
    return path if path.is_relative_to(folder) and path != folder else None


def original_url(manifest: Manifest, uri: str) -> str | None:
    """Return where a sample's original lies on the net; None where it does not, or nowhere below the dataset's root."""
    root = str(manifest.dataset.get("root") or "")
    if "://" in uri:
        url = uri
    elif "://" in root and uri and not uri.startswith("/") and ".." not in uri.split("/"):
        url = f"{root.rstrip('/')}/{uri}"
    else:
        return None
    parts = urlsplit(url)
    return url if parts.scheme.lower() in FETCHED_SCHEMES and parts.hostname else None


def fetching() -> bool:
    """Tell whether this dashboard was started with ``--fetch-originals``."""
    return os.environ.get(FETCH_VARIABLE) == "1"


def read_original(manifest: Manifest, row: Mapping[str, Any]) -> Original:
    """Read the original of a sample.

    Args:
        manifest: Of the run.
        row: The sample, from `cache.profiles.sample`: only what the run names is read.

    Raises:
        OriginalError: It could not be fetched this time.
    """
    uri = str(row["uri"])
    source = _source(manifest, uri)
    if isinstance(source, str):
        return Original(None, f"{source} {_INSTEAD}")
    try:
        pixels, size = _decode(source)
    except (
        OSError,
        ValueError,
        SyntaxError,
        UnidentifiedImageError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ):
        return Original(None, f"The original {uri} cannot be decoded. {_INSTEAD}")
    if size != (row["width"], row["height"]):
        return Original(None, f"The original {uri} has changed since the run was made. {_INSTEAD}")
    return Original(pixels)


def _source(manifest: Manifest, uri: str) -> Path | io.BytesIO | str:
    """Return what an original is decoded from, or the sentence that says why there is nothing."""
    url = original_url(manifest, uri)
    if url is not None:
        if not fetching():
            return "The original lies on the net, and this dashboard does not fetch it."
        return io.BytesIO(_fetched(url))
    path = original_path(manifest, uri)
    if path is None:
        return "The original is not a file that this dashboard can reach."
    if not path.is_file():
        return f"The original {uri} is not at {path.parent} any more."
    return f"The original {uri} is too large to show." if path.stat().st_size > LARGEST_FILE else path


def _fetched(url: str) -> bytes:
    """Fetch a file, within `FETCH_SECONDS` and `LARGEST_FETCH`, and following nobody elsewhere.

    The address comes from the run, so that whoever made the run chooses what this server asks for: that is why it is
    done only where the dashboard's owner said so, and why what comes back is shown only as the picture that it should be.

    Raises:
        OriginalError: It cannot be.
    """
    scheme = urlsplit(url).scheme.lower()
    try:
        import fsspec

        with closing(
            fsspec.filesystem(scheme, **_options(scheme)).open(url, "rb", **_READING[scheme])
        ) as file:
            data = b""
            end = monotonic() + FETCH_SECONDS
            while len(data) <= LARGEST_FETCH and monotonic() < end:
                block = file.read(FETCH_BLOCK)
                if not block:
                    return data
                data += block
    except ImportError as error:
        packages = "`fsspec` and `s3fs`" if scheme == "s3" else "`fsspec` and `aiohttp`"
        raise OriginalError(
            f"To fetch originals, install {packages} where the dashboard runs. {_INSTEAD}"
        ) from error
    except Exception as error:  # whatever a remote end and three libraries may come up with
        raise OriginalError(
            f"The original {url} could not be fetched ({type(error).__name__}). {_INSTEAD}"
        ) from error
    why = "too large" if len(data) > LARGEST_FETCH else "too slow"
    raise OriginalError(f"The original {url} is {why} to fetch. {_INSTEAD}")


def _options(scheme: str) -> dict[str, Any]:
    if scheme == "s3":
        limits = {
            "connect_timeout": FETCH_SECONDS,
            "read_timeout": FETCH_SECONDS,
            "retries": {"max_attempts": 1},
        }
        return {"config_kwargs": limits}
    # A redirect could lead to another host than the run names, so that none is followed.
    return {
        "client_kwargs": {"timeout": import_module("aiohttp").ClientTimeout(total=FETCH_SECONDS)},
        "allow_redirects": False,
    }


def _decode(source: Path | io.BytesIO) -> tuple[Pixels, tuple[int, int]]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(source) as image:
            size = image.size
            if image.getexif().get(0x0112, 1) >= 5:  # stored on its side
                size = size[1], size[0]
            image.draft("RGB", (LONGEST_SIDE, LONGEST_SIDE))
            upright = ImageOps.exif_transpose(image)
            if upright.mode.startswith(("I", "F")):
                deep = np.asarray(upright, np.float64)
                upright = Image.fromarray(np.clip(deep / SIXTEEN_BITS, 0, 255).astype(np.uint8))
            if "A" in upright.getbands() or "transparency" in upright.info:
                clear = upright.convert("RGBA")
                upright = Image.alpha_composite(Image.new("RGBA", clear.size, "white"), clear)
            colours = upright.convert("RGB")
            colours.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
            return np.asarray(colours), size


def crop_place(row: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """Return what the model saw of the original: x0, y0, x1, y1 in fractions of it."""
    width, height = float(row["width"]), float(row["height"])
    return row["crop_x0"] / width, row["crop_y0"] / height, row["crop_x1"] / width, row["crop_y1"] / height
