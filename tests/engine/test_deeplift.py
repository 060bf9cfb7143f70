"""DeepLIFT: equal to Captum's where that is right, complete where it is not, refused where the rule does not reach."""

from __future__ import annotations

import captum.attr
import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

from engine.attribution.baselines import baseline
from tests.engine import small_networks as networks
from tests.engine.gradient_cases import BLACK, assert_close, explain, lively, maps_of, refused

pytestmark = pytest.mark.filterwarnings("ignore:Setting forward, backward hooks")


def captums(network, batch, targets):
    black = torch.tensor(BLACK, dtype=batch.dtype)[None, :, None, None].expand_as(batch)
    return captum.attr.DeepLift(network).attribute(batch.clone().requires_grad_(), black, target=targets)


class Once(nn.Module):
    """Modules used once, windows that do not overlap: what Captum's class asks for."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3), nn.Tanh(), nn.AvgPool2d(2)),
            *(
                nn.Conv2d(8, 8, 2),
                nn.Softplus(),
                nn.Flatten(),
                nn.LazyLinear(6),
                nn.Sigmoid(),
                nn.Linear(6, 4),
            ),
        )

    def forward(self, x):
        return self.layers(x)


def averaging_vgg16():
    """VGG16 without its maxima, at which Captum's class errs where a rectifier stands before them."""
    network = torchvision.models.vgg16(weights=None, init_weights=False)
    for i, part in enumerate(network.features):
        if isinstance(part, nn.MaxPool2d):
            network.features[i] = nn.AvgPool2d(2)
    return network


@pytest.mark.parametrize("make", [Once, averaging_vgg16])
def test_it_equals_captum(make):
    network = make()
    batch, targets = torch.randn(2, 3, 64, 32), torch.tensor([3, 1])
    network(batch)
    network = lively(network)
    expected = captums(network, batch, targets).detach().sum(1)
    assert_close(maps_of(network, batch, targets, "deeplift"), expected, 1e-3)


def test_one_activation_for_everything_where_captum_fails():
    network = lively(networks.ReusedReluNet())
    batch, targets = torch.randn(3, 3, 12, 12), torch.tensor([0, 3, 1])
    with pytest.raises(RuntimeError, match="used more than once"):
        captums(network, batch, targets)
    twin = nn.Sequential(
        *(network.conv1, nn.ReLU(), network.conv2, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        *(network.fc1, nn.ReLU(), network.fc2),
    )
    expected = captums(twin, batch, targets).detach().sum(1)
    assert_close(maps_of(network, batch, targets, "deeplift"), expected, 1e-4)


class Functional(nn.Module):
    """The same network with every activation spelled another way."""

    def __init__(self, activate):
        super().__init__()
        self.conv1, self.conv2, self.fc = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Linear(8, 4)
        self.activate = activate

    def forward(self, x):
        x = functional.max_pool2d(self.activate(self.conv1(x)), 2)
        return self.fc(self.activate(self.conv2(x)).mean((2, 3)))


def statement(x):
    functional.relu(x, inplace=True)
    return x


def through_a_view(x):
    x = x.clone()
    x[:, :].relu_()
    return x


@pytest.mark.parametrize(
    "activate",
    [functional.relu, torch.relu_, lambda x: x.relu(), lambda x: x.clamp(min=0), statement, through_a_view],
)
def test_functional_and_in_place_activations(activate):
    network = lively(Functional(activate))
    batch, targets = torch.randn(3, 3, 14, 14), torch.tensor([0, 3, 1])
    twin = nn.Sequential(
        *(network.conv1, nn.ReLU(), nn.MaxPool2d(2), network.conv2, nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
        *(nn.Flatten(), network.fc),
    )
    expected = captums(twin, batch, targets).detach().sum(1)
    assert_close(maps_of(network, batch, targets, "deeplift"), expected, 1e-4)


@pytest.mark.parametrize(
    "activate",
    [
        nn.ReLU6(),
        nn.GELU(),
        nn.SiLU(inplace=True),
        nn.Hardswish(inplace=True),
        nn.LeakyReLU(),
        nn.ELU(),
        nn.Mish(),
    ],
    ids=lambda activate: type(activate).__name__,
)
@pytest.mark.parametrize("reference", ["black", "mean", "blur"])
def test_it_adds_up_with_any_activation(activate, reference):
    network = lively(Functional(activate)).double()
    batch, targets = 3 * torch.randn(3, 3, 14, 14).double(), torch.tensor([0, 3, 1])
    found = explain(network, batch, targets, "deeplift", baseline=reference)
    assert found.statistics["additivity_error"].max() < 1e-5 * found.maps.abs().sum((2, 3)).max()


@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(2, ceil_mode=True)])
def test_it_adds_up_behind_a_maximum_where_captum_does_not(pool):
    # Captum's hook on the rectifier sees the gradient before the one on the pooling has changed it.
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), pool, nn.Flatten(), nn.LazyLinear(4))
    batch, targets = torch.randn(3, 3, 15, 15), torch.tensor([0, 3, 1])
    network(batch)
    network = lively(network)
    blurred = baseline("blur", batch, torch.tensor(BLACK))
    explained = captum.attr.DeepLift(network)
    _, delta = explained.attribute(
        batch.clone().requires_grad_(), blurred, target=targets, return_convergence_delta=True
    )
    assert delta.abs().max() > 0.01
    found = explain(network, batch, targets, "deeplift", baseline="blur")
    assert found.statistics["additivity_error"].max() < 1e-4
    with torch.no_grad():
        difference = (network(batch) - network(blurred)).gather(1, targets[:, None])
    np.testing.assert_allclose(found.maps.sum((2, 3)), difference, atol=1e-4)


def test_a_maximum_alone_equals_captum():
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.MaxPool2d(2), nn.Conv2d(8, 8, 2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4)
    )
    batch, targets = torch.randn(3, 3, 16, 16), torch.tensor([0, 3, 1])
    network(batch)
    network = lively(network)
    blurred = baseline("blur", batch, torch.tensor(BLACK))
    expected = captum.attr.DeepLift(network).attribute(
        batch.clone().requires_grad_(), blurred, target=targets
    )
    assert_close(
        maps_of(network, batch, targets, "deeplift", baseline="blur"), expected.detach().sum(1), 1e-4
    )


def test_resnet50_adds_up():
    network = lively(torchvision.models.resnet50(weights=None))
    found = explain(network, torch.randn(2, 3, 64, 64), torch.tensor([5, 900]), "deeplift")
    assert found.statistics["additivity_error"].max() < 1e-3 * found.maps.abs().sum((2, 3)).max()


class Cubed(networks.PooledNet):
    """Its head takes a power, which no rule is written for."""

    def forward(self, x):
        return super().forward(x).pow(3)


@pytest.mark.parametrize(
    ("make", "size", "said"),
    [
        (lambda: torchvision.models.vit_b_16(weights=None, image_size=32), 32, "does not cover"),
        (lambda: torchvision.models.mobilenet_v3_small(weights=None), 32, "products of activations"),
        (networks.TokenNet, 16, "does not cover"),
        (Cubed, 16, "missed the score's difference"),
    ],
)
def test_what_the_rule_does_not_cover_is_refused(make, size, said):
    sentence = refused(lively(make()), torch.randn(1, 3, size, size), "deeplift")
    assert said in sentence


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_torchscript_is_refused():
    network = torch.jit.trace(networks.PooledNet().eval(), torch.randn(1, 3, 8, 8))
    assert "TorchScript" in refused(network, torch.randn(2, 3, 8, 8), "deeplift")
