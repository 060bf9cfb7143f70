"""Datasets and runs at S3 URLs, against a server on this machine: the same commands, the same rows."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pytest
from typer.testing import CliRunner

from cache import locations
from cache.errors import GazelakeError, RunNotFoundError
from cache.run import Run
from engine.cli import app
from engine.datasets import open_dataset
from engine.explain import explain
from tests.buckets import Server, bucket
from tests.engine.audits import assert_same_rows, config, write_factory, write_images
from tests.engine.test_crashes import SLOW, Commands, arguments

METHODS = "gradcam,eigencam"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    running = Server()
    with bucket(running, f"audit-{uuid4().hex[:8]}", tmp_path_factory.mktemp("copies")) as url:
        yield url
    running.close()


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Path]:
    folder = tmp_path_factory.mktemp("audit")
    data, model = write_images(folder / "images", 24, seed=5), write_factory(folder)
    (data / "green" / "broken.png").write_bytes(b"no image")
    explain(config(data, folder / "run", model, methods=METHODS))
    return data, model, folder / "run"


@pytest.fixture(scope="module")
def images(place: str, local: tuple[Path, str, Path]) -> str:
    fs = fsspec.filesystem("s3", use_listings_cache=False)
    for file in local[0].rglob("*.png"):
        fs.pipe_file(f"{place}/images/{file.relative_to(local[0]).as_posix()}", file.read_bytes())
    return f"{place}/images"


def run_command(*words: str) -> Any:
    result = CliRunner().invoke(app, list(words))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_the_same_rows_from_a_bucket_into_a_bucket(
    place: str, images: str, local: tuple[Path, str, Path]
) -> None:
    _, model, here = local
    out = f"{place}/runs/first"
    summary = explain(config(images, out, model, methods=METHODS))
    assert (summary.samples, summary.run) == (24, out)
    assert_same_rows(out, here)
    again = explain(config(images, out, model, methods=METHODS))
    assert (again.counts.explained, again.counts.reused) == (0, 24)


@pytest.mark.slow
def test_kills_while_a_bucket_is_written_lose_and_double_nothing(
    place: str, images: str, local: tuple[Path, str, Path], tmp_path: Path
) -> None:
    out, chance = f"{place}/runs/killed", random.Random(7)
    model = write_factory(tmp_path, SLOW)
    words = arguments(Path(local[0]), model, tmp_path)
    words[words.index("--data") + 1], words[words.index("--out") + 1] = images, out
    words[words.index("--batch-size") + 1] = "2"
    commands, killed, published = Commands(tmp_path), 0, []
    try:
        # The first is killed before anything is published, the others between two publications.
        for wanted in (0, 4, 10, 16):
            pid = commands.start(*words)
            _wait_for_samples(out, wanted)
            time.sleep(chance.random() * 0.2)
            os.kill(pid, signal.SIGKILL)
            killed += os.waitstatus_to_exitcode(commands.wait()) == -signal.SIGKILL
            if wanted:
                run = Run.open(out)
                assert run.damaged == run.verify(fresh=True) == []
                published.append(run.manifest.rows("samples"))
        assert killed == 4
        assert published == sorted(published)
        assert 0 < published[0] < published[-1]
        commands.start(*words)
        assert commands.wait() == 0
    finally:
        commands.close()
    run = Run.open(out)
    assert (run.manifest.state, run.verify(fresh=True)) == ("complete", [])
    assert_same_rows(out, local[2])


def _wait_for_samples(out: str, count: int) -> None:
    """Wait until a run in a bucket holds so many samples; with none, until its manifest is there."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            if Run.open(out).manifest.rows("samples") >= count:
                return
        except RunNotFoundError:
            pass
        time.sleep(0.02)
    raise AssertionError(f"{out} never held {count} samples")


@pytest.mark.slow
def test_every_command_takes_a_url(place: str, images: str, local: tuple[Path, str, Path]) -> None:
    out = f"{place}/runs/commands"
    explain(config(images, out, local[1], methods=METHODS))
    assert "complete, generation" in run_command("status", out, "--verify").output
    assert "broken.png" in run_command("errors", out).output
    run_command("discover", out)
    assert run_command("findings", out, "--json").output.lstrip().startswith("[")
    run_command("verify", out)
    assert "images" in run_command("project", out).output


def test_a_table_names_images_in_a_bucket(
    place: str, images: str, local: tuple[Path, str, Path], tmp_path: Path
) -> None:
    chosen = sorted(path.relative_to(local[0]).as_posix() for path in local[0].rglob("*.png"))[:5]
    rows = "\n".join(f"{images}/{name},{name.split('/')[0]}" for name in chosen)
    (tmp_path / "table.csv").write_text("path,label\n" + rows + "\n")
    fs = fsspec.filesystem("s3", use_listings_cache=False)
    fs.pipe_file(
        f"{images.rpartition('/')[0]}/table.csv",
        ("path,label\n" + rows.replace(f"{images}/", "images/")).encode(),
    )
    for data in (tmp_path / "table.csv", f"{place}/table.csv"):
        summary = explain(
            config(data, tmp_path / f"run{Path(str(data)).parent.name}", local[1], methods="gradcam")
        )
        assert summary.samples == len(chosen) - ("green/broken.png" in chosen)


def test_an_image_costs_one_request(place: str, images: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_dataset(images)
    kind = fsspec.get_filesystem_class("s3")
    asked, before = [], kind._call_s3

    async def counted(self: Any, method: str, *args: Any, **kwargs: Any) -> Any:
        asked.append(method)
        return await before(self, method, *args, **kwargs)

    monkeypatch.setattr(kind, "_call_s3", counted)
    assert dataset.read(0)
    assert asked == ["get_object"]


def test_a_damaged_part_is_named_and_computed_again(
    place: str, images: str, local: tuple[Path, str, Path]
) -> None:
    out = f"{place}/runs/damaged"
    explain(config(images, out, local[1], methods=METHODS))
    part = Run.open(out).manifest.parts["attributions/gradcam"][0]
    fs = fsspec.filesystem("s3", use_listings_cache=False)
    fs.pipe_file(f"{out}/attributions/gradcam/{part.name}", b"x" * part.bytes)
    told = run_command("status", out, "--verify")
    assert told.exit_code == 2
    assert f"damaged: attributions/gradcam/{part.name}" in told.output
    assert "Complete it:  python -m engine explain" in told.output
    explain(config(images, out, local[1], methods=METHODS))
    assert Run.open(out).verify(fresh=True) == []
    assert_same_rows(out, local[2])


def test_a_bucket_that_denies_is_one_sentence(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def denied(*args: object, **kwargs: object) -> None:
        raise PermissionError("Access Denied")

    for call in ("_find", "_info", "_cat_file", "_lsdir"):
        monkeypatch.setattr(fsspec.get_filesystem_class("s3"), call, denied)
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    locations._filesystem.cache_clear()
    with pytest.raises(GazelakeError) as told:
        explain(config(f"{place}/images", f"{place}/runs/denied", "torchvision:resnet18"))
    assert "Access Denied" in str(told.value)
    with pytest.raises(GazelakeError, match=r"^Access to s3://.* is denied \(Access Denied\)"):
        Run.open(f"{place}/runs/first")
    monkeypatch.undo()
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    locations._filesystem.cache_clear()


def test_without_s3fs_one_sentence_names_it(tmp_path: Path) -> None:
    hide = (
        "import sys; sys.modules['s3fs'] = None\n"
        "from engine.cli import main\n"
        "sys.argv = ['engine', *sys.argv[1:]]\nmain()\n"
    )
    for words in (
        ["status", "s3://bucket/run"],
        [
            "explain",
            "--data",
            "s3://bucket/images",
            "--model",
            "torchvision:resnet18",
            "--out",
            str(tmp_path / "run"),
        ],
    ):
        done = subprocess.run(
            [sys.executable, "-c", hide, *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2
        assert (
            "needs the package s3fs, which is not installed: install it with `pip install s3fs`."
            in done.stderr
        )
        assert "Traceback" not in done.stderr
