"""Decoding, views, normalising, thumbnails and image statistics against independent references."""

from __future__ import annotations

import io
import struct
import threading
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from cache.schema import THUMBNAIL_SIZE
from engine import images
from engine.images import ImageError, decode, decode_mask, encode_raw, thumbnail
from tests.engine.pictures import photo, pixels, saved
from tests.seeding import rng


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_keep_every_pixel(kind: str) -> None:
    image = photo(31, 17)
    assert (pixels(decode(saved(image, kind))) == pixels(image)).all()


def test_jpeg_equals_pillow() -> None:
    data = saved(photo(33, 21), "JPEG")
    assert (pixels(decode(data)) == pixels(Image.open(io.BytesIO(data)))).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_rotation(orientation: int, kind: str) -> None:
    image = photo(40, 24)
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    data = saved(image, kind, exif=exif.tobytes() if kind == "TIFF" else exif, **options)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    result = decode(data)
    assert result.size == ((24, 40) if orientation >= 5 else (40, 24))
    assert (pixels(result) == pixels(expected)).all()


def test_unreadable_exif_counts_as_upright() -> None:
    data = saved(photo(20, 10), "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xff" + bytes(20))
    assert decode(data).size == (20, 10)


def test_grey_is_replicated() -> None:
    grey = pixels(photo(19, 23).convert("L"))
    for data in (saved(Image.fromarray(grey), "PNG"), encode_raw(grey)):
        assert (pixels(decode(data)) == grey[:, :, None]).all()
    jpeg = saved(Image.fromarray(grey), "JPEG")
    rgb = pixels(decode(jpeg))
    assert (rgb[..., 0] == rgb[..., 1]).all()
    assert (rgb[..., 0] == rgb[..., 2]).all()


def test_bilevel() -> None:
    bits = rng.random((9, 13)) > 0.5
    assert (pixels(decode(saved(Image.fromarray(bits), "PNG"))) == bits[..., None] * 255).all()


def test_palette_without_and_with_transparency() -> None:
    image = photo(30, 20).quantize(16)
    expected = pixels(image.convert("RGB"))
    assert (pixels(decode(saved(image, "PNG"))) == expected).all()
    data = saved(image, "PNG", transparency=3)
    clear = pixels(image) == 3
    assert clear.any()
    result = pixels(decode(data))
    assert (result[clear] == 255).all()
    assert (result[~clear] == expected[~clear]).all()


def test_transparency_is_laid_on_white() -> None:
    rgba = rng.integers(0, 256, (14, 11, 4), dtype=np.uint8)
    alpha = rgba[..., 3:].astype(float) / 255
    expected = rgba[..., :3] * alpha + 255 * (1 - alpha)
    result = pixels(decode(saved(Image.fromarray(rgba, "RGBA"), "PNG"))).astype(float)
    assert np.abs(result - expected).max() <= 1
    la = rng.integers(0, 256, (14, 11, 2), dtype=np.uint8)
    alpha = la[..., 1:].astype(float) / 255
    expected = la[..., :1] * alpha + 255 * (1 - alpha)
    result = pixels(decode(saved(Image.fromarray(la, "LA"), "PNG"))).astype(float)
    assert np.abs(result - expected).max() <= 1


def test_one_transparent_colour_of_an_rgb_png() -> None:
    image = photo(12, 12)
    colour = image.getpixel((3, 4))
    result = decode(saved(image, "PNG", transparency=colour))
    assert result.getpixel((3, 4)) == (255, 255, 255)


def test_cmyk_jpeg_with_adobes_inverted_values() -> None:
    image = Image.new("RGB", (32, 32), (200, 40, 90))
    data = saved(image.convert("CMYK"), "JPEG", quality=100)
    assert b"Adobe" in data
    assert np.abs(pixels(decode(data)).astype(int) - (200, 40, 90)).max() <= 6


def test_16_bit_grey_is_scaled_and_not_clipped() -> None:
    values = rng.integers(0, 65536, (15, 18)).astype(np.uint16)
    values[0, 0], values[0, 1] = 0, 65535
    expected = np.rint(values / 65535 * 255)
    for kind in ("PNG", "TIFF"):
        result = pixels(decode(saved(Image.fromarray(values), kind)))
        assert (result == expected[..., None]).all()


def test_deep_tiff_by_the_range_it_uses() -> None:
    unit = rng.random((8, 9)).astype(np.float32)
    assert (pixels(decode(saved(Image.fromarray(unit), "TIFF")))[..., 0] == np.rint(unit * 255)).all()
    wide = rng.normal(0, 1e6, (8, 9)).astype(np.float32)
    scaled = np.rint((wide - wide.min()) / np.ptp(wide) * 255)
    assert np.abs(pixels(decode(saved(Image.fromarray(wide), "TIFF")))[..., 0] - scaled).max() <= 1
    whole = rng.integers(0, 65536, (8, 9)).astype(np.int32)
    whole[0, 0] = 65535
    assert (pixels(decode(saved(Image.fromarray(whole), "TIFF")))[..., 0] == np.rint(whole / 257)).all()
    holes = np.array([[np.nan, 1.0], [0.5, 0.0]], np.float32)
    assert pixels(decode(saved(Image.fromarray(holes), "TIFF")))[..., 0].tolist() == [[0, 255], [128, 0]]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_first_frame_of_an_animation(kind: str) -> None:
    red, blue = Image.new("RGB", (10, 8), (255, 0, 0)), Image.new("RGB", (10, 8), (0, 0, 255))
    result = decode(saved(red, kind, save_all=True, append_images=[blue], duration=50))
    assert result.size == (10, 8)
    assert np.abs(pixels(result).astype(int) - (255, 0, 0)).max() <= 3


def test_wide_gamut_profile_is_converted_and_srgb_is_left_alone() -> None:
    image = photo(16, 12)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert (pixels(decode(saved(image, "PNG", icc_profile=srgb))) == pixels(image)).all()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("XYZ")).tobytes()
    decode(saved(image, "PNG", icc_profile=lab))  # a profile that does not fit the mode changes nothing
    assert (pixels(decode(saved(image, "PNG", icc_profile=b"junk"))) == pixels(image)).all()
    wide = _wide_gamut_profile(srgb)
    expected = ImageCms.profileToProfile(
        image, ImageCms.ImageCmsProfile(io.BytesIO(wide)), ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    result = pixels(decode(saved(image, "PNG", icc_profile=wide)))
    assert (result == pixels(expected)).all()
    assert (result != pixels(image)).any()


def _wide_gamut_profile(srgb: bytes) -> bytes:
    """sRGB with its red primary moved outwards and another description."""
    data = bytearray(srgb.replace("sRGB".encode("utf-16-be"), "wide".encode("utf-16-be")))
    data = bytearray(bytes(data).replace(b"sRGB", b"wide"))
    count = struct.unpack(">I", data[128:132])[0]
    for k in range(count):
        tag, offset, _ = struct.unpack(">4sII", data[132 + 12 * k : 144 + 12 * k])
        if tag == b"rXYZ":
            data[offset + 8 : offset + 20] = struct.pack(">3i", *(int(v * 65536) for v in (0.6, 0.3, 0.0)))
    return bytes(data)


def kind_of(data: bytes) -> str:
    with pytest.raises(ImageError) as caught:
        decode(data)
    assert caught.value.stage == "decode"
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)
    return caught.value.kind


def test_empty_and_foreign_bytes() -> None:
    assert kind_of(b"") == "empty"
    assert kind_of(b"hello, this is text") == "not_an_image"
    assert kind_of(rng.bytes(5000).lstrip(b"\xff\x89GBIMR")) == "not_an_image"
    assert kind_of(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n") == "not_an_image"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.7, 0.95])
def test_truncated(kind: str, share: float) -> None:
    data = saved(photo(120, 90), kind)
    assert kind_of(data[: max(12, int(len(data) * share))]) == "truncated"


def test_damaged_bytes_never_escape() -> None:
    """Whatever is done to the bytes, the answer is a picture or an ImageError."""
    kinds: set[str] = set()
    for kind in ("JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "PPM"):
        data = bytearray(saved(photo(40, 30), kind))
        for _ in range(25):
            broken = data.copy()
            for at in rng.integers(0, len(broken), 6):
                broken[at] = rng.integers(0, 256)
            try:
                kinds.add(decode(bytes(broken)).mode)
            except ImageError as error:
                kinds.add(error.kind)
    assert kinds <= {"RGB", "truncated", "not_an_image", "too_large", "other"}


@pytest.mark.parametrize("side", [13_500, 20_000, 60_000])
def test_decompression_bomb_is_refused_from_its_header(side: int) -> None:
    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b""))
        + chunk(b"IEND", b"")
    )
    assert kind_of(bomb) == "too_large"


def test_limit_is_ours_and_pillows_settings_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import ImageFile

    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    data = saved(photo(50, 50), "PNG")
    monkeypatch.setattr(images, "MAX_PIXELS", 2499)
    assert kind_of(data) == "too_large"
    monkeypatch.setattr(images, "MAX_PIXELS", 2500)
    decode(data)
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
    assert not ImageFile.LOAD_TRUNCATED_IMAGES


def test_large_image_below_the_limit_warns_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Image, "MAX_IMAGE_PIXELS", 2000
    )  # Pillow warns above this and refuses above twice this
    assert decode(saved(photo(60, 50), "PNG")).size == (60, 50)


def test_decoding_in_threads_gives_the_same() -> None:
    data = [saved(photo(50 + k, 40), "JPEG") for k in range(8)]
    expected = [pixels(decode(d)) for d in data]
    wrong: list[int] = []

    def work() -> None:
        for _ in range(5):
            wrong.extend(k for k, d in enumerate(data) if (pixels(decode(d)) != expected[k]).any())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_mask_is_true_where_not_zero() -> None:
    mask = rng.random((21, 34)) > 0.6
    for image in (
        Image.fromarray(mask),
        Image.fromarray((mask * rng.integers(1, 255)).astype(np.uint8)),
        Image.fromarray(np.stack([0 * mask, mask * 9, 0 * mask], axis=2).astype(np.uint8)),
        Image.fromarray(np.dstack([mask * 255] * 3 + [np.full(mask.shape, 255)]).astype(np.uint8), "RGBA"),
    ):
        assert (decode_mask(saved(image, "PNG")) == mask).all()
    palette = Image.fromarray(mask.astype(np.uint8), "L").convert("P")
    palette.putpalette([255, 255, 255, 0, 0, 0])  # a white background is still index 0
    assert (decode_mask(saved(palette, "PNG")) == mask).all()
    with pytest.raises(ImageError):
        decode_mask(b"nope")


def test_thumbnail_size_and_likeness() -> None:
    for width, height in ((224, 224), (300, 150), (150, 299), (100, 120), (1000, 3)):
        view = pixels(photo(width, height))
        data = thumbnail(view)
        assert data == thumbnail(view)
        small = Image.open(io.BytesIO(data))
        assert small.format == "WEBP"
        assert max(small.size) == min(THUMBNAIL_SIZE, max(width, height))
        if min(width, height) > 50:
            smooth = Image.fromarray(view).resize((12, 12), Image.Resampling.BOX)
            again = small.convert("RGB").resize((12, 12), Image.Resampling.BOX)
            assert np.abs(pixels(smooth).astype(int) - pixels(again)).mean() < 6


def test_tiny_views_keep_every_pixel() -> None:
    colour, grey = pixels(photo(28, 28)), rng.integers(0, 256, (28, 28, 1), dtype=np.uint8)
    assert (pixels(Image.open(io.BytesIO(thumbnail(colour))).convert("RGB")) == colour).all()
    assert (pixels(Image.open(io.BytesIO(thumbnail(grey))).convert("RGB")) == grey).all()
