"""The batch that fits: what a pass holds is measured on the network, and a device without memory gets half."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from cache.errors import ModelError
from engine import batches
from engine.attribution.activation import ActivationExplainer
from engine.attribution.perturbation import PerturbationExplainer
from engine.batches import automatic_batch, free_memory, input_bytes
from engine.explain import explain
from engine.models import load_model
from tests.engine.audits import assert_same_rows, config, write_factory, write_images


def model_of(tmp_path: Path):
    return load_model(write_factory(tmp_path), device="cpu")


def test_an_input_takes_what_the_layers_say(tmp_path):
    model = model_of(tmp_path)
    example = torch.zeros(2, 3, 32, 32)
    own = 3 * 32 * 32 * 4
    # The convolution's input and output are the largest that stand beside each other.
    assert input_bytes(model, example, False) == own + 2 * (own + 6 * 8 * 8 * 4)
    kept = input_bytes(model, example, True)
    assert kept >= own + 6 * 8 * 8 * 4
    assert all(p.grad is None for p in model.module.parameters())
    assert not any(part._forward_hooks for part in model.module.modules())


def test_the_batch_shrinks_with_the_free_memory(tmp_path, monkeypatch):
    model = model_of(tmp_path)
    example = torch.zeros(2, 3, 32, 32)
    one = input_bytes(model, example, True)
    monkeypatch.setattr(batches, "free_memory", lambda device: 20 * one)
    assert automatic_batch(model, example, True) == 10
    monkeypatch.setattr(batches, "free_memory", lambda device: 1)
    assert automatic_batch(model, example, True) == 1
    monkeypatch.setattr(batches, "free_memory", lambda device: 1 << 50)
    assert automatic_batch(model, example, True) == batches.LARGEST


def test_the_limit_of_a_control_group_counts(tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    monkeypatch.setattr(batches, "CGROUP", tmp_path)
    assert free_memory(torch.device("cpu")) == 600_000
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory(torch.device("cpu")) > 600_000


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        ),
        MemoryError(),
    ],
    ids=["cuda", "cpu", "python"],
)
def test_without_memory_half_a_batch_goes_on_with_the_same_rows(tmp_path, monkeypatch, error):
    images, model = write_images(tmp_path / "images", 20), write_factory(tmp_path)
    explain(config(images, tmp_path / "whole", model))
    usual, sizes = ActivationExplainer.explain, []

    def little_memory(self, batch, *rest):
        if len(batch) > 3:
            raise error
        sizes.append(len(batch))
        return usual(self, batch, *rest)

    monkeypatch.setattr(ActivationExplainer, "explain", little_memory)
    summary = explain(config(images, tmp_path / "halved", model))
    assert summary.counts.explained == 20
    assert max(sizes) <= 3
    assert_same_rows(tmp_path / "halved", tmp_path / "whole")


def test_memory_that_masked_passes_lack_halves_the_batch_too(tmp_path, monkeypatch):
    images, model = write_images(tmp_path / "images", 6), write_factory(tmp_path)
    methods = "gradcam,saliency,rise(masks=20),lime(samples=20)"
    explain(config(images, tmp_path / "whole", model, methods=methods))
    usual, budgets = PerturbationExplainer.explain, []

    def little_memory(self, subjects, requests):
        if subjects.budget > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        budgets.append(subjects.budget)
        return usual(self, subjects, requests)

    monkeypatch.setattr(PerturbationExplainer, "explain", little_memory)
    summary = explain(config(images, tmp_path / "halved", model, methods=methods))
    assert summary.counts.explained == 6
    assert set(budgets) <= {1, 2, 3}
    assert_same_rows(tmp_path / "halved", tmp_path / "whole")


def test_not_even_one_image_fits(tmp_path, monkeypatch):
    images, model = write_images(tmp_path / "images", 4), write_factory(tmp_path)

    def no_memory(self, batch, *rest):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(ActivationExplainer, "explain", no_memory)
    with pytest.raises(ModelError, match=r"One image does not fit the memory of cpu"):
        explain(config(images, tmp_path / "run", model))


def test_another_error_of_the_network_is_not_taken_for_want_of_memory(tmp_path, monkeypatch):
    images, model = write_images(tmp_path / "images", 4), write_factory(tmp_path)

    def broken(self, batch, *rest):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(ActivationExplainer, "explain", broken)
    with pytest.raises(ModelError, match=r"failed on a batch of 4 images \(mat1 and mat2"):
        explain(config(images, tmp_path / "run", model))


def test_parameters_are_not_counted():
    wide = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 5000), nn.ReLU(), nn.Linear(5000, 2))

    class Model:
        module = wide

    taken = input_bytes(Model(), torch.zeros(2, 3, 8, 8), True)
    assert taken < 4 * 10 * 5000 < sum(np.prod(p.shape) for p in wide.parameters()) * 4
