"""Code for accelerators, run on a pretended one: what mixes it with the host fails, and little is copied back."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from cache.errors import ConfigError
from cache.maps import decode_map, encode_maps
from engine import grids
from engine.attribution.activation import attended_features
from engine.attribution.registry import methods
from engine.attribution.subjects import Maps
from engine.families import Families
from engine.layers import find_target_layer
from engine.precision import lower
from engine.statistics import measure
from engine.transfers import encode, settle_layout, to_device, to_host
from tests.engine.pretend_device import DEVICE, There, pretending
from tests.engine.test_conformance import (
    SIDE,
    Pooled,
    Transformer,
    explain,
    explainers,
    loaded,
    request,
    subjects,
)
from tests.seeding import rng

TARGETS = torch.tensor([[0, 1], [2, -1], [1, 0]])


@pytest.fixture(autouse=True)
def helpers_forgotten() -> Iterator[None]:
    """Helper tensors that are kept for each device are forgotten with the pretended one."""
    yield
    for name in ("_area", "_own_labels", "_regions", "centres"):
        getattr(grids, name).cache_clear()


def carried(module: nn.Module) -> nn.Module:
    """Return a copy of a network on the pretended device."""
    there = copy.deepcopy(module)
    for part in there.modules():
        for name, parameter in part.named_parameters(recurse=False):
            part._parameters[name] = nn.Parameter(There(parameter.detach()))
        for name, buffer in part.named_buffers(recurse=False):
            part._buffers[name] = There(buffer)
    return there


@pytest.mark.parametrize("name", list(methods()))
def test_every_method_keeps_to_the_device_and_finds_the_same(name: str) -> None:
    batch, asked = subjects(3, TARGETS), request(name)
    expected = explain(name, batch)
    module = explainers(name)._model.module
    with pretending() as watched:
        model = replace(loaded(carried(module)), device=DEVICE)
        example = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1)).to(DEVICE)
        families = Families(model, find_target_layer(model.module, example), example)
        assert families.refusal(asked) is None
        there = replace(batch, inputs=batch.inputs.to(DEVICE))
        watched.fetched.clear()
        if asked.method.family == "activation":
            maps = Maps(families.activation.explain(there.inputs, TARGETS, [asked]).maps[name])
        else:
            maps = families.maps(there, {name: (TARGETS >= 0).numpy()}, [asked])[name]
        inputs = [shape for shape in watched.fetched if shape[-2:] == (SIDE, SIDE) and len(shape) == 4]
        assert not inputs, "inputs or masks were copied back"
        if asked.method.family == "activation":
            assert not watched.fetched
        found = maps.maps.cpu()
    largest = expected.maps[TARGETS >= 0].abs().amax()
    np.testing.assert_allclose(found.numpy(), expected.maps.numpy(), atol=float(1e-4 * largest))


@pytest.mark.parametrize("objects", [None, "mask", "boxes"])
def test_statistics_are_measured_where_the_maps_are(objects: str | None) -> None:
    maps = torch.from_numpy(rng.standard_normal((9, 7, 7)).astype(np.float32))
    maps[3] = -1
    mask = torch.from_numpy((rng.random((9, 56, 56)) < 0.4).astype(np.float32)) if objects == "mask" else None
    boxes = torch.from_numpy(np.sort(rng.random((9, 2, 2, 2)), 2).reshape(9, 2, 4).astype(np.float32))
    boxes = boxes if objects == "boxes" else None
    expected = measure(maps, mask, boxes)
    with pretending() as watched:
        there = [None if one is None else one.to(DEVICE) for one in (maps, mask, boxes)]
        found = measure(*there)
        assert not watched.fetched
        columns = to_host([found.values, found.corners, found.degenerate, *encode(there[0])])
        assert len(watched.fetched) == 5, "values, corners, degenerate, maps and scales, and nothing else"
    for one, other in zip(columns, (expected.values, expected.corners, expected.degenerate), strict=False):
        assert torch.equal(torch.nan_to_num(one.float()), torch.nan_to_num(other.float()))


def test_attended_features_stay_on_the_device() -> None:
    activations, maps = torch.randn(3, 6, 7, 5), torch.randn(3, 14, 11)
    with pretending() as watched:
        found = attended_features(activations.to(DEVICE), maps.to(DEVICE))
        assert not watched.fetched
        found = found.cpu()
    torch.testing.assert_close(found, attended_features(activations, maps))


@pytest.mark.parametrize("shape", [(1, 1), (7, 7), (14, 9), (64, 48)])
def test_maps_are_encoded_as_the_cache_does(shape: tuple[int, int]) -> None:
    maps = (rng.standard_normal((20, *shape)) * 10.0 ** rng.uniform(-20, 20, (20, 1, 1))).astype(np.float32)
    maps[0] = 0
    maps[1, 0, 0], maps[2, 0, 0], maps[3] = np.nan, np.inf, np.nan
    with np.errstate(invalid="ignore"):
        rows, scales = encode_maps(maps)
        halves, found = encode(torch.from_numpy(maps))
    assert found.numpy().tolist() == scales.tolist()
    for i, row in enumerate(rows):
        here = decode_map(halves[i].numpy().tobytes(), 1.0, *shape)
        np.testing.assert_allclose(here, decode_map(row, 1.0, *shape), rtol=2.0**-10, atol=2.0**-24)
    same = np.mean([halves[i].numpy().tobytes() == row for i, row in enumerate(rows)])
    assert same > 0.5, "numbers are rounded once: another half is the exception"


def test_pixels_and_the_faster_layout() -> None:
    pixels = rng.integers(0, 256, (5, SIDE, SIDE, 3)).astype(np.uint8)
    pixels.flags.writeable = False
    torch.manual_seed(0)
    model = loaded(Pooled())
    there = to_device(pixels, torch.device("cpu"))
    assert torch.equal(there, torch.from_numpy(pixels.copy()))
    before = model.module(model.inputs(pixels))
    settle_layout(model, model.inputs(pixels[:2]))
    x = model.inputs(pixels)
    assert x.is_contiguous(memory_format=model.layout)
    assert model.module.first.weight.is_contiguous(memory_format=model.layout)
    torch.testing.assert_close(model.module(x), before, rtol=1e-5, atol=1e-5)
    model.layout = torch.contiguous_format
    assert model.inputs(pixels).is_contiguous()


@cache
def rounded(precision: str, attention: bool) -> Families:
    torch.manual_seed(3)
    model = loaded(Transformer() if attention else Pooled())
    example = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))
    families = Families(model, find_target_layer(model.module, example), example)
    for name, method in methods().items():
        if ("attention" in method.needs) == attention:
            families.refusal(request(name))
    lower(model.module, torch.device("cpu"), precision)  # type: ignore[arg-type]
    return families


TOLERANCE = {"bfloat16": 0.06, "float16": 0.01}
"""Of a map's largest value; on networks with random weights, whose scores are close to each other."""


@pytest.mark.parametrize("precision", list(TOLERANCE))
@pytest.mark.parametrize("name", [n for n, m in methods().items() if m.family == "activation"])
def test_lower_precision_is_within_its_tolerance(name: str, precision: str) -> None:
    batch = subjects(3, TARGETS)
    exact = explain(name, batch).maps
    found = rounded(precision, "attention" in methods()[name].needs).activation.explain(
        batch.inputs, TARGETS, [request(name)]
    )
    assert found.logits.dtype == found.maps[name].dtype == torch.float32
    largest = exact[TARGETS >= 0].abs().amax()
    difference = (found.maps[name] - exact)[TARGETS >= 0].abs().amax()
    assert 0 < difference <= TOLERANCE[precision] * largest


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_precisions_that_cannot_be_had_are_one_sentence() -> None:
    module = torch.jit.trace(Pooled().eval(), torch.zeros(1, 3, SIDE, SIDE))
    with pytest.raises(ConfigError, match="scripted network: say float32"):
        lower(module, torch.device("cpu"), "bfloat16")
    model = Pooled()
    with pytest.raises(ConfigError, match="is not possible on meta: say float32"):
        lower(model, torch.device("meta"), "bfloat16")
    assert "forward" not in vars(model)
