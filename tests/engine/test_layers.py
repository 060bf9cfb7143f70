"""The target layer is the last one with positions, wherever the architecture hides it."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import nn

from cache.errors import LayerError
from engine.layers import capturing, evaluating, find_target_layer, resolve_target_layer, trace
from tests.engine import small_networks as networks

EXPECTED = {
    "alexnet": ("features.11", 96),
    "vgg16": ("features.29", 64),
    "googlenet": ("inception5b", 64),
    "inception_v3": ("Mixed_7c", 128),
    "resnet50": ("layer4", 64),
    "densenet121": ("features", 64),
    "mobilenet_v2": ("features", 64),
    "mobilenet_v3_large": ("features", 64),
    "efficientnet_b0": ("features", 64),
    "convnext_tiny": ("features", 64),
    "squeezenet1_1": ("classifier.2", 64),
}
EXPECTED_TIMM = {
    "resnet18": "layer4",
    "efficientnet_b0": "bn2",
    "mobilenetv3_large_100": "blocks",
    "convnext_tiny": "norm_pre",
}


@pytest.fixture
def _no_initialisation(monkeypatch):
    # Weights do not matter here, and truncated normals take seconds a network.
    for name in ("trunc_normal_", "kaiming_normal_", "kaiming_uniform_", "normal_", "uniform_"):
        monkeypatch.setattr(nn.init, name, lambda tensor, *_, **__: tensor)


@pytest.mark.usefixtures("_no_initialisation")
@pytest.mark.parametrize("name", EXPECTED)
def test_torchvision_architectures(name):
    expected, size = EXPECTED[name]
    options = {"init_weights": False} if name in ("googlenet", "inception_v3", "vgg16") else {}
    network = torchvision.models.get_model(name, weights=None, **options)
    layer = find_target_layer(network, torch.randn(1, 3, size, size))
    assert layer.name == expected
    assert layer.height * layer.width > 1


@pytest.mark.usefixtures("_no_initialisation")
@pytest.mark.parametrize("name", EXPECTED_TIMM)
def test_timm_architectures(name):
    network = timm.create_model(name, pretrained=False)
    assert find_target_layer(network, torch.randn(1, 3, 64, 64)).name == EXPECTED_TIMM[name]


@pytest.mark.parametrize(
    ("network", "shape", "name", "call"),
    [
        (networks.PooledNet(), (3, 20, 20), "features", 0),
        (networks.FlatNet(), (3, 20, 20), "conv2", 0),
        (networks.InPlaceNet(), (3, 20, 20), "conv2", 0),
        (networks.LeNet(), (1, 28, 28), "features.4", 0),
        (networks.ReusedReluNet(), (3, 12, 16), "relu", 1),
        (networks.PointwiseEndNet(), (3, 12, 12), "stem", 0),
        (nn.Sequential(networks.PooledNet(), nn.Softmax(1)), (3, 20, 20), "0.features", 0),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, nn.Module) else None,
)
def test_hand_written_networks(network, shape, name, call):
    layer = find_target_layer(network, torch.randn(2, *shape))
    assert (layer.name, layer.call) == (name, call)


def test_a_reused_module_is_taken_at_its_last_spatial_call():
    network = networks.ReusedReluNet().eval()
    batch = torch.randn(2, 3, 9, 7)
    layer = resolve_target_layer(network, "relu", batch)
    assert (layer.call, layer.channels, layer.height, layer.width) == (1, 10, 9, 7)
    assert layer.identity == "relu#1"
    with capturing(network, layer) as capture:
        network(batch)
    expected = network.conv2(network.conv1(batch).relu()).relu()
    assert torch.equal(capture.activations, expected)


@pytest.mark.usefixtures("_no_initialisation")
@pytest.mark.parametrize("name", ["vit_b_16", "swin_t"])
def test_transformers_are_refused_with_the_reason(name):
    network = torchvision.models.get_model(name, weights=None)
    size = 224 if name == "vit_b_16" else 64
    with pytest.raises(LayerError, match=r"is a transformer: attention \('.*attn?|.*attention'\)"):
        find_target_layer(network, torch.randn(1, 3, size, size))


def test_attention_after_the_last_convolution_is_refused():
    with pytest.raises(LayerError, match=r"TokenNet is a transformer: attention \('attention'\)"):
        find_target_layer(networks.TokenNet(), torch.randn(1, 3, 16, 16))


def test_a_network_without_positions_is_refused():
    with pytest.raises(LayerError, match="no layer of MultiLayerPerceptron has an output with height"):
        find_target_layer(networks.MultiLayerPerceptron(), torch.randn(1, 3, 8, 8))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("feature", "has no layer 'feature': did you mean features"),
        ("zzz", "has no layer 'zzz': it has features, pool, drop, fc"),
        ("fc", r"'fc' is not spatial: its output has shape \(batch, 5\)"),
        ("pool", r"'pool' is not spatial: its output has shape \(batch, 12, 1, 1\)"),
    ],
)
def test_a_layer_that_cannot_be_explained_is_refused(name, sentence):
    with pytest.raises(LayerError, match=sentence):
        resolve_target_layer(networks.PooledNet(), name, torch.randn(1, 3, 16, 16))


def test_a_layer_that_does_not_run_is_refused():
    network = networks.PooledNet()
    network.spare = nn.Conv2d(3, 3, 3)
    with pytest.raises(LayerError, match="'spare' does not run"):
        resolve_target_layer(network, "spare", torch.randn(1, 3, 16, 16))


def test_a_named_layer_is_used():
    layer = resolve_target_layer(networks.PooledNet(), "features.1", torch.randn(1, 3, 16, 16))
    assert (layer.name, layer.channels, layer.height, layer.width) == ("features.1", 8, 8, 8)
    assert layer.identity == "features.1"


def test_tracing_and_evaluating_put_every_mode_back_after_errors_too():
    network = networks.FailingNet().train()
    network.features[1].eval()
    modes = [part.training for part in network.modules()]
    network.fail = True
    with pytest.raises(RuntimeError, match="the head broke"):
        trace(network, torch.randn(1, 3, 16, 16))
    assert [part.training for part in network.modules()] == modes
    assert not any(part._forward_hooks for part in network.modules())
    with evaluating(network):
        assert not any(part.training for part in network.modules())
    assert [part.training for part in network.modules()] == modes
