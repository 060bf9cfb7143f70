"""One forward pass explains a batch, and leaves the network as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cache.errors import LayerError, MethodError, ModelError
from engine.attribution.activation import ActivationExplainer, attended_features
from engine.attribution.cams import Evidence
from engine.attribution.registry import MethodRequest, methods, parse_methods
from engine.layers import find_target_layer, resolve_target_layer
from tests.engine import slow_cams
from tests.engine import small_networks as networks

FAMILY = [m for m in methods().values() if m.family == "activation" and "attention" not in m.needs]
CONVOLUTIONAL = {
    "pooled": (networks.PooledNet, (3, 20, 20)),
    "flat": (networks.FlatNet, (3, 20, 20)),
    "in_place": (networks.InPlaceNet, (3, 14, 18)),
    "lenet": (networks.LeNet, (1, 28, 28)),
    "reused": (networks.ReusedReluNet, (3, 9, 7)),
    "frozen": (networks.FrozenBackboneNet, (3, 20, 20)),
}


def prepare(kind, count=3, **options):
    make, shape = CONVOLUTIONAL[kind]
    network, batch = make().eval(), torch.randn(count, *shape)
    layer = find_target_layer(network, batch[:1])
    return network, batch, ActivationExplainer(network, layer, batch[:2], **options)


def usable(explainer):
    return [MethodRequest(m, m.resolve()) for m in FAMILY if explainer.refusal(m) is None]


def state(network):
    """Everything that explaining could change."""
    return {
        "training": [m.training for m in network.modules()],
        "hooks": [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in network.modules()],
        "asks": [p.requires_grad for p in network.parameters()],
        "gradients": [p.grad for p in network.parameters()],
        "types": [(p.dtype, p.stride()) for p in network.parameters()],
        "values": [t.sum().item() for t in network.state_dict().values()],
        "grad_mode": torch.is_grad_enabled(),
    }  # fmt: skip


def relative(found, expected):
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    return np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-300)


@pytest.mark.parametrize("method", FAMILY, ids=lambda m: m.name)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("channels", "height", "width"), [(7, 5, 6), (40, 3, 4), (6, 9, 8)])
@pytest.mark.parametrize("uniform", [False, True])
@pytest.mark.parametrize("signed", [False, True])
def test_every_method_equals_its_formula_written_the_slow_way(
    method, layout, channels, height, width, uniform, signed
):
    A = torch.randn(4, channels, height, width)
    A = (A if signed else A.relu()).contiguous(memory_format=layout)
    if signed:
        # XGrad-CAM divides by ΣA, which may be anything near zero here: in double precision it is still the same.
        A = A.double()
    # As small as the gradients of a large pooled head: nothing may drown in a constant.
    g = 1e-4 * torch.randn(4, channels, 1 if uniform else height, 1 if uniform else width, dtype=A.dtype)
    w = torch.randn(4, channels, dtype=A.dtype)
    found = method.compute(Evidence(A, g, w), **method.resolve())
    assert found.shape == (4, height, width)
    arrays = [t.double().numpy() for t in (A, g.expand_as(A), w)]
    expected = [slow_cams.ALL[method.name](*(a[i] for a in arrays)) for i in range(4)]
    assert relative(found, expected) < 1e-4


@pytest.mark.parametrize("shape", [(30, 4, 5), (5, 6, 7)])
def test_centred_eigencam_equals_the_decomposition_of_centred_activations(shape):
    A = torch.randn(3, *shape).relu()
    found = methods()["eigencam"].compute(Evidence(A), center=True)
    for i in range(3):
        expected = slow_cams.eigencam(A[i].double().numpy(), None, None, center=True)
        assert relative(found[i], expected) < 1e-4


def test_eigencam_of_zeros_and_of_nan_does_not_spoil_the_batch():
    A = torch.rand(3, 6, 4, 4)
    alone = methods()["eigencam"].compute(Evidence(A[2:]))
    A[0], A[1, 2, 1, 1] = 0, torch.nan
    found = methods()["eigencam"].compute(Evidence(A))
    assert not found[0].any()
    assert found[1].isnan().all()
    torch.testing.assert_close(found[2:], alone)


@pytest.mark.parametrize("kind", CONVOLUTIONAL)
def test_conformance_of_every_method_on_every_network(kind):
    network, batch, explainer = prepare(kind, count=8)
    before = state(network)
    requests = usable(explainer)
    classes = network(batch).shape[1]
    targets = torch.stack([torch.arange(8) % classes, (torch.arange(8) + 1) % classes], 1)
    result = explainer.explain(batch, targets, requests)
    torch.testing.assert_close(result.logits, network(batch).detach())
    assert len(requests) >= 6
    for request in requests:
        maps, method = result.maps[request.name], request.method
        assert maps.shape == (8, 2, explainer.layer.height, explainer.layer.width), method.name
        assert maps.dtype == torch.float32
        assert maps.isfinite().all(), method.name
        assert maps.any(), method.name
        assert method.signed or (maps >= 0).all(), method.name
        assert torch.equal(maps[:, 0], maps[:, 1]) != method.class_dependent, method.name
        assert not maps.requires_grad
    after = state(network)
    assert after == before


@pytest.mark.parametrize("kind", CONVOLUTIONAL)
def test_maps_come_from_true_gradients(kind):
    """Against the whole graph, without this project's way of cutting it."""
    network, batch, explainer = prepare(kind)
    kept = {}

    def take(_module, _inputs, output):
        kept["A"] = output.detach().clone()
        kept["leaf"] = kept["A"].clone().requires_grad_()
        return kept["leaf"] * 1

    part, calls = network.get_submodule(explainer.layer.name), iter(range(100))
    handle = part.register_forward_hook(
        lambda *args: take(*args) if next(calls) == explainer.layer.call else None
    )
    context = torch.enable_grad()
    if kind == "frozen":
        # The slow way around the network's own no_grad: its two parts, one after the other.
        network.backbone(batch)
        handle.remove()
        logits = network.fc((kept["leaf"] * 1).mean((2, 3)))
    else:
        with context:
            logits = network(batch)
        handle.remove()
    targets = torch.tensor([[1], [0], [2]])
    (g,) = torch.autograd.grad(logits.gather(1, targets).sum(), kept["leaf"])
    result = explainer.explain(batch, targets, usable(explainer))
    torch.testing.assert_close(result.activations, kept["A"])
    for name, maps in result.maps.items():
        expected = []
        for i in range(3):
            A, gradient = kept["A"][i].double().numpy(), g[i].double().numpy()
            weights = network.fc.weight[targets[i, 0]].detach().double().numpy() if name == "cam" else None
            expected.append(slow_cams.ALL[name](A, gradient, weights))
        assert relative(maps[:, 0], expected) < (1e-2 if name == "xgradcam" else 1e-4), name


@pytest.mark.parametrize("kind", CONVOLUTIONAL)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_same_image_in_another_batch_gives_the_same_map(kind, layout):
    network, batch, explainer = prepare(kind, count=7)
    network, batch = network.double().to(memory_format=layout), batch.double().to(memory_format=layout)
    targets = torch.arange(7)[:, None] % 3
    together = explainer.explain(batch, targets, usable(explainer)).maps
    order = torch.tensor([5, 2, 0])
    apart = explainer.explain(batch[order], targets[order], usable(explainer)).maps
    for name, maps in together.items():
        assert relative(apart[name], maps[order]) < 1e-5, name


def test_targets_are_chosen_from_the_scores_and_minus_one_asks_for_nothing():
    _, batch, explainer = prepare("pooled", count=6)
    label = torch.tensor([0, 1, 2, 3, 4, 0])

    def choose(scores):
        pred = scores.argmax(1)
        return torch.stack([pred, torch.where(pred == label, -1, label)], 1)

    result = explainer.explain(batch, choose, usable(explainer))
    both = torch.stack([result.scores.argmax(1), label], 1)
    everything = explainer.explain(batch, both, usable(explainer))
    asked = result.targets >= 0
    for name, maps in result.maps.items():
        assert maps[~asked].isnan().all()
        torch.testing.assert_close(maps[asked], everything.maps[name][asked])


def test_a_column_that_nobody_asks_for_costs_no_backward_pass(monkeypatch):
    _, batch, explainer = prepare("pooled")
    passes = []
    real = torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *a, **k: passes.append(1) or real(*a, **k))
    targets = torch.tensor([[1, -1], [0, -1], [2, -1]])
    explainer.explain(batch, targets, usable(explainer))
    assert len(passes) == 1
    explainer.explain(batch, targets, parse_methods("cam,eigencam"))
    assert len(passes) == 1


def test_one_forward_pass_serves_all_methods_and_targets():
    network, batch, explainer = prepare("pooled")
    runs = []
    handle = network.register_forward_hook(lambda *_: runs.append(1))
    explainer.explain(batch, torch.tensor([[0, 1, 2]] * 3), usable(explainer))
    handle.remove()
    assert len(runs) == 1


@pytest.mark.parametrize("inside", [True, False])
def test_the_network_is_left_as_found_after_errors_too(inside):
    network = networks.FailingNet().train()
    network.features[1].eval()
    network.fc.weight.requires_grad_(False)
    network.fc.bias.grad = torch.ones(5)
    batch = torch.randn(2, 3, 16, 16)
    before = state(network)
    explainer = ActivationExplainer(network, find_target_layer(network, batch), batch)
    assert state(network) == before
    if inside:
        network.fail = True
        with pytest.raises(RuntimeError, match="the head broke"):
            explainer.explain(batch, torch.tensor([[0], [1]]), usable(explainer))
    else:
        with pytest.raises(RuntimeError):
            explainer.explain(batch, torch.tensor([[0], [99]]), usable(explainer))
    after = state(network)
    assert after == before


def test_a_network_that_fails_under_its_own_no_grad_is_left_as_found():
    network, batch, explainer = prepare("frozen")
    network.fc.bias.requires_grad_(False)
    before = state(network)
    with pytest.raises(RuntimeError):
        explainer.explain(batch[:, :2], torch.zeros(3, 1, dtype=torch.long), usable(explainer))
    after = state(network)
    assert after == before


def test_explaining_works_in_inference_mode():
    _, batch, explainer = prepare("pooled")
    targets = torch.zeros(3, 1, dtype=torch.long)
    expected = explainer.explain(batch, targets, usable(explainer)).maps["gradcam"]
    with torch.inference_mode():
        found = explainer.explain(batch, targets, usable(explainer)).maps["gradcam"]
        assert torch.is_inference_mode_enabled()
    torch.testing.assert_close(found, expected)


def test_a_single_logit_is_two_classes():
    network, batch = networks.BinaryNet().eval(), torch.randn(4, 3, 20, 20)
    layer = find_target_layer(network, batch)
    explainer = ActivationExplainer(network, layer, batch, scores=networks.two_scores)
    assert explainer.head is not None
    assert explainer.head.weight.shape == (2, 12)
    result = explainer.explain(batch, torch.tensor([[0, 1]] * 4), usable(explainer))
    assert result.logits.shape == (4, 1)
    assert result.scores.shape == (4, 2)
    for name in ("cam", "hirescam"):
        torch.testing.assert_close(result.maps[name][:, 0], -result.maps[name][:, 1])
    assert (result.maps["gradcam"][:, 0] * result.maps["gradcam"][:, 1] == 0).all()


@pytest.mark.parametrize(
    ("kind", "pooled", "linear"),
    [
        ("pooled", True, True),
        ("flat", False, False),
        ("in_place", False, False),
        ("lenet", False, False),
        ("reused", True, False),
        ("frozen", True, True),
    ],
)
def test_the_head_is_recognised(kind, pooled, linear):
    for _ in range(3):
        _, _, explainer = prepare(kind)
        assert (explainer.pooled, explainer.head is not None) == (pooled, linear)
        assert (explainer.refusal(methods()["cam"]) is None) == linear
        names = [m.name for m in FAMILY]
        alike = {"gradcam", "xgradcam", "hirescam"} if pooled else set()
        alike |= {"cam"} if linear else set()
        expected = {n: [o for o in names if o != n and o in alike] if n in alike else [] for n in names}
        assert explainer.equivalent(names) == expected


def test_equivalent_methods_coincide_up_to_scale():
    _, batch, explainer = prepare("pooled")
    maps = explainer.explain(batch, torch.tensor([[0], [3], [1]]), usable(explainer)).maps
    for name in explainer.equivalent(maps)["cam"]:
        for i in range(3):
            pair = [maps["cam"][i, 0].relu(), maps[name][i, 0].relu()]
            scaled = [m / m.max().clamp(min=1e-30) for m in pair]
            torch.testing.assert_close(*scaled)


def test_a_method_that_the_network_cannot_take_is_refused_by_name():
    _, batch, explainer = prepare("flat")
    with pytest.raises(MethodError, match="CAM needs a head of global average pooling and one linear layer"):
        explainer.explain(batch, torch.zeros(3, 1, dtype=torch.long), parse_methods("fast"))


def test_scores_without_gradients_refuse_the_methods_that_need_them():
    class Detached(networks.PooledNet):
        def forward(self, x):
            return super().forward(x).detach()

    network, batch = Detached().eval(), torch.randn(2, 3, 16, 16)
    explainer = ActivationExplainer(network, find_target_layer(network, batch), batch)
    assert "needs gradients" in explainer.refusal(methods()["gradcam"])
    assert explainer.refusal(methods()["eigencam"]) is None
    found = explainer.explain(batch, torch.zeros(2, 1, dtype=torch.long), parse_methods("eigencam,cam"))
    assert found.maps["cam"].any()


def test_an_output_that_is_not_logits_is_refused():
    class Pair(networks.PooledNet):
        def forward(self, x):
            return super().forward(x), x

    network, batch = Pair().eval(), torch.randn(2, 3, 16, 16)
    with pytest.raises(ModelError, match=r"is not \(batch, classes\) but tuple"):
        ActivationExplainer(network, find_target_layer(network, batch), batch)


def test_a_layer_that_some_inputs_pass_by_is_refused():
    class Early(networks.PooledNet):
        skip = False

        def forward(self, x):
            if self.skip:
                return self.fc(torch.zeros(len(x), 12))
            return super().forward(x)

    network, batch = Early().eval(), torch.randn(2, 3, 16, 16)
    explainer = ActivationExplainer(network, find_target_layer(network, batch), batch)
    network.skip = True
    with pytest.raises(LayerError, match="'features' did not run"):
        explainer.explain(batch, torch.zeros(2, 1, dtype=torch.long), usable(explainer))


def test_penultimate_features_are_the_input_of_the_last_linear_layer():
    network, batch, explainer = prepare("lenet")
    result = explainer.explain(batch, torch.zeros(3, 1, dtype=torch.long), usable(explainer))
    expected = network.classifier[:2](network.features(batch).flatten(1)).detach()
    torch.testing.assert_close(result.penultimate, expected)


def test_penultimate_features_fall_back_on_the_mean_activations():
    network, batch = networks.PointwiseEndNet().eval(), torch.randn(3, 3, 12, 12)
    explainer = ActivationExplainer(network, find_target_layer(network, batch), batch)
    result = explainer.explain(batch, torch.zeros(3, 1, dtype=torch.long), parse_methods("gradcam"))
    torch.testing.assert_close(result.penultimate, network.stem(batch).mean((2, 3)).detach())


@pytest.mark.parametrize("shape", [(6, 6), (3, 2)])
def test_attended_features_are_activations_averaged_under_the_map(shape):
    A, maps = torch.randn(4, 5, 6, 6), torch.randn(4, *shape)
    maps[2] = -maps[2].abs()
    maps[3, 0, 0] = torch.nan
    found = attended_features(A, maps)
    assert found.dtype == torch.float32
    assert found[2:].isnan().all()
    for i in range(2):
        positive = np.maximum(maps[i].double().numpy(), 0)
        positive = np.kron(positive, np.ones((6 // shape[0], 6 // shape[1])))
        share = positive / positive.sum()
        expected = [(A[i, c].double().numpy() * share).sum() for c in range(5)]
        np.testing.assert_allclose(found[i], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions_give_float32_maps(dtype):
    network, batch = networks.PooledNet().eval().to(dtype), torch.randn(2, 3, 16, 16).to(dtype)
    explainer = ActivationExplainer(network, find_target_layer(network, batch), batch)
    result = explainer.explain(batch, torch.zeros(2, 1, dtype=torch.long), usable(explainer))
    assert all(m.dtype == torch.float32 and m.isfinite().all() for m in result.maps.values())
    assert explainer.pooled


def test_a_named_earlier_layer_is_explained():
    network, batch = networks.PooledNet().eval(), torch.randn(2, 3, 16, 16)
    layer = resolve_target_layer(network, "features.0", batch)
    explainer = ActivationExplainer(network, layer, batch)
    result = explainer.explain(batch, torch.zeros(2, 1, dtype=torch.long), usable(explainer))
    torch.testing.assert_close(result.activations, nn.functional.conv2d(batch, network.features[0].weight, network.features[0].bias, stride=2, padding=1).detach())  # fmt: skip


@pytest.mark.parametrize("kind", ["pooled", "lenet"])
def test_without_a_layer_scores_and_features_are_given_and_methods_on_one_are_refused(kind):
    network, batch, with_layer = prepare(kind)
    before = state(network)
    explainer = ActivationExplainer(network, None, batch[:2], layer_problem="there is no layer here.")
    assert {explainer.refusal(method) for method in FAMILY} == {"there is no layer here."}
    assert explainer.head is None
    assert not explainer.pooled
    assert explainer.equivalent(["cam", "gradcam"]) == {"cam": [], "gradcam": []}
    targets = torch.tensor([[1], [0], [2]])
    found, expected = explainer.explain(batch, targets, ()), with_layer.explain(batch, targets, ())
    assert found.activations is None
    assert found.maps == {}
    for field in ("logits", "scores", "targets", "penultimate"):
        assert torch.equal(getattr(found, field), getattr(expected, field)), field
    with pytest.raises(MethodError, match="there is no layer here"):
        explainer.explain(batch, targets, parse_methods("gradcam"))
    assert state(network) == before


def test_without_a_layer_or_its_problem_the_refusal_says_what_is_missing():
    network = networks.MultiLayerPerceptron()
    explainer = ActivationExplainer(network, None, torch.randn(2, 3, 8, 8))
    sentence = "Grad-CAM needs a layer with positions, and MultiLayerPerceptron has none."
    assert explainer.refusal(methods()["gradcam"]) == sentence


def test_features_of_a_network_without_a_layer_or_a_linear_layer_are_its_logits():
    network, batch = networks.PointwiseEndNet().eval(), torch.randn(3, 3, 12, 12)
    found = ActivationExplainer(network, None, batch).explain(batch, torch.zeros(3, 1, dtype=torch.long), ())
    assert torch.equal(found.penultimate, found.logits)


def test_an_output_that_is_not_logits_is_refused_without_a_layer_too():
    with pytest.raises(ModelError, match=r"is not \(batch, classes\) but shape"):
        ActivationExplainer(nn.Conv2d(3, 4, 1), None, torch.randn(2, 3, 8, 8))


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support")
def test_a_sparse_head_is_still_linear():
    network, batch = networks.PooledNet().eval(), torch.randn(2, 3, 16, 16)
    expected = ActivationExplainer(network, find_target_layer(network, batch), batch).head
    network.fc.weight = nn.Parameter(network.fc.weight.detach().to_sparse_csr(), requires_grad=False)
    explainer = ActivationExplainer(network, find_target_layer(network, batch), batch)
    torch.testing.assert_close(explainer.head.weight, expected.weight)
    found = explainer.explain(batch, torch.zeros(2, 1, dtype=torch.long), usable(explainer))
    assert found.maps["gradcam"].isfinite().all()
