"""Guided backpropagation: the rule written out by hand, however a rectifier is written, and refused where it is not defined."""

from __future__ import annotations

import captum.attr
import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

from engine.layers import find_target_layer
from tests.engine import small_networks as networks
from tests.engine.gradient_cases import assert_close, explain, lively, maps_of, refused

INFINITY = float("inf")


class Rectified(nn.Module):
    """Two hidden layers, with a rectifier of any spelling behind each."""

    def __init__(self, rectify, twice=False):
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(48, 20), nn.Linear(20, 15), nn.Linear(15, 4)
        if isinstance(rectify, type):
            self.first = rectify()
            self.second = self.first if twice else rectify()
        else:
            self.first = self.second = rectify

    def forward(self, x):
        x = self.first(self.fc1(x.flatten(1)))
        return self.fc3(self.second(self.fc2(x)))


class InPlaceReLU(nn.ReLU):
    def __init__(self):
        super().__init__(inplace=True)


def statement(x):
    torch.relu_(x)
    return x


SPELLINGS = {
    "module": (Rectified(nn.ReLU), INFINITY),
    "in_place": (Rectified(InPlaceReLU), INFINITY),
    "reused": (Rectified(nn.ReLU, twice=True), INFINITY),
    "reused_in_place": (Rectified(InPlaceReLU, twice=True), INFINITY),
    "functional": (Rectified(functional.relu), INFINITY),
    "functional_in_place": (Rectified(lambda x: functional.relu(x, inplace=True)), INFINITY),
    "torch": (Rectified(torch.relu), INFINITY),
    "method": (Rectified(lambda x: x.relu()), INFINITY),
    "statement": (Rectified(statement), INFINITY),
    "clamp": (Rectified(lambda x: x.clamp(min=0)), INFINITY),
    "clamp_min": (Rectified(lambda x: x.clamp_min(0)), INFINITY),
    "threshold": (Rectified(lambda x: functional.threshold(x, 0, 0)), INFINITY),
    "maximum": (Rectified(lambda x: torch.maximum(x, torch.zeros(()))), INFINITY),
    "relu6": (Rectified(nn.ReLU6), 6.0),
    "functional_relu6": (Rectified(functional.relu6), 6.0),
    "clamp6": (Rectified(lambda x: x.clamp(0, 6)), 6.0),
    "hardtanh": (Rectified(lambda x: functional.hardtanh(x, 0, 6)), 6.0),
}


def by_hand(network, image, target, limit):
    """The rule, one matrix after the other; also the plain gradient, for comparison."""
    w1, w2, w3 = (fc.weight.detach().double() for fc in (network.fc1, network.fc2, network.fc3))
    b1, b2 = network.fc1.bias.detach().double(), network.fc2.bias.detach().double()
    a1 = w1 @ image.double().flatten() + b1
    a2 = w2 @ a1.clamp(0, limit) + b2
    open1, open2 = ((a > 0) & (a < limit) for a in (a1, a2))
    guided, plain = w3[target], w3[target]
    guided = w2.T @ torch.where(open2 & (guided > 0), guided, 0.0)
    guided = w1.T @ torch.where(open1 & (guided > 0), guided, 0.0)
    plain = w1.T @ torch.where(open1, w2.T @ torch.where(open2, plain, 0.0), 0.0)
    return guided.view(image.shape).abs().amax(0), plain.view(image.shape).abs().amax(0)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_the_rule_by_hand_at_every_spelling_of_a_rectifier(spelling):
    network, limit = SPELLINGS[spelling]
    network = lively(network)
    batch, targets = 4 * torch.randn(6, 3, 4, 4), torch.randint(0, 4, (6,))
    found = maps_of(network, batch, targets, "guided_backprop")
    pairs = [by_hand(network, x, int(t), limit) for x, t in zip(batch, targets, strict=True)]
    assert_close(found, torch.stack([guided for guided, _ in pairs]))
    plain = torch.stack([p for _, p in pairs])
    assert_close(maps_of(network, batch, targets, "saliency"), plain)
    assert (found - plain).abs().max() > 0.05 * plain.max()


@pytest.mark.parametrize("name", ["vgg16", "resnet50"])
def test_it_equals_captum_where_every_rectifier_is_a_relu_module(name):
    make = {"vgg16": torchvision.models.vgg16, "resnet50": torchvision.models.resnet50}[name]
    network = lively(make(weights=None))
    batch, targets = torch.randn(2, 3, 64, 96), torch.tensor([3, 700])
    with pytest.warns(UserWarning, match="backward hooks"):
        expected = captum.attr.GuidedBackprop(network).attribute(
            batch.clone().requires_grad_(), target=targets
        )
    found = maps_of(network, batch, targets, "guided_backprop")
    assert_close(found, expected.abs().amax(1), 1e-4)
    plain = maps_of(network, batch, targets, "saliency")
    assert (found / found.max() - plain / plain.max()).abs().max() > 0.1


def test_relu6_where_captum_silently_returns_the_plain_gradient():
    network = lively(torchvision.models.mobilenet_v2(weights=None))
    batch, targets = torch.randn(2, 3, 64, 64), torch.tensor([3, 700])
    plain = maps_of(network, batch, targets, "saliency")
    with pytest.warns(UserWarning, match="backward hooks"):
        captums = captum.attr.GuidedBackprop(network).attribute(
            batch.clone().requires_grad_(), target=targets
        )
    assert_close(captums.detach().abs().amax(1), plain, 1e-4)
    found = maps_of(network, batch, targets, "guided_backprop")
    assert (found / found.max() - plain / plain.max()).abs().max() > 0.1


def test_guided_gradcam_equals_captum():
    network = lively(torchvision.models.vgg16(weights=None, init_weights=False))
    batch = torch.randn(2, 3, 64, 96)
    targets = network(batch).argmax(1)
    layer = network.get_submodule(find_target_layer(network, batch[:1]).name)
    guided = captum.attr.GuidedGradCam(network, layer)
    with pytest.warns(UserWarning, match="backward hooks"):
        expected = guided.attribute(batch.clone().requires_grad_(), targets, interpolate_mode="bilinear")
    found = maps_of(network, batch, targets, "guided_gradcam")
    assert_close(found, expected.detach().abs().amax(1), 1e-4)


class Ending(nn.Module):
    """A rectifier first, and something else behind it."""

    def __init__(self, after):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3)
        self.after = after
        self.fc = nn.Linear(6, 4)

    def forward(self, x):
        return self.fc(self.after(torch.relu(self.conv(x))).mean((2, 3)))


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


def rectify_a_part(x):
    x = x * 1
    x[:, :3].relu_()
    return x


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (nn.GELU(), "GELU"),
        (nn.SiLU(), "SiLU"),
        (nn.Hardswish(), "Hardswish"),
        (nn.Mish(), "Mish"),
        (nn.ELU(), "ELU"),
        (nn.SELU(), "ELU"),
        (nn.LeakyReLU(0.1), "LeakyReLU"),
        (nn.PReLU(), "PReLU"),
        (nn.Softplus(), "Softplus"),
        (lambda x: x * torch.sigmoid(x), "SiLU, as x · sigmoid(x)"),
        (lambda x: x.sigmoid().mul(x), "SiLU, as x · sigmoid(x)"),
        (lambda x: torch.where(x > 1, x, 0.0), "torch.where"),
        (Doubled.apply, "Doubled"),
        (rectify_a_part, "in place on a part"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("name", ["guided_backprop", "guided_gradcam"])
def test_what_the_rule_is_not_defined_for_is_refused_by_name(after, said, name):
    sentence = refused(Ending(after).eval(), torch.randn(2, 3, 8, 8), name, layered=True)
    assert said in sentence
    assert "Ending" in sentence


def test_gates_and_guards_of_denominators_keep_their_own_gradient():
    def gated(x):
        return x * torch.sigmoid(x.mean((2, 3), keepdim=True)) / x.std((2, 3), keepdim=True).clamp(min=1e-3)

    network, batch, targets = Ending(gated).eval(), torch.randn(2, 3, 8, 8), torch.tensor([0, 3])
    found = maps_of(network, batch, targets, "guided_backprop")
    twin = nn.Sequential(network.conv, nn.ReLU(), Behind(gated), network.fc)
    with pytest.warns(UserWarning, match="backward hooks"):
        expected = captum.attr.GuidedBackprop(twin).attribute(batch.clone().requires_grad_(), target=targets)
    assert_close(found, expected.detach().abs().amax(1))


class Behind(nn.Module):
    def __init__(self, after):
        super().__init__()
        self.after = after

    def forward(self, x):
        return self.after(x).mean((2, 3))


@pytest.mark.parametrize(
    "network", [networks.LeNet(channels=3), nn.Sequential(nn.Flatten(), nn.Linear(3 * 28 * 28, 4))]
)
def test_a_network_without_rectifiers_is_refused(network):
    assert "silently be the plain gradient" in refused(
        network.eval(), torch.randn(2, 3, 28, 28), "guided_backprop"
    )


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_torchscript_is_refused():
    network = torch.jit.trace(networks.PooledNet().eval(), torch.randn(1, 3, 8, 8))
    assert "TorchScript" in refused(network, torch.randn(2, 3, 8, 8), "guided_backprop")


def test_a_transformer_is_refused_for_its_gelu():
    network = lively(torchvision.models.vit_b_16(weights=None, image_size=32))
    assert "GELU" in refused(network, torch.randn(1, 3, 32, 32), "guided_backprop")


def test_only_asked_classes_have_maps():
    network, batch = lively(networks.PooledNet()), torch.randn(3, 3, 8, 8)
    targets = torch.tensor([[0, 4], [1, -1], [-1, 2]])
    found = explain(network, batch, targets, "guided_backprop").maps
    assert (found.isnan().all((2, 3)) == (targets < 0)).all()
