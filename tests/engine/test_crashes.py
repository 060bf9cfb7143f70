"""What survives a crash: kill -9 at random moments, Ctrl-C, and a full disk."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cache.errors import RunStorageError
from cache.run import Run
from engine.explain import explain
from tests.engine.audits import FACTORY, assert_same_rows, config, tables, write_factory, write_images

ROOT = Path(__file__).parents[2]
METHODS = "gradcam,eigencam"
KILLS = 20
BETWEEN = 12
"""At least so many of the kills must fall between the first and the last publication."""

SLOW = FACTORY.replace(
    "    def forward(self, x):\n", "    def forward(self, x):\n        time.sleep(0.02)\n"
).replace("import torch\n", "import time\n\nimport torch\n", 1)

# A server that has everything imported and forks a child for each command: a kill costs milliseconds, not an import.
SERVER = """
import os, sys
sys.path.insert(0, os.getcwd())
import torch
torch.set_num_threads(1)
import engine.executors.local, engine.models, engine.statistics, engine.attribution.activation
import pandas, torchvision
from engine.cli import main
for line in iter(sys.stdin.readline, ''):
    pid = os.fork()
    if pid == 0:
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0); os.dup2(null, 2)
        sys.argv = ["engine", *line.rstrip("\\n").split("\\t")]
        log = os.open(os.environ["LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        try:
            main()
        finally:
            os._exit(0)
    print("pid", pid, flush=True)
    sys.stdin.readline()  # until asked, a dead child stays a zombie, whose number nobody else gets
    _, status = os.waitpid(pid, 0)
    print("status", status, flush=True)
"""


class Commands:
    """Runs engine commands in forked children that a test may kill."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log.txt"
        self.server = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "LOG": str(self.log), "OMP_NUM_THREADS": "1"},
        )

    def start(self, *arguments: str) -> int:
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write("\t".join(arguments) + "\n")
        self.server.stdin.flush()
        return self._answer("pid")

    def wait(self) -> int:
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.write("wait\n")
        self.server.stdin.flush()
        return self._answer("status")

    def _answer(self, kind: str) -> int:
        """Read a number; never mistake one for another, since some of them are sent signals."""
        assert self.server.stdout is not None
        said, number = self.server.stdout.readline().split()
        assert said == kind
        return int(number)

    def close(self) -> None:
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self.server.stdin.close()
        self.server.stdout.close()
        self.server.wait(30)


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    running = Commands(tmp_path_factory.mktemp("commands"))
    yield running
    running.close()


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Path]:
    folder = tmp_path_factory.mktemp("audit")
    data, model = write_images(folder / "images", 160, seed=5), write_factory(folder, SLOW)
    # Twins and a broken file: what is deferred, copied and recorded must survive as well.
    first = sorted((data / "red").glob("*.png"))[0]
    shutil.copy(first, data / "red" / "twin.png")
    shutil.copy(first, data / "blue" / "twin.png")
    (data / "green" / "broken.png").write_bytes(b"")
    explain(config(data, folder / "undisturbed", model, methods=METHODS))
    return data, model, folder / "undisturbed"


def arguments(data: Path, model: str, out: Path) -> list[str]:
    given = {"data": data, "model": model, "out": out, "methods": METHODS, "device": "cpu"}
    given |= {"batch-size": 8, "publish-every": 0.02}
    return ["explain", *(word for name, value in given.items() for word in (f"--{name}", str(value)))]


@pytest.mark.slow
def test_twenty_kills_lose_and_double_nothing(
    commands: Commands, audit: tuple[Path, str, Path], tmp_path: Path
) -> None:
    data, model, undisturbed = audit
    chance = random.Random(1234)
    between = kills = 0
    attempt = 0
    while kills < KILLS or between < BETWEEN:
        attempt += 1
        assert attempt <= 5 * KILLS, (
            f"only {between} of {kills} kills fell between the first and the last publication"
        )
        out = tmp_path / f"run{attempt}"
        # Each run is killed again and again, until one attempt gets through.
        for _ in range(4):
            pid = commands.start(*arguments(data, model, out))
            # Wait for a random number of publications, then for a random instant of the next one.
            _wait_for_parts(out, chance.randrange(0, 60))
            time.sleep(chance.random() * 0.06)
            os.kill(pid, signal.SIGKILL)
            if os.waitstatus_to_exitcode(commands.wait()) != -signal.SIGKILL:
                break
            kills += 1
            if (out / "run.json").exists():
                run = Run.open(out)
                assert not run.damaged
                published = run.manifest.rows("samples")
                between += 0 < published < 162
                _assert_whole(out)
            if kills >= KILLS and between >= BETWEEN:
                break
        commands.start(*arguments(data, model, out))
        assert commands.wait() == 0
        assert Run.open(out).manifest.state == "complete"
        assert_same_rows(out, undisturbed)
        shutil.rmtree(out)
    assert kills >= KILLS
    assert between >= BETWEEN


def _wait_for_parts(out: Path, count: int) -> None:
    """Wait until the run names so many parts, or is complete."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if (out / "run.json").exists():
            manifest = Run.open(out).manifest
            if manifest.state == "complete" or sum(len(parts) for parts in manifest.parts.values()) >= count:
                return
        elif count == 0:
            return
        time.sleep(0.002)


def _assert_whole(out: Path) -> None:
    """What is published fits together: no row twice, no sample without its maps."""
    found = tables(out)
    if "samples" not in found:
        return
    assert not found["samples"]["sample_id"].duplicated().any()
    held = found["attributions/gradcam"]
    assert not held.duplicated(["content", "target"]).any()
    pairs = set(zip(held["content"], held["target"], strict=True))
    assert pairs >= set(zip(found["samples"]["content"], found["samples"]["pred"], strict=True))
    assert set(found["embeddings"]["content"]) == set(found["samples"]["content"])


@pytest.mark.slow
def test_control_c_publishes_what_is_finished(
    commands: Commands, audit: tuple[Path, str, Path], tmp_path: Path
) -> None:
    data, model, undisturbed = audit
    out = tmp_path / "run"
    pid = commands.start(*arguments(data, model, out))
    _wait_for_parts(out, 30)
    os.kill(pid, signal.SIGINT)
    commands.wait()
    assert "the same command goes on from there" in commands.log.read_text()
    manifest = Run.open(out).manifest
    assert manifest.state == "interrupted"
    assert 0 < manifest.progress.done < 162
    _assert_whole(out)
    commands.start(*arguments(data, model, out))
    commands.wait()
    assert_same_rows(out, undisturbed)


def _mount(folder: Path, megabytes: int) -> bool:
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_a_full_disk_loses_nothing(audit: tuple[Path, str, Path], tmp_path: Path) -> None:
    data, model, undisturbed = audit
    disk = tmp_path / "disk"
    if not _mount(disk, 16):
        pytest.skip("Mounting a 16 MB file system takes root.")
    try:
        out, ballast = disk / "run", disk / "ballast"
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        full = 0
        # The less room there is, the earlier the disk is full: at the first part, later, at the manifest.
        for room in (0, 8_192, 65_536, 300_000, 800_000):
            shutil.rmtree(out, ignore_errors=True)
            with open(ballast, "wb") as file:
                os.posix_fallocate(file.fileno(), 0, free - room - 4096)
            with pytest.raises(
                RunStorageError, match=r"is full: free some space and run the same command again"
            ) as caught:
                explain(config(data, out, model, methods=METHODS, publish_every=0.02))
            assert "\n" not in str(caught.value)
            full += 1
            if (out / "run.json").exists():
                assert not Run.open(out).damaged
                _assert_whole(out)
            ballast.unlink()
            explain(config(data, out, model, methods=METHODS))
            assert_same_rows(out, undisturbed)
        assert full == 5
    finally:
        subprocess.run(["umount", str(disk)], check=True)
