"""The perturbation family against Captum, pytorch-grad-cam, the lime package and NumPy written the slow way."""

from __future__ import annotations

import zlib
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import pytorch_grad_cam
import torch
import torchvision
from captum.attr import Occlusion
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from cache.errors import MethodError
from engine.attribution.occlusions import occlusion_boxes
from engine.attribution.perturbation import PerturbationExplainer
from engine.attribution.registry import methods, parse_methods
from engine.attribution.subjects import generator
from engine.layers import TargetLayer, find_target_layer, resolve_target_layer
from tests.engine import small_networks as networks
from tests.engine.scenes import ask, explain, network_of, pictures, sensitive, subjects_of
from tests.engine.test_activation import relative, state

FAMILY = [m for m in methods().values() if m.family == "perturbation"]
NAMES = [m.name for m in FAMILY]
ON_SUPERPIXELS = ("lime", "kernel_shap")


def labels_of(extra, size):
    return np.frombuffer(zlib.decompress(extra), "<u2").reshape(size)


def test_the_family_is_whole():
    assert set(NAMES) == {"occlusion", "rise", "lime", "kernel_shap", "scorecam", "ablationcam"}
    assert all(m.presets == ("thorough",) for m in FAMILY)


@pytest.mark.parametrize(("size", "window", "stride"), [((40, 40), 9, 5), ((33, 47), 8, 8), ((20, 31), 5, 3)])
@pytest.mark.parametrize("fill", ["zero", "black"])
def test_occlusion_equals_captum(size, window, stride, fill):
    module, pixels = sensitive(networks.PooledNet()), pictures(2, size)
    subjects = subjects_of(pixels, torch.tensor([[1, 3], [0, -1]]))
    found = explain(
        module, subjects, ask("occlusion", window=window, stride=stride, fill=fill, score="logit")
    )
    for i, t in ((0, 0), (0, 1), (1, 0)):
        expected = Occlusion(module).attribute(
            subjects.inputs[i : i + 1], (3, window, window), (3, stride, stride),
            baselines=0 if fill == "zero" else -2, target=int(subjects.targets[i, t]),
        )[0, 0]  # fmt: skip
        assert relative(found["occlusion"].maps[i, t], expected.detach()) < 1e-4
    assert found["occlusion"].maps[1, 1].isnan().all()


def test_occlusion_of_224_pixels_takes_169_positions():
    assert len(occlusion_boxes(224, 224, 0, 0)) == 169
    assert len(occlusion_boxes(5, 5, 0, 0)) == 25
    assert len(occlusion_boxes(5, 7, 9, 0)) == 1 * 1
    boxes = occlusion_boxes(50, 30, 8, 7)
    assert boxes.min() == 0
    assert boxes[:, 1].max() == 50
    assert boxes[:, 3].max() == 30


def slow_masks(shown, shifts, size):
    """RISE's masks a pixel at a time, interpolation weights rounded to 1/1024."""
    cells = shown.shape[1]
    masks = np.zeros((len(shown), *size))

    def weights(pixel, length):
        at = min(max((pixel + 0.5) * cells / ((cells + 1) * length) - 0.5, 0), cells - 1)
        low = min(int(at), cells - 2)
        return low, [round(1024 * (1 - (at - low))) / 1024, round(1024 * (at - low)) / 1024]

    for n, (grid, (down, right)) in enumerate(zip(shown, shifts, strict=True)):
        for y, x in np.ndindex(*size):
            (row, wy), (column, wx) = (
                weights(p, -(-s // cells)) for p, s in zip((y + down, x + right), size, strict=True)
            )
            masks[n, y, x] = sum(
                wy[a] * wx[b] * grid[row + a, column + b] for a in range(2) for b in range(2)
            )
    return masks


@pytest.mark.parametrize("size", [(28, 28), (19, 30)])
def test_rise_equals_numpy_written_the_slow_way(size):
    module, pixels = sensitive(networks.PooledNet()), pictures(1, size)
    subjects = subjects_of(pixels, torch.tensor([[1, 4]]), contents=["x"])
    request = ask("rise", masks=30, cells=5, keep=0.4)
    found = explain(module, subjects, request)["rise"].maps[0]
    parameters = {k: v for k, v in request.parameters.items() if k != "seeds"}
    draws = generator("x", request.method, sorted(parameters.items()))
    shown = draws.random((30, 5, 5)) < 0.4
    masks = slow_masks(shown, draws.integers(0, [-(-s // 5) for s in size], (30, 2)), size)
    with torch.no_grad():
        masked = subjects.inputs * torch.from_numpy(masks).float()[:, None]
        scores = module(masked).softmax(1).double().numpy()
    for t, target in enumerate((1, 4)):
        expected = (scores[:, target, None, None] * masks).mean(0) / 0.4
        assert relative(found[t], expected) < 1e-5


def package_map(kind, module, layer, inputs, targets):
    """The package's map before clipping, scaling and enlarging."""
    kept = {}

    class Raw(kind):
        def get_cam_image(self, *args, **kwargs):
            kept["map"] = np.maximum(super().get_cam_image(*args, **kwargs), 0)
            return kept["map"]

    with Raw(module, [module.get_submodule(layer.name)]) as package:
        package(inputs, [ClassifierOutputTarget(int(t)) for t in targets])
    return kept["map"]


def vgg16():
    return torchvision.models.vgg16(weights=None, init_weights=False), "features.9"


def resnet50():
    return torchvision.models.resnet50(weights=None), "layer1"


def small():
    return networks.PooledNet(), "features"


@pytest.mark.parametrize("make", [small, vgg16, resnet50])
def test_scorecam_equals_the_package_but_for_how_it_enlarges(make, monkeypatch):
    """Known fault: the package enlarges channels corner to corner, which moves them against the image."""
    module, name = make()
    for parameter in module.parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter)
    module.eval()
    count = 2 if make is small else 1
    subjects = subjects_of(pictures(count, 48), torch.tensor([[1], [3]])[:count])
    layer = resolve_target_layer(module, name, subjects.inputs[:1])
    found = explain(module, subjects, ask("scorecam"), layer=layer)["scorecam"].maps[:, 0]
    kind = pytorch_grad_cam.ScoreCAM
    if make is small:
        fault = package_map(kind, module, layer, subjects.inputs, subjects.targets[:, 0])
        assert relative(found, fault) > 1e-4
    monkeypatch.setattr(nn, "UpsamplingBilinear2d", lambda size: nn.Upsample(size=size, mode="bilinear"))
    expected = package_map(kind, module, layer, subjects.inputs, subjects.targets[:, 0])
    assert np.abs(expected).max() > 0
    assert relative(found, expected) < 1e-3


def test_ablationcam_equals_the_package_where_activations_reach_zero():
    module = sensitive(networks.PooledNet())
    subjects = subjects_of(pictures(3, 30), torch.zeros(3, 1, dtype=torch.int64))
    with torch.no_grad():
        subjects = replace(subjects, targets=module(subjects.inputs).argmax(1, keepdim=True))
    layer = find_target_layer(module, subjects.inputs[:1])
    found = explain(module, subjects, ask("ablationcam"))["ablationcam"].maps[:, 0]
    expected = package_map(
        pytorch_grad_cam.AblationCAM, module, layer, subjects.inputs, subjects.targets[:, 0]
    )
    assert relative(found, expected) < 1e-4


def test_known_fault_ablationcam_of_the_package_puts_minus_ten_million_for_signed_activations():
    """The paper zeroes a channel; where activations are signed the package subtracts 1e7, again for every channel."""
    module = networks.LeNet().eval()
    subjects = subjects_of(pictures(1, 28, channels=1), torch.tensor([[0]]))
    with torch.no_grad():
        target = module(subjects.inputs).argmax(1, keepdim=True)
        subjects = replace(subjects, targets=target)
        layer = find_target_layer(module, subjects.inputs)
        cut = int(layer.name.removeprefix("features.")) + 1
        taken = module.features[:cut](subjects.inputs)

        def head(activations):
            return module.classifier(module.features[cut:](activations).flatten(1))[0, int(target)]

        whole = head(taken)
        weights = []
        for k in range(taken.shape[1]):
            without = taken.clone()
            without[:, k] = 0
            weights.append((whole - head(without)) / whole)
        expected = sum(w * a for w, a in zip(weights, taken[0], strict=True)).relu()
    found = explain(module, subjects, ask("ablationcam"))["ablationcam"].maps[0, 0]
    assert relative(found, expected) < 1e-4
    fault = package_map(pytorch_grad_cam.AblationCAM, module, layer, subjects.inputs, target[:, 0])
    assert relative(fault[0], expected) > 0.01


def test_ablationcam_of_a_negative_score_is_not_turned_around():
    module = sensitive(networks.BinaryNet())
    subjects = subjects_of(pictures(1, 30), torch.tensor([[0, 1]]))
    maps = explain(module, subjects, ask("ablationcam"))["ablationcam"].maps[0]
    assert ((maps[0] > 0) & (maps[1] > 0)).sum() == 0


@pytest.mark.parametrize("name", ON_SUPERPIXELS)
@pytest.mark.parametrize("fill", ["mean", "blur", "black", "noise"])
def test_superpixel_methods_paint_the_weights_that_they_keep(name, fill):
    module, pixels = sensitive(networks.PooledNet()), pictures(2, 32)
    subjects = subjects_of(pixels, torch.tensor([[1, 2], [0, -1]]))
    result = explain(module, subjects, ask(name, fill=fill))[name]
    assert [column.name for column in methods()[name].columns] == list(result.extras)
    for i, t in ((0, 0), (0, 1), (1, 0)):
        labels = labels_of(result.extras["superpixels"][i][t], (32, 32))
        weights = result.extras["weights"][i][t]
        assert weights.dtype == np.float32
        assert weights.shape == (labels.max() + 1,)
        assert np.array_equal(result.maps[i, t].numpy(), weights[labels])
        assert np.isfinite(result.extras["intercept"][i][t])
    trust = result.statistics["surrogate_r2" if name == "lime" else "additivity_error"]
    assert np.isfinite(trust[0]).all()
    assert np.isnan(trust[1, 1])
    assert (trust[0] <= (1 if name == "lime" else 1e-5)).all()
    assert all(result.extras[column][1][1] is None for column in result.extras)


def test_kernel_shap_adds_up_to_the_score():
    module, pixels = sensitive(networks.PooledNet()), pictures(1, 32)
    subjects = subjects_of(pixels, torch.tensor([[2]]))
    for segments in (4, 30):
        extras = explain(module, subjects, ask("kernel_shap", segments=segments, samples=200))[
            "kernel_shap"
        ].extras
        total = extras["weights"][0][0].sum() + extras["intercept"][0][0]
        with torch.no_grad():
            assert total == pytest.approx(float(module(subjects.inputs).softmax(1)[0, 2]), abs=1e-5)


def test_hidden_superpixels_have_their_mean_colour():
    """A network that adds up the image: hiding a superpixel in its own mean colour changes nothing."""

    class Total(nn.Module):
        def forward(self, x):
            return torch.stack([x.mean((1, 2, 3)), -x.mean((1, 2, 3))], 1)

    subjects = subjects_of(pictures(1, 32), torch.tensor([[0]]))
    flat = explain(Total(), subjects, ask("kernel_shap", score="logit"))["kernel_shap"].maps
    black = explain(Total(), subjects, ask("kernel_shap", score="logit", fill="black"))["kernel_shap"].maps
    assert flat.abs().max() < 1e-4 * black.abs().max()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("channels", [1, 3])
def test_maps_do_not_depend_on_batch_order_budget_or_memory_layout(name, channels):
    module, pixels = sensitive(networks.PooledNet(channels=channels)).double(), pictures(5, 36, channels)
    targets = torch.tensor([[0, 1], [2, -1], [3, 3], [4, 0], [1, 2]])
    contents = [f"c{i}" for i in range(5)]
    # A map is a difference of scores, which rounding may blur where the network hardly minds a mask.
    given = {"score": "logit"} if "score" in ask(name).parameters else {}
    exact = torch.float64
    batch = subjects_of(pixels, targets, 64, contents=contents, dtype=exact)
    whole = explain(module, batch, ask(name, **given))[name]
    order = torch.randperm(5)[:4].tolist()
    part = explain(
        module,
        subjects_of(
            pixels[order], targets[order], 7, torch.channels_last, [contents[i] for i in order], exact
        ),
        ask(name, **given),
    )[name]
    for row, i in enumerate(order):
        for t in range(2):
            if targets[i, t] >= 0:
                assert relative(part.maps[row, t], whole.maps[i, t]) < 1e-5
        for column in part.extras:
            if column == "superpixels":
                assert part.extras[column][row] == whole.extras[column][i]
    if methods()[name].class_dependent:
        assert relative(whole.maps[0, 0], whole.maps[0, 1]) > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_draws_depend_on_the_content_alone(name):
    """The masked inputs of an image are bit for bit the same, whatever else is in the batch."""
    seen = []

    class Keeping(networks.PooledNet):
        def forward(self, x):
            seen.extend(x.clone().contiguous())
            return super().forward(x)

    module, pixels = sensitive(Keeping()), pictures(3, 24)
    targets = torch.tensor([[0], [1], [2]])
    if "spatial_layer" in methods()[name].needs:
        pytest.skip("draws nothing")
    explain(module, subjects_of(pixels, targets, 64, contents=["a", "b", "c"]), ask(name))
    together, count = list(seen), len(seen) // 3
    seen.clear()
    explain(module, subjects_of(pixels[2:], targets[2:], 5, contents=["c"]), ask(name))
    alone = torch.stack(seen)
    assert len(alone) == (count if name != "kernel_shap" else len(alone))
    torch.testing.assert_close(torch.stack(together[-len(alone) :]), alone, rtol=0, atol=1e-6)
    seen.clear()
    explain(module, subjects_of(pixels[2:], targets[2:], 5, contents=["another"]), ask(name))
    if name != "occlusion" and len(seen) == len(alone):
        assert not torch.equal(torch.stack(seen), alone)


@pytest.mark.parametrize("name", ["rise", "lime", "kernel_shap"])
def test_seeds_are_averaged_and_their_spread_is_kept(name):
    module, pixels = sensitive(networks.PooledNet()), pictures(2, 30)
    subjects = subjects_of(pixels, torch.tensor([[0, 1], [2, -1]]))
    one = explain(module, subjects, ask(name))[name]
    assert "seed_spread" not in one.statistics
    three = explain(module, subjects, ask(name, seeds=3))[name]
    spread = three.statistics["seed_spread"]
    assert ((spread[0] > 0) & (spread[0] < 1)).all()
    assert np.isnan(spread[1, 1])
    assert relative(three.maps[0], one.maps[0]) > 1e-6


class Nowhere(networks.PooledNet):
    """NaN for one class."""

    def forward(self, x):
        scores = super().forward(x)
        scores[:, 1] = torch.nan
        return scores


@pytest.mark.parametrize("name", NAMES)
def test_scores_of_nan_make_maps_of_nan(name):
    request = ask(name, score="logit") if "score" in ask(name).parameters else ask(name)
    targets = torch.tensor([[1, 0]])
    result = explain(sensitive(Nowhere()), subjects_of(pictures(1, 24), targets), request)[name]
    assert result.maps[0, 0].isnan().all()
    if name != "rise":
        assert result.maps[0, 1].isfinite().all()
    assert all(np.isnan(values[0, 0]) for values in result.statistics.values())


def vit():
    return torchvision.models.VisionTransformer(32, 8, 2, 2, 24, 48, num_classes=4)


@pytest.mark.parametrize("make", [vit, networks.TokenNet, networks.BinaryNet, networks.FlatNet])
@pytest.mark.parametrize("name", ["occlusion", "rise", "lime", "kernel_shap"])
def test_any_network_that_runs_forward_will_do(make, name):
    module = sensitive(make())
    subjects = subjects_of(pictures(2, 32 if make is vit else 20), torch.tensor([[0, 1], [1, -1]]))
    result = explain(module, subjects, ask(name))[name].maps
    assert result.shape[2:] == subjects.inputs.shape[2:]
    assert result[0].isfinite().all()
    assert (result[0].abs().amax((1, 2)) > 0).all()


@pytest.mark.parametrize("name", NAMES)
def test_an_image_of_one_colour_does_not_break_anything(name):
    module = sensitive(networks.PooledNet())
    pixels = np.full((1, 24, 24, 3), 90, np.uint8)
    result = explain(module, subjects_of(pixels, torch.tensor([[0]])), ask(name))[name]
    assert result.maps.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fail", [False, True])
def test_the_network_is_left_as_it_was_and_the_budget_kept(name, fail):
    sizes = []

    class Late(networks.FailingNet):
        def forward(self, x):
            sizes.append(len(x))
            self.fail = fail and len(sizes) > 8
            return super().forward(x)

    module = Late()
    module.features.requires_grad_(False)
    before = state(module)
    subjects = subjects_of(pictures(2, 24), torch.tensor([[0], [1]]), budget=3)
    inputs = subjects.inputs.clone()
    expected = pytest.raises(RuntimeError, match="the head broke") if fail else nullcontext()
    with expected:
        explain(module, subjects, ask(name), layer=TargetLayer("features", 0, 12, 12, 12))
    assert max(sizes) <= 3
    assert state(module) == before
    assert torch.equal(subjects.inputs, inputs)


def test_many_images_and_methods_share_full_batches():
    sizes = []

    class Counting(networks.PooledNet):
        def forward(self, x):
            sizes.append(len(x))
            return super().forward(x)

    subjects = subjects_of(pictures(3, 24), torch.tensor([[0], [1], [2]]), budget=32)
    explain(sensitive(Counting()), subjects, ask("rise"), ask("lime"), ask("occlusion"))
    assert set(sizes[:-1]) == {32}


def test_refusals_say_why():
    module = networks.TokenNet().eval()
    explainer = PerturbationExplainer(network_of(module), torch.zeros(1, 3, 20, 20))
    for name in ("scorecam", "ablationcam"):
        reason = explainer.refusal(ask(name))
        assert "TokenNet" in reason
        assert "--target-layer" in reason
        with pytest.raises(MethodError, match="TokenNet"):
            explainer.explain(subjects_of(pictures(1, 20), torch.tensor([[0]])), [ask(name)])
    assert explainer.refusal(ask("lime")) is None
    assert "stride=9 and window=4" in explainer.refusal(ask("occlusion", window=4, stride=9))
    assert "not one of" in explainer.refusal(parse_methods("gradcam")[0])


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("lime(samples=1)", "samples=1"),
        ("lime(fill=zero)", "one of mean, blur, black, noise"),
        ("lime(superpixels=watershed)", "slic, quickshift, felzenszwalb"),
        ("kernel_shap(kernel_width=1)", "has no parameter 'kernel_width'"),
        ("rise(keep=1.5)", "0.01 to 0.99"),
        ("occlusion(score=loss)", "probability, logit"),
        ("scorecam(seeds=2)", "has no parameter 'seeds'"),
    ],
)
def test_wrong_parameters_are_refused_in_one_sentence(text, named):
    with pytest.raises(MethodError, match=r"\.$") as caught:
        parse_methods(text)
    assert named in str(caught.value)
