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


def test_structures_that_hold_themselves(tmp_path: Path, spec: str) -> None:
    itself: dict[str, Any] = {}
    itself["state_dict"] = itself
    a: dict[str, Any] = {}
    a["model"] = {"net": a}
    names: list[Any] = []
    names.append(names)
    for content, said in (
        (itself, "holds no weights"),
        (a, "holds no weights"),
        ({"model": trained(spec), "classes": names}, "declares the class name [[[...]]]"),
        ({"state_dict": {"model": {"net": {}}}}, "holds no weights"),
    ):
        torch.save(content, tmp_path / "w.pt")
        assert said in sentence(lambda: load_checkpoint(str(tmp_path / "w.pt")))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["sparse", "quantised", "meta", "complex"])
def test_tensors_that_are_no_weights(tmp_path: Path, spec: str, kind: str) -> None:
    state = trained(spec)
    dense = state["head.weight"]
    odd = {
        "sparse": dense.to_sparse,
        "quantised": lambda: torch.quantize_per_tensor(dense, 0.1, 0, torch.qint8),
        "meta": lambda: dense.to("meta"),
        "complex": lambda: dense.to(torch.complex64),
    }[kind]()
    torch.save(state | {"head.weight": odd}, tmp_path / "w.pt")
    assert f"holds head.weight as a {kind} tensor" in sentence(
        lambda: load(spec, checkpoint=str(tmp_path / "w.pt"))
    )


def test_names_of_any_size_and_kind(tmp_path: Path, spec: str) -> None:
    state = trained(spec)
    path = tmp_path / "w.pt"
    torch.save(state | {"k" * 1_000_000: torch.ones(1)}, path)
    said = sentence(lambda: load(spec, checkpoint=str(path)))
    assert "has the unknown kkk" in said
    assert len(said) < 500
    torch.save(state | {("a", 1): torch.ones(1), 7: torch.ones(1)}, path)
    assert load(spec, checkpoint=str(path)).outputs == 3
    torch.save({"fc.weight": torch.ones(())}, path)
    assert "does not fit" in sentence(lambda: load_model("torchvision:resnet18", checkpoint=str(path)))


def test_a_network_with_extra_state_takes_a_checkpoint(tmp_path: Path) -> None:
    body = "class Odd(Net):\n    def get_extra_state(self): return {'a': 1}\ndef net(): return Odd()"
    path = f"{source(tmp_path, body)}:net"
    torch.save(load(path).module.state_dict(), tmp_path / "w.pt")
    assert load(path, checkpoint=str(tmp_path / "w.pt")).outputs == 3
