"""Networks of torchvision and timm: weights, preprocessing, class names."""

from __future__ import annotations

import urllib.error
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from engine.models import load_model
from tests.engine.networks import sentence
from tests.seeding import rng


def test_torchvision_with_random_weights() -> None:
    model = load_model("torchvision:squeezenet1_1")
    assert model.outputs == 1000
    assert model.weights == "random"
    assert model.classes is None
    assert "random weights" in model.notices[0]
    p = model.preprocessing
    assert (p.size, p.resize, p.interpolation) == ((224, 224), 256, "bilinear")
    assert p.mean == (0.485, 0.456, 0.406)
    assert load_model("torchvision:squeezenet1_1", image_size=64, classes=["a", "b"]).outputs == 2


def test_torchvision_weights_bring_preprocessing_and_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The download is replaced; everything else is torchvision's own."""
    from torchvision.models import SqueezeNet1_1_Weights, squeezenet1_1

    state = squeezenet1_1(weights=None).state_dict()
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: state)
    for name in ("DEFAULT", "IMAGENET1K_V1"):
        model = load_model("torchvision:squeezenet1_1", weights=name)
        assert model.classes == SqueezeNet1_1_Weights.DEFAULT.meta["categories"]
        assert model.weights == "IMAGENET1K_V1"
        assert not model.notices
        image = Image.fromarray(rng.integers(0, 256, (270, 333, 3), dtype=np.uint8))
        expected = SqueezeNet1_1_Weights.DEFAULT.transforms()(image)
        x = model.preprocessing.normalise(model.preprocessing.view(image).pixels[None])[0]
        assert (x - expected).abs().max() <= 1e-6


def test_download_that_fails_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", fail)
    text = sentence(lambda: load_model("torchvision:squeezenet1_1", weights="DEFAULT"))
    assert "could not be downloaded" in text
    assert "--checkpoint" in text
    monkeypatch.setattr("timm.create_model", fail)
    assert "could not be downloaded" in sentence(lambda: load_model("timm:resnet18", weights="DEFAULT"))


def test_wrong_published_names() -> None:
    assert "close: resnet50" in sentence(lambda: load_model("torchvision:resnet5o"))
    assert "no classifier" in sentence(lambda: load_model("torchvision:fasterrcnn_resnet50_fpn"))
    assert "choose IMAGENET1K_V1, IMAGENET1K_V2" in sentence(
        lambda: load_model("torchvision:resnet50", weights="V3")
    )
    assert "timm has no model" in sentence(lambda: load_model("timm:resnt18"))
    assert "a1_in1k" in sentence(lambda: load_model("timm:resnet18", weights="nope"))


def test_timm_preprocessing_equals_timms_own() -> None:
    import timm
    from timm.data import create_transform, resolve_data_config

    for name in ("test_resnet", "test_vit"):
        model = load_model(f"timm:{name}")
        config = resolve_data_config({}, model=timm.create_model(name))
        transform = create_transform(**config, is_training=False)
        for _ in range(5):
            height, width = rng.integers(100, 300, 2)
            image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
            x = model.preprocessing.normalise(model.preprocessing.view(image).pixels[None])[0]
            assert (x - transform(image)).abs().max() <= 1e-6
        assert model.weights == "random"


def test_timm_weights_bring_names(monkeypatch: pytest.MonkeyPatch) -> None:
    import timm

    create = timm.create_model
    monkeypatch.setattr("timm.create_model", lambda name, pretrained: create(name, pretrained=False))
    model = load_model("timm:test_resnet", weights="DEFAULT")
    assert model.classes is not None
    assert model.classes[:2] == ["tench", "goldfish"]
    assert "random" not in model.weights


@pytest.mark.parametrize("name", ["googlenet", "squeezenet1_0", "mobilenet_v3_small"])
def test_checkpoint_says_how_many_outputs(name: str, tmp_path: Path) -> None:
    from torchvision import models

    keywords = {"init_weights": False} if name == "googlenet" else {}
    for outputs in (1, 5):
        network = models.get_model(name, weights=None, num_classes=outputs, **keywords)
        torch.save({"state_dict": network.state_dict()}, tmp_path / "w.pt")
        model = load_model(f"torchvision:{name}", checkpoint=str(tmp_path / "w.pt"), image_size=96)
        assert model.outputs == max(outputs, 2)
        assert model.weights == "checkpoint w.pt"
        x = torch.randn(2, 3, 96, 96)
        with torch.no_grad():
            assert torch.allclose(model.module(x), network.eval()(x), atol=1e-5)


def test_googlenet_without_its_auxiliary_heads(tmp_path: Path) -> None:
    from torchvision import models

    network = models.googlenet(weights=None, num_classes=4, init_weights=False, aux_logits=False)
    torch.save(network.state_dict(), tmp_path / "w.pt")
    assert load_model("torchvision:googlenet", checkpoint=str(tmp_path / "w.pt"), image_size=64).outputs == 4


def test_timm_checkpoint(tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    save_file(timm.create_model("test_resnet", num_classes=6).state_dict(), tmp_path / "w.safetensors")
    model = load_model("timm:test_resnet", checkpoint=str(tmp_path / "w.safetensors"))
    assert model.outputs == 6
    assert any("published weights" in notice for notice in model.notices)
