"""The gradient family: finite differences, Captum on fresh inputs, completeness, draws, budget, and the network as found."""

from __future__ import annotations

import copy

import captum.attr
import numpy as np
import pytest
import torch
import torchvision
from torch import nn

from cache.errors import MethodError
from engine.attribution import gradient
from engine.attribution.baselines import BASELINES, baseline
from engine.attribution.gradient import GradientExplainer
from engine.attribution.registry import methods
from engine.attribution.subjects import generator
from engine.grids import Grid
from tests.engine import small_networks as networks
from tests.engine.gradient_cases import (
    BLACK,
    FAMILY,
    assert_close,
    explain,
    explainer_of,
    few,
    lively,
    maps_of,
    network_of,
    refused,
    request,
    subjects,
)

SAMPLED = ("smoothgrad", "gradient_shap")
BIG = {
    "vgg16": (lambda: torchvision.models.vgg16(weights=None, init_weights=False), (3, 32, 48)),
    "resnet50": (lambda: torchvision.models.resnet50(weights=None), (3, 64, 48)),
    "vit_b_16": (lambda: torchvision.models.vit_b_16(weights=None, image_size=32), (3, 32, 32)),
    "hand_written": (networks.FlatNet, (3, 20, 20)),
}


@pytest.fixture(scope="module", params=BIG)
def case(request):
    make, shape = BIG[request.param]
    network = lively(make())
    batch = torch.randn(2, *shape)
    return network, batch, torch.tensor([3, 1])


def state(network):
    return {
        "training": [part.training for part in network.modules()],
        "hooks": [
            [len(getattr(part, name)) for name in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")]
            for part in network.modules()
        ],
        "attributes": [sorted(vars(part)) for part in network.modules()],
        "in_place": [getattr(part, "inplace", None) for part in network.modules()],
        "asks": [p.requires_grad for p in network.parameters()],
        "gradients": [p.grad for p in network.parameters()],
        "values": [tensor.double().sum().item() for tensor in network.state_dict().values()],
        "grad_mode": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "modes": len(torch.overrides._get_current_function_mode_stack()),
    }


def test_gradients_equal_finite_differences_in_float64():
    network = networks.LeNet(channels=3).double().eval()
    batch, targets, step = torch.randn(2, 3, 28, 28).double(), torch.tensor([7, 2]), 1e-5
    differences = torch.empty_like(batch)
    for image, target, row in zip(batch, targets, differences, strict=True):
        moved = step * torch.eye(image.numel()).double().view(-1, *image.shape)
        with torch.no_grad():
            row.copy_(
                ((network(image + moved) - network(image - moved))[:, target] / (2 * step)).view_as(row)
            )
    assert_close(maps_of(network, batch, targets, "saliency"), differences.abs().amax(1))
    assert_close(maps_of(network, batch, targets, "input_x_gradient"), (batch * differences).sum(1))


def test_gradients_of_known_networks_equal_finite_differences_in_float64(case):
    """At a pixel, input × gradient is how fast the score grows with what the pixel's channels are multiplied by."""
    network, image, step = copy.deepcopy(case[0]).double(), case[1][:1].double(), 1e-6
    found = maps_of(network, image, torch.tensor([2]), "input_x_gradient")[0]
    for pixel in found.abs().flatten().topk(6).indices.tolist():
        row, column = divmod(pixel, found.shape[1])
        moved = torch.zeros_like(image)
        moved[0, :, row, column] = step * image[0, :, row, column]
        with torch.no_grad():
            difference = (network(image + moved) - network(image - moved))[0, 2] / (2 * step)
        torch.testing.assert_close(found[row, column], difference, rtol=1e-4, atol=0, check_dtype=False)


def test_the_plain_methods_equal_captum(case):
    network, batch, targets = case
    leaf = batch.clone().requires_grad_()
    expected = captum.attr.Saliency(network).attribute(leaf, target=targets).amax(1)
    assert_close(maps_of(network, batch, targets, "saliency"), expected)
    expected = captum.attr.InputXGradient(network).attribute(leaf, target=targets).detach().sum(1)
    assert_close(maps_of(network, batch, targets, "input_x_gradient"), expected)
    reference = baseline("black", batch, torch.tensor(BLACK))
    expected = captum.attr.IntegratedGradients(network).attribute(batch, reference, targets, n_steps=9)
    found = maps_of(network, batch, targets, "integrated_gradients", steps=9)
    assert_close(found, expected.detach().sum(1), 1e-4)


def assert_complete(network, batch, kind, steps, share):
    reference = baseline(kind, batch, torch.tensor(BLACK))
    with torch.no_grad():
        differences = network(batch) - network(reference)
    targets = differences.abs().argmax(1)
    difference = differences.gather(1, targets[:, None])
    found = explain(network, batch, targets, "integrated_gradients", steps=steps, baseline=kind)
    error = (found.maps.sum((2, 3)) - difference).abs()
    assert (error <= share * difference.abs()).all()
    kept = found.statistics["additivity_error"]
    np.testing.assert_allclose(kept, error, atol=1e-4 * difference.abs().max().item())


def test_integrated_gradients_are_complete(case):
    network, batch, _ = case
    assert_complete(network, batch[:1], "black", steps=300, share=0.05)


@pytest.mark.parametrize("kind", BASELINES)
def test_integrated_gradients_are_complete_from_every_baseline(kind):
    batch = torch.randn(3, 3, 20, 20)
    assert_complete(lively(networks.FlatNet()), batch, kind, steps=800, share=0.005)


def test_baselines_are_what_they_say():
    batch = torch.randn(3, 3, 9, 14)
    black = baseline("black", batch, torch.tensor(BLACK))
    assert (black == torch.tensor(BLACK)[:, None, None]).all()
    torch.testing.assert_close(baseline("mean", batch, torch.tensor(BLACK))[1, 2, 4, 5], batch[1, 2].mean())
    blurred = baseline("blur", torch.ones(1, 3, 9, 14), torch.tensor(BLACK))
    torch.testing.assert_close(blurred, torch.ones(1, 3, 9, 14))
    wave = torch.zeros(1, 1, 80, 40)
    wave[0, 0, 40, 20] = 1
    spread = baseline("blur", wave, torch.tensor(BLACK))[0, 0]
    at = torch.arange(80.0) - 40
    assert (spread.sum(1) * at.square()).sum().sqrt().item() == pytest.approx(4, rel=1e-3)
    assert (spread.sum(0) * (torch.arange(40.0) - 20).square()).sum().sqrt().item() == pytest.approx(
        2, rel=1e-3
    )


def draws(name, content, seed=0, **parameters):
    given = {n: v for n, v in request(name, **parameters).parameters.items() if n != "seeds"}
    return generator(content, methods()[name], given, seed)


def test_smoothgrad_is_captums_gradient_over_the_images_own_draws():
    network = lively(networks.FlatNet())
    batch, targets = torch.randn(2, 3, 20, 20), torch.tensor([3, 1])
    found = maps_of(network, batch, targets, "smoothgrad", samples=11, noise=0.2)
    for i, image in enumerate(batch):
        source = draws("smoothgrad", f"image {i}", samples=11, noise=0.2)
        drawn = np.stack([source.standard_normal(image.shape, np.float32) for _ in range(11)])
        noisy = image + 0.2 * (image.max() - image.min()) * torch.from_numpy(drawn)
        assert abs(float(drawn.std()) - 1) < 0.05
        gradients = captum.attr.Saliency(network).attribute(
            noisy.requires_grad_(), target=int(targets[i]), abs=False
        )
        assert_close(found[i], gradients.mean(0).abs().amax(0))
    assert_close(
        maps_of(network, batch, targets, "smoothgrad", samples=3, noise=0),
        maps_of(network, batch, targets, "saliency"),
    )


@pytest.mark.parametrize("kind", ["black", "blur", "noise", "mixed"])
def test_gradient_shap_equals_captum_given_the_same_draws(monkeypatch, kind):
    network = lively(networks.FlatNet())
    batch, targets = torch.randn(1, 3, 20, 20), torch.tensor([3])
    found = maps_of(network, batch, targets, "gradient_shap", samples=10, baselines=kind)
    source = draws("gradient_shap", "image 0", samples=10, baselines=kind)
    shares, starts = [], []
    low, high = batch.amin((2, 3), True)[0], batch.amax((2, 3), True)[0]
    for k in range(10):
        name = ("black", "blur", "noise")[k % 3] if kind == "mixed" else kind
        shares.append(source.random(dtype=np.float32))
        if name == "noise":
            starts.append(low + (high - low) * torch.from_numpy(source.random((3, 20, 20), np.float32)))
        else:
            starts.append(baseline(name, batch, torch.tensor(BLACK))[0])
    monkeypatch.setattr(np.random, "choice", lambda count, size: np.arange(size))
    monkeypatch.setattr(np.random, "uniform", lambda low, high, size: np.array(shares))
    expected = captum.attr.GradientShap(network).attribute(
        batch.clone().requires_grad_(), torch.stack(starts), n_samples=10, target=targets
    )
    assert_close(found, expected.detach().sum(1))


def test_sampled_maps_are_the_mean_over_seeds_and_their_spread_is_kept():
    network = lively(networks.FlatNet())
    batch, targets = torch.randn(2, 3, 20, 20), torch.tensor([[3, -1], [1, 2]])
    for name in SAMPLED:
        once = explain(network, batch, targets, name, samples=4)
        assert once.statistics == {}
        four = explain(network, batch, targets, name, samples=4, seeds=4)
        singles = []
        for seed in range(4):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(gradient, "generator", lambda c, m, p, s, seed=seed: generator(c, m, p, seed))
                singles.append(explain(network, batch, targets, name, samples=4).maps)
        torch.testing.assert_close(singles[0], once.maps, equal_nan=True)
        assert (singles[0] != singles[1])[targets >= 0].any()
        torch.testing.assert_close(torch.stack(singles).mean(0), four.maps, equal_nan=True)
        p = torch.stack([Grid(single[:, 0]).p for single in singles])
        expected = 0.5 * (p - p.mean(0)).abs().sum((2, 3)).mean(0)
        spread = four.statistics["seed_spread"]
        np.testing.assert_allclose(spread[:, 0], expected, rtol=1e-3)
        assert (np.isnan(spread) == (targets < 0).numpy()).all()
        assert np.nanmax(spread) < 1


@pytest.mark.parametrize("name", FAMILY)
def test_maps_do_not_depend_on_the_batch_its_order_or_the_budget(name):
    network = lively(networks.PooledNet())
    batch, names = torch.randn(5, 3, 18, 14), list("abcde")
    targets = torch.tensor([[0, 3], [1, -1], [4, 0], [-1, -1], [2, 1]])
    explainer = explainer_of(network, batch, layered=True)

    def run(order, budget):
        some = subjects(batch[order], targets[order], [names[i] for i in order], budget)
        return explainer.explain(some, [few(name)])[name].maps

    expected = run([0, 1, 2, 3, 4], 64)
    assert (expected.isnan().all((2, 3)) == (targets < 0)).all()
    assert expected[targets >= 0].isfinite().all()
    order = [3, 1, 4, 0, 2]
    for found in (run(order, 3), torch.cat([run([i], 1) for i in order])):
        assert_close(found.nan_to_num(), expected[order].nan_to_num())


@pytest.mark.parametrize("budget", [1, 2, 7])
def test_no_pass_exceeds_the_budget_and_only_asked_pairs_are_computed(budget):
    network = lively(networks.PooledNet())
    batch, targets = torch.randn(4, 3, 12, 12), torch.tensor([[0, 3], [-1, -1], [4, 0], [2, -1]])
    explainer = explainer_of(network, batch, layered=True)
    for name in FAMILY:
        assert explainer.refusal(few(name)) is None
        sizes = []
        handle = network.register_forward_pre_hook(
            lambda _, inputs, sizes=sizes: sizes.append(len(inputs[0]))
        )
        explainer.explain(subjects(batch, targets, budget=budget), [few(name)])
        handle.remove()
        assert max(sizes) <= budget
        if name in ("saliency", "input_x_gradient", "guided_backprop"):
            assert sum(sizes) == 5
    assert {"saliency", "deeplift", "guided_gradcam"} <= set(FAMILY)


def test_methods_that_need_the_same_pass_share_it():
    network = lively(networks.PooledNet())
    batch, targets = torch.randn(3, 3, 12, 12), torch.tensor([0, 3, 1])
    explainer = explainer_of(network, batch)
    asked = [few("saliency"), few("input_x_gradient")]
    assert all(explainer.refusal(one) is None for one in asked)
    sizes = []
    network.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    assert list(explainer.explain(subjects(batch, targets), asked)) == ["saliency", "input_x_gradient"]
    assert sizes == [3]


def test_nothing_asked_is_nothing_computed():
    network = lively(networks.PooledNet())
    batch, targets = torch.randn(2, 3, 12, 12), torch.tensor([[-1], [-1]])
    explainer = explainer_of(network, batch, layered=True)
    found = explainer.explain(subjects(batch, targets), [few(name) for name in FAMILY])
    for name, maps in found.items():
        assert maps.maps.shape == (2, 1, 12, 12)
        assert maps.maps.isnan().all()
        assert set(maps.statistics) == set(methods()[name].trust)


class OverwritingNet(networks.PooledNet):
    """Works in place on its very input."""

    def forward(self, x):
        return super().forward(x.sub_(0.3).relu_())


class CarefulNet(networks.PooledNet):
    def forward(self, x):
        return super().forward((x - 0.3).relu())


@pytest.mark.parametrize("name", FAMILY)
def test_operations_in_place_change_neither_maps_nor_inputs(name):
    network, careful = lively(OverwritingNet()), CarefulNet().eval()
    careful.load_state_dict(network.state_dict())
    for part in careful.modules():
        if isinstance(part, nn.ReLU):
            part.inplace = False
    batch, targets = torch.randn(3, 3, 12, 12), torch.tensor([0, 3, 1])
    before = batch.clone()
    found, expected = (
        explainer_of(some, batch, layered=True).explain(subjects(batch, targets), [few(name)])[name].maps
        for some in (network, careful)
    )
    assert torch.equal(batch, before)
    assert_close(found, expected)


@pytest.mark.parametrize("grad_mode", [True, False])
def test_the_network_is_left_as_found_after_errors_too(grad_mode):
    network = networks.FailingNet().train()
    network.features[1].eval()
    network.fc.weight.requires_grad_(False)
    batch, targets = torch.randn(2, 3, 12, 12), torch.tensor([0, 3])
    with torch.set_grad_enabled(grad_mode):
        before = state(network)
        explainer = explainer_of(network, batch, layered=True)
        asked = [few(name) for name in FAMILY]
        assert [explainer.refusal(one) for one in asked] == [None] * len(asked)
        explainer.explain(subjects(batch, targets), asked)
        assert state(network) == before
        network.fail = True
        for one in asked:
            with pytest.raises(RuntimeError, match="the head broke"):
                explainer.explain(subjects(batch, targets), [one])
        network.fail = False
        after = state(network)
        after["attributes"] = before["attributes"]
        assert after == before


def test_it_works_in_inference_mode_and_on_frozen_parameters():
    network = lively(networks.PooledNet()).requires_grad_(False)
    batch, targets = torch.randn(2, 3, 12, 12), torch.tensor([0, 3])
    expected = {name: maps_of(network, batch, targets, name) for name in ("saliency", "guided_gradcam")}
    with torch.inference_mode():
        for name, maps in expected.items():
            torch.testing.assert_close(maps_of(network, batch.clone(), targets, name), maps)


def test_a_single_logit_has_two_classes():
    network = lively(networks.BinaryNet())
    batch, targets = torch.randn(2, 3, 12, 12), torch.tensor([[1, 0], [1, 0]])
    explainer = GradientExplainer(network_of(network, scores=networks.two_scores), batch[:1])
    found = explainer.explain(subjects(batch, targets), [few("input_x_gradient")])["input_x_gradient"].maps
    torch.testing.assert_close(found[:, 0], -found[:, 1])
    assert found.abs().max() > 0


@pytest.mark.parametrize("channels", [1, 3])
def test_layout_and_channels_do_not_matter(channels):
    network = lively(networks.PooledNet(channels=channels))
    batch, targets = torch.randn(3, channels, 12, 16), torch.tensor([0, 3, 1])
    explainer = explainer_of(network, batch, layered=True)
    for name in FAMILY:
        plain, last = (
            explainer.explain(subjects(x, targets), [few(name)])[name].maps
            for x in (batch, batch.contiguous(memory_format=torch.channels_last))
        )
        assert_close(last, plain)


class DetachedNet(networks.PooledNet):
    def forward(self, x):
        return super().forward(x.detach())


class HalfBlindNet(networks.PooledNet):
    """One of two branches runs without gradients, so that what is left is not the score's gradient."""

    def forward(self, x):
        with torch.no_grad():
            other = self.features(x)
        return self.fc((self.features(x) + other).mean((2, 3)))


class OverwrittenNet(networks.PooledNet):
    def forward(self, x):
        return super().forward(x.exp().mul_(2))


class OneWay(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x


class OneWayNet(networks.PooledNet):
    def forward(self, x):
        return super().forward(OneWay.apply(x))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (OneWayNet, "cannot be differentiated (You must implement"),
        (networks.FrozenBackboneNet, "runs 'backbone' under torch.no_grad()"),
        (HalfBlindNet, "runs 'features' under torch.no_grad()"),
        (DetachedNet, "detached on the way"),
        (OverwrittenNet, "in place overwrites"),
    ],
)
@pytest.mark.parametrize("name", FAMILY)
def test_networks_without_gradients_are_refused(make, said, name):
    network, batch = make().eval(), torch.randn(2, 3, 12, 12)
    sentence = refused(network, batch, name)
    assert said in sentence
    assert sentence.startswith(f"{methods()[name].title} needs gradients")
    with pytest.raises(MethodError, match="needs gradients"):
        explainer_of(network, batch).explain(subjects(batch, torch.tensor([0, 1])), [few(name)])


def test_guided_gradcam_needs_a_layer_and_other_families_are_not_this_ones():
    network, batch = lively(networks.PooledNet()), torch.randn(2, 3, 12, 12)
    assert "needs a layer with positions" in refused(network, batch, "guided_gradcam")
    assert "is not one of the methods on the gradients" in refused(network, batch, "gradcam")


def test_every_method_belongs_to_the_presets_and_tells_its_cost():
    assert len(FAMILY) == 8
    for name in FAMILY:
        method = methods()[name]
        assert method.presets == ("standard", "thorough")
        assert "backward" in method.passes
        assert "gradients" in method.needs
