"""Decoding, views, normalising, thumbnails and image statistics against independent references."""

from __future__ import annotations

import colorsys
import io
import math
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageOps
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from cache.errors import ConfigError
from cache.schema import MASK_SIZE, THUMBNAIL_SIZE
from engine import images
from engine.image_statistics import IMAGE_STATISTICS, image_statistics
from engine.images import ImageError, decode, decode_mask, encode_raw, thumbnail
from engine.preprocessing import Preprocessing, build_preprocessing, read_preprocessing

rng = np.random.default_rng()


def photo(width: int, height: int) -> Image.Image:
    """A smooth random picture with some noise, as photographs are."""
    coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)).resize((width, height), 3)
    noisy = np.asarray(coarse, np.int16) + rng.integers(-20, 20, (height, width, 3))
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image)


# --- decoding -----------------------------------------------------------------------------------------------


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


# --- what cannot be decoded ---------------------------------------------------------------------------------


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


# --- views --------------------------------------------------------------------------------------------------

MODES = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}


@pytest.mark.parametrize("interpolation", list(MODES))
@pytest.mark.parametrize(
    ("size", "resize"), [(32, 37), (32, None), (33, 40), (48, 30), ((24, 40), 44), ((40, 24), 30)]
)
def test_crop_is_bit_equal_to_torchvision(
    interpolation: str, size: int | tuple[int, int], resize: int | None
) -> None:
    height, width = (size, size) if isinstance(size, int) else size
    p = Preprocessing((height, width), resize, interpolation=interpolation)  # type: ignore[arg-type]
    reference = transforms.Compose(
        [transforms.Resize(resize or height, MODES[interpolation]), transforms.CenterCrop((height, width))]
    )
    for _ in range(25):
        image = photo(*(int(v) for v in rng.integers(8, 150, 2)))
        view = p.view(image)
        assert view.pixels.dtype == np.uint8
        assert (view.pixels == pixels(reference(image))).all()
        assert (view.width, view.height) == image.size


def test_image_of_the_right_size_is_left_alone() -> None:
    image = photo(28, 28)
    view = Preprocessing((28, 28)).view(image)
    assert (view.pixels == pixels(image)).all()
    assert view.crop == (0, 0, 28, 28)


def test_crop_rectangle_lies_where_the_pixels_come_from() -> None:
    """Painting the rectangle green on the original gives a view of nothing but green, inside and at its edges."""
    for fit, resize in (("crop", 40), ("crop", None), ("squash", None), ("squash", 40)):
        for _ in range(10):
            width, height = (int(v) for v in rng.integers(60, 200, 2))
            p = Preprocessing((32, 32), resize, fit, "nearest")  # type: ignore[arg-type]
            view = p.view(photo(width, height))
            x0, y0, x1, y1 = view.crop
            assert 0 <= x0 < x1 <= width + 1e-6
            assert 0 <= y0 < y1 <= height + 1e-6
            canvas = Image.new("RGB", (width, height), (255, 0, 0))
            canvas.paste((0, 255, 0), (math.floor(x0), math.floor(y0), math.ceil(x1), math.ceil(y1)))
            assert (p.view(canvas).pixels == (0, 255, 0)).all()
            shrunk = Image.new("RGB", (width, height), (255, 0, 0))
            step_x, step_y = (x1 - x0) / 32, (y1 - y0) / 32
            box = (x0 + step_x, y0 + step_y, x1 - step_x, y1 - step_y)
            shrunk.paste((0, 255, 0), tuple(round(v) for v in box))  # type: ignore[arg-type]
            assert (p.view(shrunk).pixels[[0, -1]] == (255, 0, 0)).all()


def test_squash_equals_torchvision() -> None:
    for _ in range(10):
        image = photo(*(int(v) for v in rng.integers(8, 150, 2)))
        view = Preprocessing((30, 44), fit="squash").view(image)
        assert (view.pixels == pixels(transforms.Resize((30, 44))(image))).all()
        assert view.crop == (0, 0, *image.size)


@pytest.mark.parametrize(("width", "height"), [(100, 50), (50, 100), (37, 91), (64, 64), (5, 200)])
def test_pad_keeps_everything_and_fills_with_black(width: int, height: int) -> None:
    image = Image.new("RGB", (width, height), (200, 100, 50))
    view = Preprocessing((64, 64), fit="pad").view(image)
    coloured = (view.pixels == (200, 100, 50)).all(axis=2)
    assert ((view.pixels == 0).all(axis=2) | coloured).all()
    rows, columns = np.flatnonzero(coloured.any(axis=1)), np.flatnonzero(coloured.any(axis=0))
    assert max(len(rows), len(columns)) == 64
    x0, y0, x1, y1 = view.crop
    assert (0 - x0) / (x1 - x0) * 64 == pytest.approx(columns[0])
    assert (width - x0) / (x1 - x0) * 64 == pytest.approx(columns[-1] + 1)
    assert (0 - y0) / (y1 - y0) * 64 == pytest.approx(rows[0])
    assert (height - y0) / (y1 - y0) * 64 == pytest.approx(rows[-1] + 1)


def test_not_square_without_resize_covers_the_input() -> None:
    p = Preprocessing((24, 48))
    for _ in range(30):
        view = p.view(Image.new("RGB", tuple(int(v) for v in rng.integers(5, 120, 2)), (9, 9, 9)))
        assert view.pixels.shape == (24, 48, 3)
        assert (view.pixels == 9).all()  # no padding anywhere


def test_one_channel_equals_torchvisions_grayscale() -> None:
    p = Preprocessing((28, 28), 30, channels=1, mean=(0.1,), std=(0.3,))
    reference = transforms.Compose([transforms.Grayscale(), transforms.Resize(30), transforms.CenterCrop(28)])
    image = photo(61, 45)
    view = p.view(image)
    assert view.pixels.shape == (28, 28, 1)
    assert (view.pixels[:, :, 0] == pixels(reference(image))).all()


def test_normalise_equals_torchvision() -> None:
    mean, std = tuple(rng.random(3)), tuple(rng.random(3) + 0.1)
    p = Preprocessing((20, 26), mean=mean, std=std)
    reference = transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, std)])
    batch = rng.integers(0, 256, (5, 20, 26, 3), dtype=np.uint8)
    expected = torch.stack([reference(Image.fromarray(image)) for image in batch])
    for given in (batch, torch.from_numpy(batch)):
        x = p.normalise(given)
        assert x.shape == (5, 3, 20, 26)
        assert x.dtype == torch.float32
        assert x.is_contiguous(memory_format=torch.channels_last)
        assert (x - expected).abs().max() <= 1e-6
    batch.flags.writeable = False
    p.normalise(batch)  # a read-only array is no reason for a warning
    grey = Preprocessing((20, 26), channels=1, mean=(0.5,), std=(0.25,))
    x = grey.normalise(batch[..., :1])
    assert x.is_contiguous()
    assert torch.equal(x[:, 0], (torch.from_numpy(batch[..., 0].copy()).float() / 255 - 0.5) / 0.25)


def test_mask_and_boxes_over_the_view() -> None:
    image = photo(120, 80)
    view = Preprocessing((32, 32), 40).view(image)
    x0, y0, x1, y1 = view.crop
    mask = np.zeros((80, 120), bool)
    mask[20:50, 40:90] = True
    fine = np.zeros((MASK_SIZE, MASK_SIZE))
    steps = 20  # the slow way: sample points of every cell
    for row in range(MASK_SIZE):
        for column in range(MASK_SIZE):
            ys = y0 + (row + (np.arange(steps) + 0.5) / steps) / MASK_SIZE * (y1 - y0)
            xs = x0 + (column + (np.arange(steps) + 0.5) / steps) / MASK_SIZE * (x1 - x0)
            fine[row, column] = mask[np.ix_(ys.astype(int), xs.astype(int))].mean()
    result = view.mask(mask)
    sure = np.abs(fine - 0.5) > 0.1
    assert (result == (fine > 0.5))[sure].all()
    half = view.mask(mask[::2, ::2])  # a mask of half the resolution says the same but for its own edges
    assert (half == result).mean() > 0.97
    boxes = view.boxes(np.array([[40.0, 20.0, 90.0, 50.0], [-9.0, -9.0, -1.0, -1.0]]))
    expected = [(40 - x0) / (x1 - x0), (20 - y0) / (y1 - y0), (90 - x0) / (x1 - x0), (50 - y0) / (y1 - y0)]
    assert boxes.tolist() == [pytest.approx(np.clip(expected, 0, 1).tolist(), abs=1e-6)]
    padded = Preprocessing((32, 32), fit="pad").view(image)
    everything = padded.mask(np.ones((80, 120), bool))
    assert not everything[0].any()
    assert everything[MASK_SIZE // 2].all()


def test_fingerprint_changes_with_everything() -> None:
    base = Preprocessing((32, 32), 36)
    assert base.fingerprint == Preprocessing((32, 32), 36).fingerprint
    others = [
        Preprocessing((32, 33), 36),
        Preprocessing((32, 32), 37),
        Preprocessing((32, 32), 36, "pad"),
        Preprocessing((32, 32), 36, interpolation="bicubic"),
        Preprocessing((32, 32), 36, mean=(0.1, 0.0, 0.0)),
        Preprocessing((32, 32), 36, std=(0.9, 1.0, 1.0)),
        Preprocessing((32, 32), 36, mean=(0.0,), std=(1.0,), channels=1),
    ]
    assert len({p.fingerprint for p in [base, *others]}) == len(others) + 1


@pytest.mark.parametrize(
    ("values", "channels", "said"),
    [
        ({"size": 0}, 3, "size"),
        ({"size": 32, "resize": 0}, 3, "resize"),
        ({"size": 32, "fit": "stretch"}, 3, "crop, squash or pad"),
        ({"size": 32, "interpolation": "cubic"}, 3, "bicubic"),
        ({"size": 32, "mean": (0.1, 0.2)}, 3, "one number or three"),
        ({"size": 32, "std": (0.1, 0.2, 0.3)}, 1, "give one number"),
        ({"size": 32, "std": 0.0}, 3, "above 0"),
        ({"size": 32, "mean": math.nan}, 3, "mean"),
        ({"size": 32}, 4, "4 input channels"),
        ({"size": "big"}, 3, "number of pixels"),
        ({"size": 32, "men": 0.5}, 3, "unknown key 'men'"),
        ({"size": 32, "mean": "0.5"}, 3, "list of numbers"),
    ],
)
def test_impossible_preprocessing_is_one_sentence(
    values: dict[str, object], channels: int, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        build_preprocessing(read_preprocessing(values, "a test"), channels)


# --- thumbnails and statistics ------------------------------------------------------------------------------


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


def slow_statistics(view: np.ndarray) -> dict[str, float]:
    rgb = view.astype(float) / 255
    luma = rgb @ (0.299, 0.587, 0.114)
    height, width = luma.shape
    saturations = [colorsys.rgb_to_hsv(*p)[1] for p in rgb.reshape(-1, 3)]
    laplacian = [
        (4 * luma[r, c] - luma[r - 1, c] - luma[r + 1, c] - luma[r, c - 1] - luma[r, c + 1]) / 4
        for r in range(1, height - 1)
        for c in range(1, width - 1)
    ]
    chroma = np.array([1, np.exp(2j * np.pi / 3), np.exp(4j * np.pi / 3)])
    mean = complex((rgb.reshape(-1, 3) @ chroma).mean())
    return {
        "brightness": luma.mean(),
        "contrast": luma.std(),
        "saturation": float(np.mean(saturations)),
        "hue": float(np.degrees(np.angle(mean)) % 360),
        "sharpness": float(np.sqrt(np.mean(np.square(laplacian)))),
    }


@pytest.mark.parametrize(("width", "height"), [(17, 23), (40, 31)])
def test_statistics_against_the_slow_way(width: int, height: int) -> None:
    view = pixels(photo(width, height))
    measured, expected = image_statistics(view), slow_statistics(view)
    assert set(measured) == set(expected) == set(IMAGE_STATISTICS)
    for name, value in expected.items():
        assert measured[name] == pytest.approx(value, abs=0.01 if name == "hue" else 0.003), name


def test_statistics_of_known_pictures() -> None:
    def flat(*colour: int) -> dict[str, float]:
        return image_statistics(np.full((16, 16, 3), colour, np.uint8))

    for colour, hue in (((255, 0, 0), 0), ((0, 255, 0), 120), ((0, 0, 255), 240), ((255, 255, 0), 60)):
        assert math.remainder(flat(*colour)["hue"] - hue, 360) == pytest.approx(0, abs=1e-6)
        assert flat(*colour)["saturation"] == 1
    assert math.isnan(flat(128, 128, 128)["hue"])
    assert flat(255, 255, 255)["brightness"] == 1
    assert flat(77, 10, 200)["contrast"] == flat(77, 10, 200)["sharpness"] == 0
    board = np.indices((16, 16)).sum(axis=0) % 2 * 255
    grey = image_statistics(board[:, :, None].astype(np.uint8))
    assert grey["contrast"] == pytest.approx(0.5)
    assert grey["sharpness"] == pytest.approx(1.0, abs=1e-6)
    assert grey["saturation"] == 0
    assert math.isnan(grey["hue"])
    assert math.isnan(image_statistics(np.zeros((2, 5, 3), np.uint8))["sharpness"])


@pytest.mark.parametrize("name", list(IMAGE_STATISTICS))
def test_statistics_stay_within_their_declared_range(name: str) -> None:
    field = IMAGE_STATISTICS[name].field
    assert field.name == name
    assert field.description
    assert field.formula
    for view in (
        rng.integers(0, 256, (20, 20, 3)),
        rng.integers(0, 2, (20, 20, 3)) * 255,
        pixels(photo(20, 20)),
    ):
        value = image_statistics(view.astype(np.uint8))[name]
        assert math.isnan(value) or field.low <= value <= field.high + 1e-6  # type: ignore[operator]


def test_real_photographs_decode() -> None:
    folder = Path(__file__).parents[3] / "shared" / "data" / "imagenet-sample"
    if not folder.is_dir():
        pytest.skip(f"the photographs of ../shared/data are not here ({folder.name})")
    preset = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
    for path in sorted(folder.glob("*.JPEG"))[::50]:
        image = decode(path.read_bytes())
        assert (Preprocessing((224, 224), 256).view(image).pixels == pixels(preset(image))).all()
