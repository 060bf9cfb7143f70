"""The engine's command line: summaries, sentences and exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cache.manifest import Manifest
from cache.run import Run
from cache.writer import RunWriter
from engine.attribution.registry import methods
from engine.cli import main
from engine.config import ExplainConfig, read_config
from engine.plan import command
from tests.engine.audits import config, write_factory, write_images

GIVEN = ("explain", "--data", "{data}", "--model", "{model}", "--out", "{tmp}/r", "--methods", "gradcam")


def run_cli(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: object
) -> tuple[int, str, str]:
    """Run the command line in this process; return its exit code and what it printed."""
    monkeypatch.setattr(sys, "argv", ["engine", *(str(word) for word in words)])
    with pytest.raises(SystemExit) as left:
        main()
    said = capsys.readouterr()
    code = left.value.code
    return (code if isinstance(code, int) else 0), said.out, said.err


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("audit")
    data = write_images(folder / "images", 12)
    (data / "red" / "empty [1].png").write_bytes(b"")
    return data, write_factory(folder)


def test_explain_ends_with_a_summary_and_the_next_command(
    audit: tuple[Path, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, model = audit
    words = ["explain", "--data", data, "--model", model, "--out", tmp_path / "run", "--methods", "gradcam"]
    code, out, err = run_cli(monkeypatch, capsys, *words)
    assert code == 0, err
    assert "12 explained · 1 failed (1 empty)" in out
    assert "Accuracy 75.0% on 12 labelled samples: 3 are wrong." in out
    assert out.rstrip().endswith(f"python -m dashboard serve {tmp_path / 'run'}")
    code, out, _ = run_cli(monkeypatch, capsys, *words)
    assert "0 explained · 12 reused · 1 failed" in out

    code, out, _ = run_cli(monkeypatch, capsys, "errors", tmp_path / "run")
    assert code == 0
    assert "empty [1].png" in out.replace("\n", "")
    code, out, _ = run_cli(monkeypatch, capsys, "status", tmp_path / "run", "--verify")
    assert code == 0
    assert "complete" in out
    assert "12 of 13 samples, 1 failed" in out


def test_status_names_damage_and_how_to_mend_it(
    audit: tuple[Path, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, model = audit
    out_folder = tmp_path / "run"
    run_cli(
        monkeypatch,
        capsys,
        "explain",
        "--data",
        data,
        "--model",
        model,
        "--out",
        out_folder,
        "--methods",
        "gradcam",
    )
    part = Path(Run.open(out_folder).part_paths("attributions/gradcam")[0])
    data_bytes = bytearray(part.read_bytes())
    data_bytes[100] ^= 1
    part.write_bytes(data_bytes)
    assert run_cli(monkeypatch, capsys, "status", out_folder)[0] == 0
    code, out, _ = run_cli(monkeypatch, capsys, "status", out_folder, "--verify")
    assert code == 2
    assert f"damaged: attributions/gradcam/{part.name}" in out
    assert "python -m engine explain" in out
    part.unlink()
    assert run_cli(monkeypatch, capsys, "status", out_folder)[0] == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["explain"], "--data is missing; --model is missing; --out is missing."),
        (["explain", "--data", "nowhere", "--model", "m", "--out", "{tmp}/r"], "nowhere"),
        (
            ["explain", "--data", "{data}", "--model", "torchvision:resnet999", "--out", "{tmp}/r"],
            "resnet999",
        ),
        (["explain", "--data", "{data}", "--model", "missing.py:net", "--out", "{tmp}/r"], "missing.py"),
        (["explain", "--data", "{data}", "--model", "{model}", "--out", "{tmp}/r", "--std", "0"], "--std"),
        (
            ["explain", "--data", "{data}", "--model", "{model}", "--out", "{tmp}/r", "--batch-size", "many"],
            "--batch-size",
        ),
        (
            ["explain", "--data", "{data}", "--model", "{model}", "--out", "{tmp}/r", "--executor", "moon"],
            "--executor",
        ),
        (["explain", "--config", "{tmp}/missing.toml"], "missing.toml does not exist"),
        (["status", "{tmp}/nowhere"], "does not exist: start one with"),
        (["errors", "{tmp}"], "holds no run"),
        (["explian"], "No such command 'explian' (did you mean 'explain'?); see `python -m engine --help`."),
        (["explain", "--dataset", "x"], "No such option: --dataset"),
        (["explain", "--limit", "x"], "a valid integer; see `python -m engine explain --help`."),
        (["status"], "Missing argument 'RUN'; see `python -m engine status --help`."),
        (["explain", "--config", "{tmp}"], "is not a file"),
        (
            [*GIVEN, "--batch-size", "0"],
            "--batch-size 0 is not possible: it should be 'auto' or greater than",
        ),
        ([*GIVEN, "--batch-size", "9" * 5_000], "it should be 'auto' or a smaller number."),
        ([*GIVEN, "--mean", "1,2,3,4"], "it should be at most 3 value(s)."),
        (
            [*GIVEN, "--device", "hpu"],
            "The device 'hpu' cannot be used on this machine: say --device auto or cpu.",
        ),
        ([*GIVEN, "--device", "nonsense"], "The device 'nonsense' cannot be used"),
        ([*GIVEN, "--device", "cuda:99"], "The device 'cuda:99' cannot be used"),
        ([*GIVEN, "--targets", "1" * 5_000], "is no class of this model"),
        ([*GIVEN, "--out", "/tmp/" + "a" * 300], "a directory that can be made there (File name too long)."),
        ([*GIVEN, "--out", "/dev/null/x"], "a directory that can be made there (Not a directory)."),
        ([*GIVEN, "--out", "/proc/x"], "/proc/x cannot be written"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_a_mistake_is_one_sentence_and_exit_code_two(
    audit: tuple[Path, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    sentence: str,
) -> None:
    data, model = audit
    code, _, err = run_cli(
        monkeypatch, capsys, *(w.format(data=data, model=model, tmp=tmp_path) for w in words)
    )
    assert code == 2
    assert sentence in err.replace("\n", "")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert not (tmp_path / "r").exists()


def test_a_run_in_use_is_refused(
    audit: tuple[Path, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data, model = audit
    words = ["explain", "--data", data, "--model", model, "--out", tmp_path / "run", "--methods", "gradcam"]
    run_cli(monkeypatch, capsys, *words)
    with RunWriter(tmp_path / "run"):
        code, _, err = run_cli(monkeypatch, capsys, *words)
    assert code == 2
    assert "Another process is writing" in err


def test_a_configuration_file_and_what_is_typed_over_it(tmp_path: Path) -> None:
    file = tmp_path / "audit.toml"
    file.write_text(
        'data = "d"\nmodel = "m"\nout = "o"\nimage-size = 64\nmean = [0.1, 0.2, 0.3]\ntargets = ["pred"]\n'
    )
    settings = read_config({"model": "other", "std": "0.5,0.5,0.5"}, file)
    assert (settings.data, settings.model, settings.image_size) == ("d", "other", 64)
    assert settings.mean == (0.1, 0.2, 0.3)
    assert settings.std == (0.5, 0.5, 0.5)
    assert settings.targets == ("pred",)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("data = ", "cannot be read as TOML"),
        (
            'data = "d"\nmodel = "m"\nout = "o"\nmethod = "x"',
            "method is not an option; there are data, model, out",
        ),
        ('data = "d"\nmodel = "m"\nout = "o"\nlimit = 0', "--limit 0 is not possible"),
        ('data = "d"\nmodel = "m"\nout = "o"\nmean = [1, 2, 3, 4]', "--mean"),
        ('data = "d"\nmodel = "m"\nout = "a\\u0000b"', "--out 'a\\x00b' is not valid text"),
        ("data = 3\nmodel = {}\nout = 4", "--out 4 is not possible: it should be a path."),
        ("a = " + "[" * 100_000, "nested too deeply"),
        ("limit = " + "1" * 5_000, "a number of thousands of digits"),
    ],
)
def test_a_wrong_configuration_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    from cache.errors import ConfigError

    file = tmp_path / "audit.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_config({}, file)
    assert sentence in str(caught.value)


def test_a_configuration_becomes_the_command_that_reads_it(tmp_path: Path) -> None:
    options = {"methods": "gradcam,eigencam(center=true)", "mean": "0.5", "unlabelled": True, "limit": 3}
    settings = config("my data", tmp_path / "run", "m.py:net", **options)
    words = command(settings)
    assert "--data 'my data'" in words
    assert "--unlabelled --" in words or words.endswith("--unlabelled")
    assert "--limit 3" in words
    assert "--methods 'gradcam,eigencam(center=true)'" in words


def test_every_option_of_the_configuration_is_on_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    _, out, _ = run_cli(monkeypatch, capsys, "explain", "--help")
    for name in ExplainConfig.model_fields:
        assert f"--{name.replace('_', '-')}" in out


def test_methods_are_listed_with_what_they_need(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = run_cli(monkeypatch, capsys, "methods")
    for method in methods().values():
        assert f"{method.name}  {method.title}" in out
        assert method.reference.split(",")[0] in out


def test_paths_start_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = read_config({"data": "d", "model": "m", "out": "~/run", "checkpoint": Path("~/w.pt")})
    assert settings.out == tmp_path / "run"
    assert settings.checkpoint == tmp_path / "w.pt"


@pytest.mark.parametrize("words", ["methods", "status {run}", "errors {run}"])
@pytest.mark.parametrize(
    ("where", "code", "says"),
    [("> /dev/full", 2, "What python -m engine prints cannot be written"), ("| true", 1, "")],
)
def test_output_that_nobody_takes(tmp_path: Path, words: str, where: str, code: int, says: str) -> None:
    with RunWriter(tmp_path, Manifest("x")) as writer:
        writer.save()
    line = f"set -o pipefail; {sys.executable} -m engine {words.format(run=tmp_path)} {where}"
    done = subprocess.run(
        ["bash", "-c", line], cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False
    )
    assert "Traceback" not in done.stderr
    assert done.stderr.count("\n") == (1 if says else 0), done.stderr
    assert says in done.stderr
    assert done.returncode == code


def test_names_are_printed_whatever_the_terminal_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run_cli(monkeypatch, capsys, "status", tmp_path / "a\nb\udc80")
    assert code == 2
    assert r"a\nb\udc80 does not exist" in err
    assert err.count("\n") == 1


def test_help_and_early_mistakes_do_not_load_pytorch() -> None:
    code = (
        "import sys; sys.argv = ['engine', 'explain', '--data', '/nowhere', '--model', 'm', '--out', '/tmp/never']\n"
        "from engine.cli import main\n"
        "try:\n    main()\nexcept SystemExit as left:\n    assert left.code == 2\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[2], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
