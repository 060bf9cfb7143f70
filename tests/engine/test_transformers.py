"""Vision transformers: their tokens become a grid for every CAM, and attention is rolled out as written by hand."""

from __future__ import annotations

import numpy as np
import pytest
import pytorch_grad_cam
import timm
import torch
import torchvision
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from cache.errors import LayerError, MethodError
from engine.attribution.activation import ActivationExplainer
from engine.attribution.attention import capturing_attention, read_attention
from engine.attribution.registry import MethodRequest, methods, parse_methods
from engine.layers import find_target_layer, resolve_target_layer, trace
from engine.token_layers import read_layouts
from tests.engine import slow_cams
from tests.engine import small_networks as networks
from tests.engine.small_transformers import (
    Transformer,
    WindowTokens,
    attention_by_hand,
    projections,
    rolled_out,
)
from tests.engine.test_activation import relative, state

CAMS = ("cam", "gradcam", "gradcampp", "xgradcam", "hirescam", "layercam", "eigencam")
BLOCK = "encoder.layers.encoder_layer_"


@pytest.fixture(scope="module")
def vit():
    torch.manual_seed(3)
    network = torchvision.models.vit_b_16(weights=None).eval()
    nn.init.normal_(network.heads.head.weight, std=0.05)
    return network


@pytest.fixture(scope="module")
def swin():
    torch.manual_seed(4)
    return torchvision.models.swin_t(weights=None).eval()


def prepare(network, *shape):
    network = network.eval()
    batch = torch.randn(*shape, dtype=next(network.parameters()).dtype)
    return batch, ActivationExplainer(network, find_target_layer(network, batch[:2]), batch[:2])


def usable(explainer):
    known = [m for m in methods().values() if m.family == "activation"]
    return [MethodRequest(m, m.resolve()) for m in known if explainer.refusal(m) is None]


def packages(network, part, transform, batch, targets):
    """Return pytorch-grad-cam's Grad-CAM before it scales and enlarges it."""
    kept = {}

    class Raw(pytorch_grad_cam.GradCAM):
        def get_cam_image(self, *args, **kwargs):
            kept["map"] = super().get_cam_image(*args, **kwargs)
            return kept["map"]

    with Raw(network, [part], reshape_transform=transform) as package:
        package(batch, [ClassifierOutputTarget(int(target)) for target in targets])
    network.zero_grad()
    return np.maximum(np.asarray(kept["map"], np.float64), 0)


@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("prefix", [1, 2, 5])
@pytest.mark.parametrize("size", [(16, 24), (24, 12)])
def test_the_layer_of_a_small_transformer(pool, prefix, size):
    network = Transformer(size, prefix=prefix, pool=pool)
    layer = find_target_layer(network.eval(), torch.randn(2, 3, *size))
    # Behind the last attention only the class token reaches the head; where patches are averaged all of them do.
    assert layer.name == ("blocks" if pool else "blocks.2.norm1")
    assert (layer.layout, layer.prefix, layer.channels) == ("tokens", prefix, 12)
    assert (layer.height, layer.width) == (size[0] // 4, size[1] // 4)
    assert layer.identity == layer.name


@pytest.mark.parametrize("pool", [False, True])
def test_cams_of_tokens_equal_their_formulas_on_true_gradients(pool):
    """Against the whole graph, without this project's way of cutting it, in double precision."""
    network = Transformer(prefix=2, pool=pool).double().eval()
    batch = torch.randn(3, 3, 16, 24, dtype=torch.float64)
    explainer = ActivationExplainer(network, find_target_layer(network, batch), batch)
    kept = {}
    part = network.get_submodule(explainer.layer.name)
    handle = part.register_forward_hook(lambda *args: kept.update(A=args[2]))
    logits = network(batch)
    handle.remove()
    targets = torch.tensor([[1], [0], [2]])
    (g,) = torch.autograd.grad(logits.gather(1, targets).sum(), kept["A"])
    A, g = (t.detach()[:, 2:].numpy().transpose(0, 2, 1).reshape(3, 12, 4, 6) for t in (kept["A"], g))
    result = explainer.explain(batch, targets, usable(explainer))
    np.testing.assert_allclose(result.activations, A, atol=1e-12)
    assert set(result.maps) == {*CAMS, "rollout"} - (set() if pool else {"cam"})
    for name in set(result.maps) - {"rollout"}:
        weights = network.head.weight[targets[:, 0]].detach().numpy() if name == "cam" else [None] * 3
        expected = [slow_cams.ALL[name](A[i], g[i], weights[i]) for i in range(3)]
        assert np.abs(expected).max() > 0
        assert relative(result.maps[name][:, 0], expected) < 1e-4, name


def test_cam_needs_a_verified_linear_head():
    _, explainer = prepare(Transformer(pool=True), 2, 3, 16, 24)
    assert explainer.head is not None
    assert explainer.pooled
    _, explainer = prepare(Transformer(), 2, 3, 16, 24)
    assert "CAM needs a head of global average pooling" in explainer.refusal(methods()["cam"])


@pytest.mark.slow
def test_vit_b_16(vit):
    batch = torch.randn(2, 3, 224, 224)
    layer = find_target_layer(vit, batch)
    assert (layer.name, layer.layout, layer.prefix) == (BLOCK + "11.ln_1", "tokens", 1)
    assert (layer.channels, layer.height, layer.width) == (768, 14, 14)
    explainer = ActivationExplainer(vit, layer, batch)
    before = state(vit)
    targets = torch.tensor([[7], [3]])
    result = explainer.explain(batch, targets, usable(explainer))
    assert state(vit) == before
    assert set(result.maps) == {*CAMS, "rollout"} - {"cam"}
    assert all(m.shape == (2, 1, 14, 14) and m.isfinite().all() and m.any() for m in result.maps.values())
    torch.testing.assert_close(result.logits, vit(batch).detach(), rtol=1e-4, atol=1e-4)

    def transform(tokens):
        return tokens[:, 1:].reshape(-1, 14, 14, 768).permute(0, 3, 1, 2)

    expected = packages(vit, vit.get_submodule(layer.name), transform, batch, targets[:, 0])
    assert relative(result.maps["gradcam"][:, 0], expected) < 1e-4
    by_hand = attention_by_hand(vit, batch, projections(vit.encoder.layers, "ln_1", "self_attention"))
    for i in range(2):
        expected = rolled_out([a[i] for a in by_hand])[0, 1:].reshape(14, 14)
        assert relative(result.maps["rollout"][i, 0], expected) < 1e-4
    with pytest.raises(
        LayerError, match=rf"no gradient at the positions of layer 'encoder.ln'.*'{BLOCK}11.ln_1'"
    ):
        resolve_target_layer(vit, "encoder.ln", batch)


def test_an_untrained_transformer_whose_head_is_zero_has_the_same_layer():
    """As torchvision's are: the scores have no gradient anywhere, the features before the head do."""
    network = Transformer().eval()
    nn.init.zeros_(network.head.weight)
    assert find_target_layer(network, torch.randn(2, 3, 16, 24)).name == "blocks.2.norm1"


@pytest.mark.slow
def test_swin_t(swin):
    batch = torch.randn(2, 3, 224, 224)
    layer = find_target_layer(swin, batch)
    assert (layer.name, layer.layout, layer.prefix) == ("norm", "nhwc", 0)
    assert (layer.channels, layer.height, layer.width) == (768, 7, 7)
    explainer = ActivationExplainer(swin, layer, batch)
    targets = torch.tensor([[7], [3]])
    result = explainer.explain(batch, targets, usable(explainer))
    assert set(result.maps) == set(CAMS)
    assert all(m.shape == (2, 1, 7, 7) and m.isfinite().all() for m in result.maps.values())
    expected = packages(swin, swin.norm, lambda x: x.permute(0, 3, 1, 2), batch, targets[:, 0])
    assert relative(result.maps["gradcam"][:, 0], expected) < 1e-4
    assert "SwinTransformer attends within windows ('features.1.0.attn')" in explainer.refusal(
        methods()["rollout"]
    )
    assert find_target_layer(swin, torch.randn(1, 3, 64, 128)).width == 4
    assert resolve_target_layer(swin, "permute", batch).layout == "nchw"


@pytest.mark.parametrize(
    ("name", "options", "layer", "layout", "prefix", "refused"),
    [
        ("vit_tiny_patch16_224", {}, "blocks.11.norm1", "tokens", 1, {"cam"}),
        ("vit_tiny_patch16_224", {"global_pool": "avg"}, "blocks", "tokens", 1, {"cam"}),
        ("vit_tiny_patch16_224", {"reg_tokens": 4, "depth": 3}, "blocks.2.norm1", "tokens", 5, {"cam"}),
        ("deit_tiny_patch16_224", {}, "blocks.11.norm1", "tokens", 1, {"cam"}),
        ("deit_tiny_distilled_patch16_224", {"depth": 3}, "blocks.2.norm1", "tokens", 2, {"cam"}),
        ("swin_tiny_patch4_window7_224", {}, "norm", "nhwc", 0, {"rollout"}),
    ],
)
def test_timm(name, options, layer, layout, prefix, refused):
    network = timm.create_model(name, pretrained=False, **options)
    batch, explainer = prepare(network, 2, 3, 224, 224)
    found, side = explainer.layer, 7 if layout == "nhwc" else 14
    assert (found.name, found.layout, found.prefix) == (layer, layout, prefix)
    assert (found.height, found.width) == (side, side)
    before = state(network), [getattr(p, "fused_attn", None) for p in network.modules()]
    requests = usable(explainer)
    assert {r.name for r in requests} == {*CAMS, "rollout"} - refused
    targets = torch.tensor([[1, 2], [3, -1]])
    maps = explainer.explain(batch, targets, requests).maps
    assert (state(network), [getattr(p, "fused_attn", None) for p in network.modules()]) == before
    for key, found in maps.items():
        assert found.shape == (2, 2, side, side)
        assert found[1, 1].isnan().all()
        assert found[targets >= 0].isfinite().all()
        assert found[targets >= 0].any(), key
    if "rollout" in maps:
        layers = [(b.norm1, b.attn.qkv.weight, b.attn.qkv.bias, b.attn.num_heads) for b in network.blocks]
        by_hand = attention_by_hand(network, batch, layers)
        rows = (
            slice(prefix, None) if options.get("global_pool") else slice(0, 2 if "distilled" in name else 1)
        )
        for i in range(2):
            expected = rolled_out([a[i] for a in by_hand])[rows, prefix:].mean(0).reshape(14, 14)
            assert relative(maps["rollout"][i, 0], expected) < 1e-4


@pytest.mark.parametrize("pool", [False, True])
@pytest.mark.parametrize("fusion", ["mean", "max", "min"])
@pytest.mark.parametrize("discard", [0.0, 0.4])
def test_rollout_equals_the_whole_product_written_the_slow_way(pool, fusion, discard):
    network = Transformer(prefix=1, pool=pool)
    batch, explainer = prepare(network, 4, 3, 16, 24)
    request = (
        parse_methods("gradcam")[0],
        MethodRequest(
            methods()["rollout"], methods()["rollout"].resolve({"head_fusion": fusion, "discard": discard})
        ),
    )
    found = explainer.explain(batch, torch.tensor([[0, 2]] * 4), request).maps["rollout"]
    by_hand = attention_by_hand(network, batch, projections(network.blocks, "norm1", "attention"))
    fuse = {"mean": lambda h: h.mean(0), "max": lambda h: h.max(0), "min": lambda h: h.min(0)}[fusion]
    for i in range(4):
        product = rolled_out([a[i] for a in by_hand], fuse, discard)
        expected = (product[1:].mean(0) if pool else product[0])[1:].reshape(4, 6)
        assert relative(found[i, 0], expected) < 1e-4
        assert torch.equal(found[i, 0], found[i, 1])


@pytest.mark.parametrize("need", [{}, {"need_weights": False}, {"average_attn_weights": False}])
@pytest.mark.parametrize("positional", [False, True])
def test_asking_for_the_weights_leaves_what_attention_returns(need, positional):
    class Attending(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x):
            if positional:
                return self.attention(
                    x, x, x, None, need.get("need_weights", True), **dict([*need.items()][1:])
                )
            return self.attention(query=x, key=x, value=x, **need)

    network, x, taken = Attending().eval(), torch.randn(3, 6, 8), []
    expected = network(x)
    with capturing_attention(network, lambda name, weights: taken.append((name, weights))):
        found = network(x)
    ((name, weights),) = taken
    assert name == "attention"
    assert weights.shape == (3, 2, 6, 6)
    torch.testing.assert_close(found[0], expected[0])
    if positional and need and "need_weights" not in need:
        return
    assert (found[1] is None) == (expected[1] is None)
    if expected[1] is not None:
        torch.testing.assert_close(found[1], expected[1])


def test_rollout_in_pytorchs_own_encoder():
    class Encoder(Transformer):
        def __init__(self):
            super().__init__()
            layer = nn.TransformerEncoderLayer(12, 2, 24, batch_first=True, norm_first=True)
            self.blocks = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    network = Encoder()
    batch, explainer = prepare(network, 3, 3, 16, 24)
    assert explainer.layer.name == "blocks.layers.1.norm1"
    found = explainer.explain(batch, torch.zeros(3, 1, dtype=torch.long), usable(explainer)).maps
    by_hand = attention_by_hand(network, batch, projections(network.blocks.layers, "norm1", "self_attn"))
    for i in range(3):
        expected = rolled_out([a[i] for a in by_hand])[0, 1:].reshape(4, 6)
        assert relative(found["rollout"][i, 0], expected) < 1e-4


@pytest.mark.parametrize("pool", [False, True])
def test_the_same_image_in_another_batch_gives_the_same_map(pool):
    batch, explainer = prepare(Transformer(pool=pool).double(), 7, 3, 16, 24)
    targets = torch.arange(7)[:, None] % 5
    together = explainer.explain(batch, targets, usable(explainer)).maps
    order = torch.tensor([5, 2, 0])
    apart = explainer.explain(batch[order], targets[order], usable(explainer)).maps
    assert "rollout" in together
    for name, maps in together.items():
        assert relative(apart[name], maps[order]) < 1e-5, name


def test_rollout_does_not_change_the_other_maps_or_the_logits():
    batch, explainer = prepare(Transformer(), 3, 3, 16, 24)
    targets = torch.zeros(3, 1, dtype=torch.long)
    without = explainer.explain(batch, targets, parse_methods("gradcam"))
    beside = explainer.explain(batch, targets, parse_methods("rollout,gradcam"))
    assert list(beside.maps) == ["rollout", "gradcam"]
    assert torch.equal(without.maps["gradcam"], beside.maps["gradcam"])
    assert torch.equal(without.logits, beside.logits)


@pytest.mark.parametrize("kind", ["torch", "timm"])
def test_the_network_is_left_as_found_after_errors_too(kind):
    network = Transformer() if kind == "torch" else timm.create_model("vit_tiny_patch16_224", depth=2)
    shape = (2, 3, 16, 24) if kind == "torch" else (2, 3, 224, 224)
    batch, explainer = prepare(network, *shape)
    assert explainer.refusal(methods()["rollout"]) is None
    network.train()
    before = state(network), [vars(p).get("fused_attn") for p in network.modules()]
    assert kind == "torch" or True in before[1]
    targets = torch.zeros(2, 1, dtype=torch.long)
    explainer.explain(batch, targets, parse_methods("rollout,gradcam"))
    assert (state(network), [vars(p).get("fused_attn") for p in network.modules()]) == before

    def broken(*_):
        raise RuntimeError("the head broke")

    handle = network.head.register_forward_hook(broken)
    for look in (find_target_layer, read_attention):
        with pytest.raises(RuntimeError, match="the head broke"):
            look(network, batch)
    with pytest.raises(RuntimeError, match="the head broke"), capturing_attention(network, lambda *_: None):
        network(batch)
    handle.remove()
    assert (state(network), [vars(p).get("fused_attn") for p in network.modules()]) == before


@pytest.mark.parametrize(
    ("network", "size", "sentence"),
    [
        (
            networks.PooledNet(),
            16,
            "needs attention between an image's patches, which PooledNet does not have",
        ),
        (WindowTokens(), 16, r"WindowTokens attends within windows \('attention'\)"),
        (timm.create_model("cait_xxs24_224", depth=1), 224, "that of Cait does not fit together"),
    ],
    ids=["convolutional", "windows", "class_attention"],
)
def test_rollout_is_refused_with_the_reason(network, size, sentence):
    batch = torch.randn(2, 3, size, size)
    explainer = ActivationExplainer(network.eval(), None, batch)
    with pytest.raises(MethodError, match=sentence):
        explainer.explain(batch, torch.zeros(2, 1, dtype=torch.long), parse_methods("rollout"))
    assert explainer.refusal(methods()["rollout"]).endswith(".")


def test_a_method_on_attention_is_not_keyed_by_the_layer():
    method = methods()["rollout"]
    assert method.key(target_layer="a") == method.key(target_layer="b")
    assert method.key({"head_fusion": "max"}) != method.key()


def test_attention_alone_needs_no_layer():
    """Attention whose tokens no module but the patch embedding shows."""
    batch = torch.randn(2, 3, 16, 24)
    network = Transformer(pool=True).eval()
    expected = ActivationExplainer(network, find_target_layer(network, batch), batch)
    explainer = ActivationExplainer(network, None, batch, layer_problem="there is none.")
    targets = torch.zeros(2, 1, dtype=torch.long)
    found = explainer.explain(batch, targets, parse_methods("rollout"))
    assert found.activations is None
    assert torch.equal(
        found.maps["rollout"], expected.explain(batch, targets, parse_methods("rollout")).maps["rollout"]
    )


@pytest.mark.parametrize("name", ["attention", "patches", "blocks.0.mlp.0", "head"])
def test_named_layers_of_a_transformer(name):
    network, batch = Transformer(depth=1).eval(), torch.randn(2, 3, 16, 24)
    name = "blocks.0.attention" if name == "attention" else name
    if name == "patches":
        layer = resolve_target_layer(network, name, batch)
        assert (layer.layout, layer.channels, layer.height, layer.width) == ("nchw", 12, 4, 6)
        return
    sentence = {
        "head": r"'head' is not spatial: its output has shape \(batch, 5\)",
        "blocks.0.attention": "'blocks.0.attention' is not spatial: its output is not a tensor of numbers",
        "blocks.0.mlp.0": "no gradient at the positions of layer 'blocks.0.mlp.0'.*name 'blocks.0.norm1'",
    }[name]
    with pytest.raises(LayerError, match=sentence):
        resolve_target_layer(network, name, batch)


def test_patches_cut_by_hand_are_a_grid_of_the_inputs_shape():
    class Cut(Transformer):
        def __init__(self):
            super().__init__()
            self.patches = nn.Identity()
            self.embed = nn.Linear(48, 12)

        def forward(self, x):
            x = nn.functional.unfold(x, 4, stride=4).mT
            x = torch.cat([self.prefix.expand(len(x), -1, -1), self.embed(x) + self.positions], 1)
            return self.head(self.blocks(x)[:, 0])

    layer = find_target_layer(Cut().eval(), torch.randn(2, 3, 16, 24))
    assert (layer.name, layer.prefix, layer.height, layer.width) == ("blocks.2.norm1", 1, 4, 6)


def test_layouts_are_read_from_operations_and_shapes():
    network = nn.Sequential(
        nn.Conv2d(3, 6, 2, stride=2),
        torchvision.ops.Permute([0, 2, 3, 1]),
        nn.LayerNorm(6),
        nn.ReLU(),
        torchvision.ops.Permute([0, 3, 1, 2]),
        timm.layers.LayerNorm2d(6),
    )
    batch = torch.randn(1, 3, 10, 6)
    readings = read_layouts(trace(network, batch), batch.shape)
    assert [r.layout for r in readings] == ["nchw", "nhwc", "nhwc", "nhwc", "nchw", "nchw"]
    assert {(r.channels, r.height, r.width) for r in readings} == {(6, 5, 3)}
