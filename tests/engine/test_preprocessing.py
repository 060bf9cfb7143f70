"""Views and normalising against torchvision, and where the crop lies."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import InterpolationMode

from cache.errors import ConfigError
from cache.schema import MASK_SIZE
from engine.images import decode
from engine.preprocessing import Preprocessing, build_preprocessing, read_preprocessing
from tests.engine.pictures import photo, pixels
from tests.seeding import rng

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


def test_real_photographs_decode() -> None:
    folder = Path(__file__).parents[3] / "shared" / "data" / "imagenet-sample"
    if not folder.is_dir():
        pytest.skip(f"the photographs of ../shared/data are not here ({folder.name})")
    preset = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
    for path in sorted(folder.glob("*.JPEG"))[::50]:
        image = decode(path.read_bytes())
        assert (Preprocessing((224, 224), 256).view(image).pixels == pixels(preset(image))).all()
