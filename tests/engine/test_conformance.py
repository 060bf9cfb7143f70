"""What every registered method promises, on a small network it can take: no method escapes these tests."""

from __future__ import annotations

import re
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from engine.attribution.registry import MethodRequest, methods
from engine.attribution.subjects import Maps, Subjects
from engine.families import Families
from engine.layers import find_target_layer
from engine.models import LoadedModel
from engine.preprocessing import build_preprocessing

SIDE = 32
CLASSES = 3
FEWER = {"samples": 60, "masks": 60, "steps": 20, "segments": 12}
"""Draws are as repeatable when there are fewer of them."""


class Pooled(nn.Module):
    """Convolutions, global pooling and one linear layer: what every method but those on attention can take."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 5, stride=2, padding=2)
        self.relu = nn.ReLU()
        self.second = nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.last = nn.ReLU(inplace=True)
        self.head = nn.Linear(12, CLASSES)
        # Scores that differ by little would leave nothing but rounding in the maps of their differences.
        self.head.weight.data *= 20

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.last(self.second(self.relu(self.first(x)))).mean((2, 3)))


class Transformer(nn.Module):
    """Patches, a class token and two blocks of attention."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 8, stride=8)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        layer = nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True, norm_first=True)
        self.blocks = nn.ModuleList([layer, nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True)])
        self.head = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x).flatten(2).mT
        tokens = torch.cat((self.token.expand(len(x), -1, -1), patches), 1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(tokens[:, 0])


def loaded(module: nn.Module) -> LoadedModel:
    preprocessing = build_preprocessing({"size": (SIDE, SIDE), "mean": (0.5,), "std": (0.25,)}, 3)
    return LoadedModel(
        module.eval(),
        preprocessing,
        None,
        CLASSES,
        False,
        "test",
        "random",
        "Test",
        "0" * 32,
        torch.device("cpu"),
    )


@cache
def families(attention: bool) -> Families:
    torch.manual_seed(3)
    model = loaded(Transformer() if attention else Pooled())
    example = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    return Families(model, find_target_layer(model.module, example), example)


def request(name: str) -> MethodRequest:
    method = methods()[name]
    given = {p.name: FEWER[p.name] for p in method.parameters if p.name in FEWER}
    return MethodRequest(method, method.resolve(given))


def explainers(name: str) -> Families:
    return families("attention" in methods()[name].needs)


def subjects(count: int, targets: Tensor, budget: int = 16) -> Subjects:
    """Return images of smooth random shapes, the first ``count`` of always the same."""
    generator = np.random.default_rng(7)
    small = generator.integers(0, 256, (count, 6, 6, 3)).astype(np.uint8)
    pixels = np.kron(small, np.ones((1, 6, 6, 1), np.uint8))[:, :SIDE, :SIDE]
    pixels = (pixels // 2 + generator.integers(0, 100, pixels.shape)).astype(np.uint8)
    inputs = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.25
    return Subjects(inputs, pixels, targets, [f"{i:032x}" for i in range(count)], budget)


def some(batch: Subjects, rows: list[int], budget: int) -> Subjects:
    return Subjects(
        batch.inputs[rows], batch.pixels[rows], batch.targets[rows], [batch.contents[i] for i in rows], budget
    )


def explain(name: str, batch: Subjects) -> Maps:
    asked, of = request(name), explainers(name)
    assert of.refusal(asked) is None
    if asked.method.family == "activation":
        return Maps(of.activation.explain(batch.inputs, batch.targets, [asked]).maps[name])
    wanted = {name: (batch.targets >= 0).numpy()}
    return of.maps(batch, wanted, [asked])[name]


every_method = pytest.mark.parametrize("name", list(methods()))


@every_method
def test_shape_finiteness_and_sign(name):
    targets = torch.tensor([[0, 1], [2, -1], [1, 0]])
    maps = explain(name, subjects(3, targets)).maps
    assert maps.shape[:2] == targets.shape
    assert maps.ndim == 4
    assert maps.dtype == torch.float32
    assert maps[1, 1].isnan().all()
    asked = maps[targets >= 0]
    assert asked.isfinite().all()
    assert (asked.flatten(1).abs().amax(1) > 0).any()
    if not methods()[name].signed:
        assert asked.min() >= 0


@every_method
def test_another_class_has_another_map_where_the_method_says_so(name):
    maps = explain(name, subjects(4, torch.tensor([[0, 1]] * 4))).maps
    difference = (maps[:, 0] - maps[:, 1]).abs().amax((1, 2))
    if methods()[name].class_dependent:
        assert (difference > 1e-3 * maps.abs().max()).all()
    else:
        assert (difference == 0).all()


@every_method
def test_neither_batch_nor_order_nor_budget_changes_a_map(name):
    batch = subjects(5, torch.tensor([[0, 1], [2, -1], [1, 2], [0, -1], [1, 0]]))
    whole = explain(name, batch)
    rows = [3, 0, 4]
    part = explain(name, some(batch, rows, budget=5))
    for at, row in enumerate(rows):
        for column in range(2):
            expected, found = whole.maps[row, column], part.maps[at, column]
            if batch.targets[row, column] < 0:
                continue
            assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()
            if "superpixels" in whole.extras:
                assert part.extras["superpixels"][at][column] == whole.extras["superpixels"][row][column]


@every_method
def test_the_budget_is_kept(name):
    sizes: list[int] = []
    module = explainers(name).activation.module
    hook = module.register_forward_pre_hook(lambda _module, inputs: sizes.append(len(inputs[0])))
    try:
        explain(name, subjects(4, torch.tensor([[0, 1]] * 4), budget=4))
    finally:
        hook.remove()
    assert sizes or methods()[name].family != "activation"
    assert max(sizes, default=0) <= 4


def state(module: nn.Module) -> list[object]:
    hooks = [
        (len(part._forward_hooks), len(part._forward_pre_hooks), len(part._backward_hooks), part.training)
        for part in module.modules()
    ]
    values = [
        (p.requires_grad, p.grad is None, p.dtype, p.detach().double().sum().item())
        for p in module.parameters()
    ]
    flags = [part.inplace for part in module.modules() if hasattr(part, "inplace")]
    return [hooks, values, flags, torch.is_grad_enabled(), [type(part) for part in module.modules()]]


@every_method
def test_the_model_is_left_as_it_was_found(name):
    module = explainers(name).activation.module
    batch = subjects(2, torch.tensor([[0, 1]] * 2))
    explain(name, batch)
    before = state(module)
    explain(name, batch)
    assert state(module) == before


@every_method
def test_the_model_is_left_as_it_was_found_after_an_error(name):
    of = explainers(name)
    module = of.activation.module
    batch = subjects(2, torch.tensor([[0, 1]] * 2))
    explain(name, batch)  # what is learnt about the network once is learnt
    before = state(module)

    def fail(_module, _inputs, _output):
        raise RuntimeError("the pass broke off")

    head = module.get_submodule("head")
    broken = head.register_forward_hook(fail)
    try:
        with pytest.raises(RuntimeError, match="the pass broke off"):
            explain(name, batch)
    finally:
        broken.remove()
    assert state(module) == before


@every_method
def test_it_is_documented(name):
    method = methods()[name]
    assert method.title
    assert method.summary.endswith(".")
    assert re.search(r"\b(19|20)\d\d\b", method.reference)
    assert re.search(r"arXiv:\d{4}\.\d{4,5}|doi:10\.", method.reference)
    assert re.search(r"forward|pass", method.passes)
    assert method.compute.__doc__
    assert "fast" not in method.presets or {"standard", "thorough"} <= set(method.presets)
    assert "thorough" in method.presets
