"""The demo's network: its shape, its training, and the door through which the engine takes it."""

import numpy as np
import pytest
import torch
from PIL import Image

from engine.demo_images import CLASSES, write_demo
from engine.demo_network import PREPROCESSING, _cover_some, _read_part, demo_network, train_demo_network
from engine.models import load_model


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    write_demo(folder, train=32, audit=4, seed=3, workers=1)
    return folder


@pytest.fixture
def trained(data, tmp_path):
    return train_demo_network(data, tmp_path / "network.pt", seed=1, epochs=1), tmp_path / "network.pt"


def test_the_last_map_has_14_cells_a_side_and_the_head_is_linear_on_its_mean():
    network = demo_network().eval()
    images = torch.randn(3, 3, 112, 112)
    with torch.no_grad():
        features = network.features(images)
        assert features.shape[2:] == (14, 14)
        expected = features.mean((2, 3)) @ network.classifier.weight.T + network.classifier.bias
        torch.testing.assert_close(network(images), expected)
    assert network.classes == sorted(CLASSES)


def test_training_is_repeatable_and_leaves_the_random_state_alone(data, trained, tmp_path):
    metrics, path = trained
    before = torch.get_rng_state()
    again = train_demo_network(data, tmp_path / "again.pt", seed=1, epochs=1)
    assert torch.equal(before, torch.get_rng_state())
    other = train_demo_network(data, tmp_path / "other.pt", seed=2, epochs=1)
    first, second, third = (
        torch.load(tmp_path / name, weights_only=True) for name in (path.name, "again.pt", "other.pt")
    )
    assert again == metrics
    assert other != metrics
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["classifier.weight"], third["classifier.weight"])


def test_training_learns_and_reports_every_batch(data, tmp_path):
    seen = []
    metrics = train_demo_network(
        data, tmp_path / "n.pt", epochs=4, progress=lambda done, total, loss: seen.append((done, total, loss))
    )
    assert [step[:2] for step in seen] == [(n, 4) for n in range(1, 5)]
    assert metrics.images == 32
    assert metrics.epochs == 4
    assert metrics.loss == pytest.approx(seen[-1][2])
    assert metrics.loss < seen[0][2]


def test_pictures_are_read_as_the_engine_will_see_them(data):
    pixels, labels = _read_part(data, "train.csv")
    assert pixels.shape == (32, 112, 112, 3)
    assert sorted(set(labels.tolist())) == [0, 1, 2, 3]
    with Image.open(data / "train" / CLASSES[1] / "0000.jpg") as image:
        expected = np.asarray(image.resize((112, 112), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(pixels[1].numpy(), expected)


def test_covering_greys_one_box_around_the_middle_of_about_the_share_asked_for():
    images = torch.rand(400, 3, 40, 40) + 1
    covered = _cover_some(images)
    gone = (covered == 0).all(dim=1)
    assert torch.equal(covered[~gone[:, None].expand_as(covered)], images[~gone[:, None].expand_as(images)])
    assert 0.45 < gone.flatten(1).any(1).float().mean() < 0.75
    for box in gone[gone.flatten(1).any(1)][:20]:
        rows, columns = box.any(1), box.any(0)
        assert torch.equal(box, rows[:, None] & columns[None, :])
        assert 0.3 < rows.float().mean() < 0.75


def test_the_engine_loads_it_by_its_factory_with_checkpoint_classes_and_preprocessing(trained):
    _, path = trained
    model = load_model("engine/demo_network.py:demo_network", checkpoint=str(path))
    assert model.classes == list(CLASSES)
    assert model.preprocessing == PREPROCESSING
    assert model.outputs == len(CLASSES)
