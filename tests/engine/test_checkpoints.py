"""Weights from files in their usual wrappings, and files that are refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from engine.checkpoints import load_checkpoint
from engine.models import load_model
from tests.engine.networks import load, sentence, source


@pytest.fixture
def spec(tmp_path: Path) -> str:
    return f"{source(tmp_path)}:net"


def trained(spec: str) -> dict[str, torch.Tensor]:
    """The state of the network with other weights than its factory gives."""
    state = load(spec).module.state_dict()
    return {
        k: (torch.rand_like(v) + 0.1).contiguous() if v.is_floating_point() else v for k, v in state.items()
    }


@pytest.mark.parametrize("wrap", [None, "state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "model."])
def test_checkpoints_in_their_usual_wrappings(
    tmp_path: Path, spec: str, wrap: str | None, prefix: str
) -> None:
    state = trained(spec)
    content: Any = {prefix + name: value for name, value in state.items()}
    torch.save({wrap: content, "epoch": 3, "optimizer": {}} if wrap else content, tmp_path / "w.pt")
    model = load(spec, checkpoint=str(tmp_path / "w.pt"))
    for name, value in model.module.state_dict().items():
        assert torch.equal(value, state[name])
    assert model.weights == "checkpoint w.pt"
    assert model.fingerprint != load(spec).fingerprint


def test_checkpoint_carries_classes_and_preprocessing(tmp_path: Path, spec: str) -> None:
    content = {
        "model": trained(spec),
        "classes": ["a", "b", "c"],
        "preprocessing": {"size": 18, "mean": [0.2], "std": [0.3]},
    }
    torch.save(content, tmp_path / "w.pt")
    model = load_model(spec, checkpoint=str(tmp_path / "w.pt"))
    assert model.classes == ["a", "b", "c"]
    assert model.preprocessing.size == (18, 18)
    assert not model.notices
    assert load(spec, checkpoint=str(tmp_path / "w.pt")).preprocessing.size == (16, 16)


def test_safetensors(tmp_path: Path, spec: str) -> None:
    from safetensors.torch import save_file

    state = trained(spec)
    save_file(state, tmp_path / "w.safetensors")
    model = load(spec, checkpoint=str(tmp_path / "w.safetensors"))
    assert torch.equal(model.module.state_dict()["conv.weight"], state["conv.weight"])
    (tmp_path / "w.safetensors").write_bytes(b"not tensors")
    assert "cannot be read" in sentence(lambda: load(spec, checkpoint=str(tmp_path / "w.safetensors")))


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self.path),))


def test_checkpoint_that_would_run_code_is_not_run(tmp_path: Path, spec: str) -> None:
    mark = tmp_path / "was_run"
    for legacy in (True, False):
        torch.save(
            {"state_dict": trained(spec), "extra": Bomb(mark)},
            tmp_path / "w.pt",
            _use_new_zipfile_serialization=not legacy,
        )
        text = sentence(lambda: load(spec, checkpoint=str(tmp_path / "w.pt")))
        assert "would run code" in text
        assert "mkdir" in text
        assert not mark.exists()
    torch.save(nn.Linear(2, 2), tmp_path / "w.pt")
    assert "would run code" in sentence(lambda: load(spec, checkpoint=str(tmp_path / "w.pt")))


def test_checkpoints_that_cannot_be_used(tmp_path: Path, spec: str) -> None:
    path = tmp_path / "w.pt"

    def said() -> str:
        return sentence(lambda: load(spec, checkpoint=str(path)))

    assert "There is no checkpoint" in said()
    state = trained(spec)
    torch.save(state, path)
    data = path.read_bytes()
    for broken in (b"", b"hello", data[: len(data) // 2], data[:100]):
        path.write_bytes(broken)
        assert "cannot be read" in said()
    for content in ({"epoch": 3}, [1, 2], 7, {}):
        torch.save(content, path)
        assert "holds no weights" in said()
    torch.save({k: v for k, v in state.items() if "norm" not in k}, path)
    assert "lacks norm.weight, norm.bias, norm.running_mean and 1 more" in said()
    torch.save({**state, "extra.weight": torch.ones(1)}, path)
    assert "has the unknown extra.weight" in said()
    torch.save({**state, "head.weight": torch.ones(9, 4)}, path)
    assert "head.weight is 9×4 instead of 3×4" in said()
    torch.save({k: v for k, v in state.items() if "num_batches" not in k}, path)
    assert load(spec, checkpoint=str(path)).outputs == 3


@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
def test_torchscript_program_is_refused(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), tmp_path / "w.pt")
    assert "TorchScript" in sentence(lambda: load_checkpoint(str(tmp_path / "w.pt")))
