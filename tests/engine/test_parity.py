"""The activation family against pytorch-grad-cam and Captum, on fresh inputs; their known faults are named."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import pytorch_grad_cam
import torch
import torchvision
from captum.attr import LayerGradCam
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from engine.attribution.activation import ActivationExplainer
from engine.attribution.cams import Evidence
from engine.attribution.registry import MethodRequest, methods
from engine.layers import find_target_layer
from tests.engine import slow_cams
from tests.engine import small_networks as networks

PACKAGE = {
    "gradcam": pytorch_grad_cam.GradCAM,
    "gradcampp": pytorch_grad_cam.GradCAMPlusPlus,
    "xgradcam": pytorch_grad_cam.XGradCAM,
    "hirescam": pytorch_grad_cam.HiResCAM,
    "layercam": pytorch_grad_cam.LayerCAM,
    "eigencam": pytorch_grad_cam.EigenCAM,
}
NETWORKS = {
    "vgg16": (lambda: torchvision.models.vgg16(weights=None, init_weights=False), (3, 64, 96), torch.float32),
    "resnet50": (lambda: torchvision.models.resnet50(weights=None), (3, 96, 128), torch.float64),
    "hand_written": (networks.FlatNet, (3, 20, 20), torch.float64),
}
GRADIENT_SCALE = 1e6
"""pytorch-grad-cam adds 1e-6 to Grad-CAM++'s denominator and 1e-7 to XGrad-CAM's: the parity runs where that is nothing."""


@dataclass
class Case:
    """A network, a batch, and this project's maps of it."""

    network: nn.Module
    batch: torch.Tensor
    targets: torch.Tensor

    def __post_init__(self):
        self.layer = find_target_layer(self.network, self.batch[:1])
        explainer = ActivationExplainer(self.network, self.layer, self.batch[:1])
        requests = [MethodRequest(m, m.resolve()) for m in (methods()[name] for name in PACKAGE)]
        result = explainer.explain(self.batch, self.targets[:, None], requests)
        self.maps = {name: maps[:, 0].double().numpy() for name, maps in result.maps.items()}
        centred = methods()["eigencam"].compute(Evidence(result.activations), center=True)
        self.maps["eigencam"] = centred.double().numpy()


@pytest.fixture(scope="module", params=NETWORKS)
def case(request):
    make, shape, dtype = NETWORKS[request.param]
    network = make().to(dtype).eval()
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter)
    last = [part for part in network.modules() if isinstance(part, nn.Linear)][-1]
    last.weight.data *= GRADIENT_SCALE
    batch = torch.randn(8 if request.param == "hand_written" else 2, *shape, dtype=dtype)
    with torch.no_grad():
        # A class that something speaks for: the positive part of its map is not empty.
        return Case(network, batch, network(batch).argmax(1))


def packages(case, name):
    """Its map before the clipping, the scaling and the enlarging."""
    network, layer = case.network, case.layer
    part = network.get_submodule(layer.name)
    wanted = [ClassifierOutputTarget(int(target)) for target in case.targets]
    kept = {}

    class Raw(PACKAGE[name]):
        def get_cam_image(self, *args, **kwargs):
            kept["map"] = super().get_cam_image(*args, **kwargs)
            return kept["map"]

    with Raw(network, [part]) as package:
        package(case.batch, wanted)
    network.zero_grad()
    return np.asarray(kept["map"], np.float64)


@pytest.mark.parametrize("name", [n for n in PACKAGE if n != "eigencam"])
def test_maps_equal_pytorch_grad_cam(case, name):
    expected, found = packages(case, name), case.maps[name]
    if not methods()[name].signed:
        # The package clips in a later step.
        expected = np.maximum(expected, 0)
    assert np.abs(expected).max() > 0
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


def test_centred_eigencam_equals_pytorch_grad_cam_up_to_sign(case):
    expected, found = packages(case, "eigencam"), case.maps["eigencam"]
    for one, other in zip(found, expected, strict=True):
        # Known fault: the package keeps whichever sign the decomposition happens to return.
        difference = min(np.abs(one - other).max(), np.abs(one + other).max())
        assert difference <= 1e-4 * np.abs(other).max()


def test_gradcam_equals_captum(case):
    attribution = LayerGradCam(case.network, case.network.get_submodule(case.layer.name))
    expected = attribution.attribute(case.batch, case.targets, relu_attributions=True)[:, 0].detach().numpy()
    assert np.abs(case.maps["gradcam"] - expected).max() <= 1e-4 * np.abs(expected).max()


def test_known_fault_gradcampp_of_the_package_drowns_small_gradients_in_its_constant():
    """With the gradients of an ordinary pooled head its weights go with g³, not with ReLU(g) / (2 + ΣA·g)."""
    network = torchvision.models.resnet18(weights=None).double().eval()
    small = Case(network, torch.randn(1, 3, 224, 224, dtype=torch.float64), torch.tensor([3]))
    A, g = activations_and_gradients(network, small.batch, 3, small.layer)
    expected = slow_cams.gradcampp(A, g, None)
    assert np.abs(small.maps["gradcampp"][0] - expected).max() <= 1e-4 * expected.max()
    assert packages(small, "gradcampp")[0].max() < 0.5 * expected.max()


def test_known_fault_the_package_keeps_activations_that_an_operation_in_place_has_changed():
    """It saves a reference: on a CPU a later ReLU in place clips what it thinks the layer returned."""
    network, batch = networks.InPlaceNet().double().eval(), torch.randn(2, 3, 14, 14, dtype=torch.float64)
    targets = torch.tensor([1, 2])
    case = Case(network, batch, targets)
    stem = nn.functional.max_pool2d(network.conv1(batch).relu(), 2)
    A = network.conv2(stem).detach().requires_grad_()
    logits = network.fc(A.relu().mean((2, 3)).square())
    (g,) = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), A)
    fault = packages(case, "gradcam")
    for i in range(2):
        arrays = A[i].detach().numpy(), g[i].numpy(), None
        expected = slow_cams.gradcam(*arrays)
        assert np.abs(case.maps["gradcam"][i] - expected).max() <= 1e-4 * expected.max()
        assert (
            np.abs(
                fault[i] - sum(w.mean() * a for w, a in zip(g[i].numpy(), A[i].detach().numpy(), strict=True))
            ).max()
            > 1e-2 * np.abs(fault[i]).max()
        )


def activations_and_gradients(network, batch, target, layer):
    kept = {}

    def take(_module, _inputs, output):
        kept["A"] = output.detach().requires_grad_()
        return kept["A"].clone()

    handle = network.get_submodule(layer.name).register_forward_hook(take)
    logits = network(batch)
    handle.remove()
    (g,) = torch.autograd.grad(logits[0, target], kept["A"])
    return kept["A"].detach()[0].numpy(), g[0].numpy()
