"""One's own networks, devices and fingerprints; and a sentence for what is no classifier."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from cache.errors import ConfigError, GazelakeError, ModelError
from engine.models import load_model, resolve_device, weights_fingerprint
from tests.engine.networks import load, sentence, source


def test_factory_in_a_file(tmp_path: Path) -> None:
    model = load(f"{source(tmp_path)}:net")
    assert model.outputs == 3
    assert not model.binary
    assert model.classes is None
    assert model.architecture == "Net"
    assert not model.module.training
    assert model.preprocessing.size == (16, 16)
    assert model.preprocessing.channels == 3
    assert model.preprocessing.mean == (0, 0, 0)
    assert any("no mean and std" in notice for notice in model.notices)
    torch.manual_seed(5)
    weight = model.module.get_parameter("conv.weight")
    assert weight.is_contiguous(memory_format=torch.channels_last)


def test_factory_in_a_module_of_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gl_package").mkdir()
    (tmp_path / "gl_package/__init__.py").write_text("")
    source(tmp_path / "gl_package", name="networks.py")
    (tmp_path / "gl_package/needs.py").write_text("import gl_not_installed")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    assert load("gl_package.networks:net").outputs == 3
    assert sys.path == before
    assert "no Python module gl_package.nope" in sentence(lambda: load("gl_package.nope:net"))
    assert "needs gl_not_installed" in sentence(lambda: load("gl_package.needs:net"))
    for name in [name for name in sys.modules if name.startswith("gl_package")]:
        del sys.modules[name]


def test_factory_may_import_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "gl_neighbour.py").write_text("outputs = 7")
    spec = source(tmp_path, "def late():\n    import gl_neighbour\n    return Net(gl_neighbour.outputs)\n")
    assert load(f"{spec}:late").outputs == 7
    del sys.modules["gl_neighbour"]


def test_preprocessing_and_classes_travel_with_the_model(tmp_path: Path) -> None:
    body = """
    preprocessing = {"size": 20, "resize": 24, "fit": "crop", "mean": 0.4, "std": (0.1, 0.2, 0.3)}
    classes = ["a", "b", "c"]
    def other():
        net = Net()
        net.preprocessing = {"size": (10, 12), "interpolation": "bicubic"}
        net.classes = ("x", "y", "z")
        return net
    def marked():
        return Net(1000)
    marked.classes = "imagenet"
    """
    path = source(tmp_path, body)
    model = load_model(f"{path}:net")
    p = model.preprocessing
    assert (p.size, p.resize, p.mean, p.std) == ((20, 20), 24, (0.4,) * 3, (0.1, 0.2, 0.3))
    assert model.classes == ["a", "b", "c"]
    assert not model.notices
    own = load_model(f"{path}:other")
    assert own.preprocessing.size == (10, 12)
    assert own.preprocessing.interpolation == "bicubic"
    assert own.classes == ["x", "y", "z"]
    marked = load_model(f"{path}:marked")
    assert marked.classes is not None
    assert marked.classes[:2] == ["tench", "goldfish"]
    told = load_model(f"{path}:net", image_size=16, mean=[0.5], std=[0.6], fit="pad", classes=["p", "q", "r"])
    p = told.preprocessing
    assert (p.size, p.resize, p.fit, p.mean, p.std) == ((16, 16), None, "pad", (0.5,) * 3, (0.6,) * 3)
    assert told.classes == ["p", "q", "r"]
    assert load_model(f"{path}:net", image_size=20).preprocessing.resize == 24
    assert load_model(f"{path}:net", resize=30).preprocessing.resize == 30


def test_size_comes_from_the_dataset_or_must_be_given(tmp_path: Path) -> None:
    spec = f"{source(tmp_path)}:net"
    assert "--image-size" in sentence(lambda: load_model(spec), ConfigError)
    assert load_model(spec, native_size=(28, 30)).preprocessing.size == (28, 30)
    assert load_model(spec, native_size=(28, 30), image_size=12).preprocessing.size == (12, 12)


def test_one_input_channel_is_found(tmp_path: Path) -> None:
    body = """
    def grey():
        return Net(channels=1)
    def flat():
        return nn.Sequential(nn.Flatten(), nn.Linear(16 * 16, 4))
    def lazy():
        return nn.Sequential(nn.LazyConv2d(4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(4))
    def four():
        return Net(channels=4)
    def declared():
        net = Net(channels=1)
        net.preprocessing = {"channels": 3}
        return net
    """
    path = source(tmp_path, body)
    for name, channels in (("grey", 1), ("flat", 1), ("lazy", 3)):
        model = load(f"{path}:{name}", mean=[0.3], std=[0.2])
        assert model.preprocessing.channels == channels
        assert model.preprocessing.mean == (0.3,) * channels
        view = model.preprocessing.view(Image.new("RGB", (20, 30)))
        assert model.module(model.preprocessing.normalise(view.pixels[None])).shape == (1, model.outputs)
    assert "4 input channels" in sentence(lambda: load(f"{path}:four"))
    assert "2 × 3 × 16 × 16" in sentence(lambda: load(f"{path}:declared"))
    assert "one number" in sentence(lambda: load(f"{path}:grey", mean=[0.1, 0.2, 0.3]), ConfigError)


def test_single_logit_counts_as_two_classes(tmp_path: Path) -> None:
    path = source(tmp_path, "def one():\n    return Net(1)\n")
    model = load(f"{path}:one", classes=["benign", "malignant"])
    assert model.binary
    assert model.outputs == 2
    z = torch.randn(6, 1) * 20
    assert torch.equal(model.scores(z), torch.hstack([-z, z]))
    probability = 1 / (1 + np.exp(-z.double().numpy()))
    expected = np.hstack([1 - probability, probability])
    assert np.allclose(model.log_probabilities(z).exp().numpy(), expected, atol=1e-6)
    assert torch.isfinite(model.log_probabilities(torch.tensor([[500.0], [-500.0]]))).all()
    assert "2 outputs" in sentence(lambda: load(f"{path}:one", classes=["malignant"]), ConfigError)


def test_probabilities_of_many_classes(tmp_path: Path) -> None:
    model = load(f"{source(tmp_path)}:net")
    logits = torch.randn(5, 3) * 10
    e = np.exp(logits.double().numpy() - logits.double().numpy().max(axis=1, keepdims=True))
    assert np.allclose(
        model.log_probabilities(logits).exp().numpy(), e / e.sum(axis=1, keepdims=True), atol=1e-6
    )
    assert model.scores(logits) is logits
    assert model.log_probabilities(logits.half()).dtype == torch.float32


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("def f():\n    raise ValueError('no\\nluck')", "failed with ValueError: no"),
        ("def f(x):\n    return Net()", "missing 1 required positional argument"),
        ("def f():\n    return 3", "returned a int"),
        ("f = 3", "is a int"),
        ("g = 3", "defines no 'f'"),
        ("1 / 0", "fails on import with ZeroDivisionError"),
        ("import sys; sys.exit(2)", "fails on import with SystemExit"),
        ("def f(:", "fails on import with SyntaxError"),
        ("import gl_nowhere", "fails on import with ModuleNotFoundError"),
        ("class f(Net):\n    def forward(self, x):\n        return super().forward(x), 1", "returns a tuple"),
        (
            "class f(Net):\n    def forward(self, x):\n        return {'out': super().forward(x)}",
            "returns a dict",
        ),
        ("def f():\n    return nn.Conv2d(3, 5, 3)", "returns 2 × 5 × 14 × 14"),
        (
            "class f(Net):\n    def forward(self, x):\n        return super().forward(x)[:, 0]",
            "returns 2 for",
        ),
        ("class f(Net):\n    def forward(self, x):\n        return super().forward(x)[:1]", "returns 1 × 3"),
        (
            "class f(Net):\n    def forward(self, x):\n        return super().forward(x).sum()",
            "a single number",
        ),
        (
            "class f(Net):\n    def forward(self, x):\n        return super().forward(x) * float('nan')",
            "not finite",
        ),
        (
            "class f(Net):\n    def forward(self, x):\n        return super().forward(x).argmax(1)[:, None]",
            "int64",
        ),
        ("class f(Net):\n    def forward(self, x):\n        raise RuntimeError('oh\\nno')", r"\(oh\)"),
        ("def f():\n    return nn.Sequential(nn.Flatten(), nn.Linear(99, 3))", "--image-size"),
        ("def f():\n    return nn.Sequential(Net(1), nn.Sigmoid())", "ends in a sigmoid"),
        ("def f():\n    n = Net()\n    n.classes = ['a', 'b']\n    return n", "declares 2 classes but has 3"),
    ],
)
def test_what_is_no_classifier_is_one_sentence(tmp_path: Path, body: str, said: str) -> None:
    path = source(tmp_path, body + "\n") if "(:" not in body else source(tmp_path, body)
    with pytest.raises(ModelError, match=said):
        load(f"{path}:f")
    sentence(lambda: load(f"{path}:f"))


def test_wrong_specs_and_options(tmp_path: Path) -> None:
    path = source(tmp_path, "bad = nn.Identity()\nbad.preprocessing = {'sizes': 3}\n")
    assert "not understood" in sentence(lambda: load("resnet50"))
    assert "There is no file" in sentence(lambda: load(f"{tmp_path}/none.py:net"))
    assert "close: net" in sentence(lambda: load(f"{path}:nett"))
    assert "--checkpoint" in sentence(lambda: load(f"{path}:net", weights="DEFAULT"))
    assert "unknown key 'sizes'" in sentence(lambda: load(f"{path}:bad"), ConfigError)
    assert "crop, squash or pad" in sentence(lambda: load(f"{path}:net", fit="stretch"), ConfigError)
    both = {"weights": "DEFAULT", "checkpoint": "x.pt"}
    assert "exclude each other" in sentence(lambda: load("torchvision:resnet18", **both), ConfigError)
    assert "--classes names 2" in sentence(lambda: load(f"{path}:net", classes=["a", "b"]), ConfigError)


def test_outputs_that_look_like_probabilities_are_noticed(tmp_path: Path) -> None:
    path = source(tmp_path, "def soft():\n    return nn.Sequential(Net(), nn.Softmax(1))\n")
    assert any("look like probabilities" in notice for notice in load(f"{path}:soft").notices)
    assert not any("look like probabilities" in notice for notice in load(f"{path}:net").notices)


def test_devices() -> None:
    assert resolve_device("cpu").type == "cpu"
    assert resolve_device("auto").type in ("cpu", "cuda", "mps")
    for name in ("abacus", "cuda:99", "meta", "cpu:cpu", "hpu", "privateuseone", "mkldnn", ""):
        assert name in sentence(lambda name=name: resolve_device(name), ConfigError)  # type: ignore[misc]


def test_fingerprint_follows_weights_and_structure(tmp_path: Path) -> None:
    base = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))
    print_of = weights_fingerprint(base, "net")
    assert len(print_of) == 32
    assert weights_fingerprint(base.to(memory_format=torch.channels_last), "net") == print_of  # type: ignore[call-overload]
    assert weights_fingerprint(base, "other") != print_of
    twin = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU(), nn.Flatten(), nn.Linear(4, 2))
    twin.load_state_dict(base.state_dict())
    assert weights_fingerprint(twin, "net") != print_of
    with torch.no_grad():
        base[0].bias[1] += 1e-6
    assert weights_fingerprint(base, "net") != print_of
    odd = nn.Module()
    odd.register_buffer("brain", torch.ones(3, dtype=torch.bfloat16))
    odd.register_buffer("mark", torch.tensor(True))
    odd.register_buffer("nothing", torch.empty(0))
    assert weights_fingerprint(odd, "net")


def test_fingerprint_is_the_same_in_another_process_and_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    here = load(f"{source(tmp_path / 'a')}:net").fingerprint
    code = "import sys; from engine.models import load_model; print(load_model(sys.argv[1], image_size=16).fingerprint)"
    command = [sys.executable, "-c", code, f"{source(tmp_path / 'b')}:net"]
    out = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
    assert out.stdout.split()[-1] == here


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (
            "def net():\n    with torch.device('meta'):\n        return Net()",
            "weights without values on the device",
        ),
        (
            "class Odd(Net):\n    def eval(self): raise ValueError('no')",
            "fails with ValueError: no: mend it.",
        ),
        ("class Odd(Net):\n    def train(self, mode=True): raise SystemExit(3)", "fails with SystemExit: 3"),
        (
            "class Odd(Net):\n    def state_dict(self, *a, **k): raise KeyError('x')",
            "fails with KeyError: 'x'",
        ),
        ("class Odd(Net):\n    def named_parameters(self, *a, **k): return 3", "fails with TypeError"),
        ("class Odd(Net):\n    def forward(self, x): raise SystemExit", "fails with SystemExit"),
        ("class Odd(Net):\n    classes = property(lambda self: 1 / 0)", "fails with ZeroDivisionError"),
        (
            "class Odd(Net):\n    classes = [['a'], None, object()]",
            "declares the class name ['a'], which is no text",
        ),
        ("class Odd(Net):\n    classes = ['a', 'b', chr(0xdc00)]", "which is no text"),
        ("class Odd(Net):\n    preprocessing = {'size': float('inf')}", "size = inf, which is not"),
        ("class Odd(Net):\n    preprocessing = {object(): 1}", "has the unknown key <object"),
        (
            "class Tell(Exception):\n    def __str__(self): 1 / 0\ndef net(): raise Tell",
            "failed with Tell: mend it.",
        ),
        ("def net(): raise SystemExit", "failed with SystemExit: mend it."),
        ("def net(): return net()", "failed with RecursionError"),
    ],
)
def test_what_somebody_wrote_may_fail_anywhere(tmp_path: Path, body: str, said: str) -> None:
    if "class Odd" in body:
        body += "\ndef net(): return Odd()"
    path = source(tmp_path, body)
    assert said in sentence(lambda: load(f"{path}:net"), GazelakeError)


@pytest.mark.parametrize(
    "forgetful", ["def eval(self): super().eval()", "def to(self, *a, **k): super().to(*a, **k)"]
)
def test_a_network_may_forget_to_return_itself(tmp_path: Path, forgetful: str) -> None:
    path = source(tmp_path, f"class Odd(Net):\n    {forgetful}\ndef net(): return Odd()")
    assert not load(f"{path}:net").module.training


def test_paths_that_cannot_be(tmp_path: Path) -> None:
    for path in (f"{'a' * 300}.py", "~nobody-of-this-name/net.py"):
        assert f"There is no file {path}" in sentence(lambda path=path: load(f"{path}:net"))  # type: ignore[misc]
        assert "There is no checkpoint" in sentence(
            lambda path=path: load(f"{source(tmp_path)}:net", checkpoint=path)  # type: ignore[misc]
        )
