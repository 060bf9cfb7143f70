"""The target layer is the last one with positions, wherever the architecture hides it."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import nn

from cache.errors import LayerError, ModelError
from engine.attribution.activation import ActivationExplainer
from engine.layers import capturing, evaluating, find_target_layer, resolve_target_layer, trace
from engine.tracing import reached
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


def test_attention_after_the_last_convolution_is_refused():
    with pytest.raises(LayerError, match=r"TokenNet is a transformer: attention \('attention'\)"):
        find_target_layer(networks.TokenNet(), torch.randn(1, 3, 16, 16))


class SideBranch(networks.PooledNet):
    """Computes a branch last whose output no score depends on."""

    def __init__(self):
        super().__init__()
        self.side = nn.Sequential(nn.Conv2d(12, 12, 3, padding=1), nn.ReLU())

    def forward(self, x):
        features = self.features(x)
        logits = self.fc(self.pool(features).flatten(1))
        self.seen = self.side(features)
        return logits


@pytest.mark.parametrize("silent", [False, True])
def test_a_side_branch_that_runs_last_is_passed_over(silent):
    network, batch = SideBranch().eval(), torch.randn(2, 3, 16, 16)
    if silent:
        # Every unit of the layer is zero on the probe: it is the one that the scores depend on all the same.
        nn.init.constant_(network.features[3].bias, -1e3)
    layer = find_target_layer(network, batch)
    assert layer.name == "features"
    explainer = ActivationExplainer(network, layer, batch)
    assert explainer.differentiable
    assert "seen" in vars(network)
    assert resolve_target_layer(network, "features.0", batch).name == "features.0"
    with pytest.raises(LayerError, match=r"no gradient at the positions of layer 'side.0'.*name 'features'"):
        resolve_target_layer(network, "side.0", batch)


def test_where_gradients_reach():
    network, batch = SideBranch().train(), torch.randn(2, 3, 16, 16)
    network.fc.weight.requires_grad_(False)
    asking = [p.requires_grad for p in network.parameters()]
    found = reached(network, batch)
    assert {name for name, _ in found} == {"features", "pool", *(f"features.{i}" for i in range(5))}
    assert [p.requires_grad for p in network.parameters()] == asking
    assert all(p.grad is None for p in network.parameters())
    assert all(part.training for part in network.modules())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in network.modules())


@pytest.mark.parametrize("make", [networks.FrozenBackboneNet, networks.PooledNet])
def test_gradients_reach_behind_what_the_network_cuts_off_itself(make):
    assert ("backbone" if make is networks.FrozenBackboneNet else "features", 0) in reached(
        make(), torch.randn(2, 3, 16, 16)
    )


def test_nothing_is_known_where_there_are_no_gradients():
    class Rounded(networks.PooledNet):
        def forward(self, x):
            return super().forward(x).detach()

    network, batch = Rounded(), torch.randn(2, 3, 16, 16)
    assert find_target_layer(network, batch).name == "features"
    assert resolve_target_layer(network, "features.0", batch).name == "features.0"


def test_weights_without_numbers_are_refused():
    network = networks.PooledNet().to("meta")
    for look in (find_target_layer, lambda *given: resolve_target_layer(given[0], "features", given[1])):
        with pytest.raises(ModelError, match=r"PooledNet are on the meta device .*'features.0.weight'"):
            look(network, torch.randn(2, 3, 16, 16))


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")
def test_quantised_outputs_are_no_layer():
    class Quantised(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("weight", torch.quantize_per_tensor(torch.randn(4, 3), 0.1, 0, torch.qint8))
            self.stub = Stub()

        def forward(self, x):
            return self.stub(x).dequantize().mean((2, 3)) @ self.weight.dequantize().T

    class Stub(nn.Module):
        def forward(self, x):
            return torch.quantize_per_tensor(x, 0.1, 0, torch.quint8)

    with pytest.raises(LayerError, match="floating-point numbers, because it is quantised"):
        find_target_layer(Quantised(), torch.randn(2, 3, 8, 8))
    with pytest.raises(LayerError, match="'stub' is not spatial: its output is not a tensor of numbers"):
        resolve_target_layer(Quantised(), "stub", torch.randn(2, 3, 8, 8))


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
