"""Originals for a bundle: every pixel where it was, and nothing else that stood in the file."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from cache.manifest import Manifest
from dashboard.original_files import ORIENTATION, bare_image, original_reader
from tests.seeding import rng

SECRET = "Ann's camera, 52.1 N"


def picture(mode: str = "RGB", size: tuple[int, int] = (40, 24)) -> Image.Image:
    smooth = Image.fromarray(rng.integers(0, 255, (2, 3, 3), dtype=np.uint8)).resize(
        size, Image.Resampling.BICUBIC
    )
    return smooth.convert(mode)


def saved(image: Image.Image, form: str, orientation: int = 1, **more: object) -> bytes:
    exif = Image.Exif()
    exif[0x010F] = SECRET
    exif[ORIENTATION] = orientation
    buffer = io.BytesIO()
    image.save(buffer, form, exif=exif, **more)
    return buffer.getvalue()


def pixels(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_keeps_its_pixels_bit_by_bit(progressive: bool) -> None:
    data = saved(picture(), "JPEG", comment=SECRET.encode(), progressive=progressive, xmp=SECRET.encode())
    bare = bare_image(data, (40, 24))
    assert bare is not None
    assert SECRET.encode() in data
    assert SECRET.encode() not in bare
    assert bare.startswith(b"\xff\xd8")
    np.testing.assert_array_equal(pixels(bare), pixels(data))


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA", "I;16"])
def test_a_png_keeps_its_pixels_bit_by_bit(mode: str) -> None:
    words = PngImagePlugin.PngInfo()
    words.add_text("Author", SECRET)
    words.add_itxt("Place", SECRET)
    image = picture("L").convert("I;16") if mode == "I;16" else picture(mode)
    data = saved(image, "PNG", pnginfo=words)
    bare = bare_image(data, (40, 24))
    assert bare is not None
    assert SECRET.encode() in data
    assert SECRET.encode() not in bare
    np.testing.assert_array_equal(pixels(bare), pixels(data))


def test_what_follows_the_picture_is_left_behind() -> None:
    for form in ("JPEG", "PNG"):
        data = saved(picture(), form) + b"hidden " + SECRET.encode() + b"\xff\xd9"
        bare = bare_image(data, (40, 24))
        assert bare is not None
        assert SECRET.encode() not in bare
        assert np.abs(pixels(bare).astype(int) - pixels(data)).mean() < 5


def test_a_picture_on_its_side_is_set_upright() -> None:
    image = picture()
    bare = bare_image(saved(image, "JPEG", orientation=6, quality=95), (24, 40))
    assert bare is not None
    assert SECRET.encode() not in bare
    upright = np.asarray(image.transpose(Image.Transpose.ROTATE_270)).astype(int)
    assert np.abs(pixels(bare) - upright).mean() < 5


@pytest.mark.parametrize("form", ["WEBP", "TIFF", "GIF", "BMP"])
def test_other_forms_become_png(form: str) -> None:
    buffer = io.BytesIO()
    picture("P" if form == "GIF" else "RGB").save(
        buffer, form, **({"lossless": True} if form == "WEBP" else {})
    )
    bare = bare_image(buffer.getvalue(), (40, 24))
    assert bare is not None
    assert bare.startswith(b"\x89PNG")
    np.testing.assert_array_equal(pixels(bare), pixels(buffer.getvalue()))


def test_only_what_the_run_explained_is_given(tmp_path: Path) -> None:
    root = tmp_path / "data"
    root.mkdir()
    (root / "a.jpg").write_bytes(saved(picture(), "JPEG"))
    (root / "b.jpg").write_bytes(b"no picture")
    (tmp_path / "c.jpg").write_bytes(saved(picture(), "JPEG"))
    read = original_reader(Manifest("a", dataset={"root": str(root)}))
    row = {"width": 40, "height": 24}
    assert read({"uri": "a.jpg", **row}) is not None
    assert read({"uri": "a.jpg", "width": 41, "height": 24}) is None  # it has changed since
    for uri in (
        "b.jpg",
        "nothing.jpg",
        "../c.jpg",
        str(tmp_path / "c.jpg"),
        "https://example.org/c.jpg",
        "a\0b",
    ):
        assert read({"uri": uri, **row}) is None
