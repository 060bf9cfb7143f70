"""Every executor: the same rows, whatever dies; on a Ray cluster of two nodes on this machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cache.errors import ConfigError, ModelError, RunBusyError
from cache.run import Run
from cache.writer import RunWriter
from engine.executors.publication import AuditInterruptedError
from engine.explain import explain
from engine.progress import Silent
from tests.buckets import Server, bucket
from tests.engine.audits import FACTORY, SIDE, assert_same_rows, config, tables, write_factory, write_images

ROOT = Path(__file__).parents[2]
METHODS = "gradcam,eigencam"
EXECUTORS = ("local", "ray")
IMAGES = 160
pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.filterwarnings("ignore::ResourceWarning")]

# Every pass takes a moment and leaves its process's number behind; an image that is all red may end the process.
WATCHED = FACTORY.replace("import torch\n", "import os, pathlib, time\n\nimport torch\n", 1).replace(
    "    def forward(self, x):\n",
    "    def forward(self, x):\n"
    "        here = pathlib.Path(__file__).parent\n"
    "        (here / f'pid-{os.getpid()}').touch()\n"
    "        time.sleep(0.05)\n"
    "        if (here / 'deadly').exists() and (x[:, 0].amin((1, 2)) > 1.99).any():\n"
    "            os._exit(1)\n",
)


class At(Silent):
    """Does something once, when the first images are explained."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.act: Callable[[], object] | None = act
        self.done = 0
        self.said: list[str] = []

    def say(self, sentence: str) -> None:
        self.said.append(sentence)

    def advance(self, explained: int = 0, reused: int = 0, failed: int = 0) -> None:
        self.done += explained + reused + failed
        if explained and self.act is not None:
            act, self.act = self.act, None
            act()


NODE = {"num_cpus": 1, "object_store_memory": 100 << 20}


def _add_node(cluster: Any) -> None:
    """Add a node of one core; Ray gives up after 30 seconds, which a busy machine may need."""
    for attempt in range(3):
        try:
            cluster.add_node(**NODE)
        except Exception as error:  # Ray raises nothing narrower
            if attempt == 2 or "timed out" not in str(error):
                raise
        else:
            return


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a bucket on this machine."""
    running = Server()
    with bucket(running, f"ray-{uuid4().hex[:8]}", tmp_path_factory.mktemp("copies")) as url:
        yield url
    running.close()


@pytest.fixture(scope="module")
def cluster(store: str) -> Iterator[Any]:
    """A cluster of two nodes of one core each, to which this process is connected; its workers reach the bucket."""
    import ray
    from ray.cluster_utils import Cluster

    import engine.executors.ray  # noqa: F401 - says to Ray what it must not do

    # A node that is lost is noticed within seconds.
    quick = {
        "health_check_period_ms": 500,
        "health_check_failure_threshold": 16,
        "health_check_initial_delay_ms": 0,
    }
    environment = pytest.MonkeyPatch()
    # Beside other tests on the same cores, workers that give way to everything would hardly get a turn.
    environment.setenv("RAY_worker_niceness", "0")
    made = Cluster(
        initialize_head=True, head_node_args={**NODE, "include_dashboard": False, "_system_config": quick}
    )
    _add_node(made)
    handler = signal.getsignal(signal.SIGTERM)
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    yield made
    ray.shutdown()
    made.shutdown()
    environment.undo()
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture(scope="module")
def audit(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Images with twins and a broken file, and the rows that the local executor makes of them."""
    folder = tmp_path_factory.mktemp("audit")
    data = write_images(folder / "images", IMAGES, seed=5)
    first = sorted((data / "red").glob("*.png"))[0]
    shutil.copy(first, data / "red" / "zz-twin.png")
    shutil.copy(first, data / "blue" / "twin.png")
    (data / "green" / "broken.png").write_bytes(b"")
    explain(config(data, folder / "undisturbed", write_factory(folder, WATCHED), methods=METHODS))
    return data, folder / "undisturbed"


@pytest.fixture
def model(tmp_path: Path) -> str:
    (tmp_path / "model").mkdir()
    return write_factory(tmp_path / "model", WATCHED)


def pids(model: str) -> list[int]:
    """Return the processes that the network has run in, but for this one."""
    found = [int(path.name.removeprefix("pid-")) for path in Path(model).parent.glob("pid-*")]
    return [pid for pid in found if pid != os.getpid()]


def given(data: Path, out: Path | str, model: str, executor: str, **options: Any) -> Any:
    distributed = {"executor": "ray", "workers": 2} if executor == "ray" else {}
    return config(data, out, model, **{"methods": METHODS, "publish_every": 0.5, **distributed, **options})


@pytest.fixture
def parts_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have workers write parts, though their shards are so small that they would hand in rows."""
    monkeypatch.setattr("engine.executors.ray.SEND_BELOW", 0)


@pytest.mark.slow
@pytest.mark.parametrize("executor", EXECUTORS)
def test_rows_equal_and_another_method_and_image_compute_only_themselves(
    executor: str, cluster: Any, audit: tuple[Path, Path], model: str, tmp_path: Path
) -> None:
    data, undisturbed = audit
    out, mine = tmp_path / "run", tmp_path / "images"
    reporter = At(lambda: None)
    summary = explain(given(data, out, model, executor), reporter)
    assert (summary.counts.explained, summary.counts.failed) == (IMAGES, {"empty": 1})
    assert reporter.done == IMAGES + 3
    assert_same_rows(out, undisturbed)
    shutil.copytree(data, mine)
    shutil.copy(mine / "red" / "zz-twin.png", mine / "red" / "zz-third.png")
    shutil.move(mine / "red" / "zz-twin.png", mine / "green" / "moved.png")
    again = explain(given(mine, out, model, executor, methods=f"{METHODS},layercam"))
    assert again.counts.explained == 0
    assert again.counts.completed >= IMAGES
    expected = tmp_path / "expected"
    explain(given(mine, expected, model, "local", methods=f"{METHODS},layercam"))
    assert_same_rows(out, expected)
    assert Run.open(out).manifest.state == "complete"


@pytest.mark.slow
@pytest.mark.usefixtures("parts_written")
def test_workers_write_a_run_in_a_bucket_and_one_is_killed(
    cluster: Any, audit: tuple[Path, Path], model: str, store: str
) -> None:
    data, undisturbed = audit
    out = f"{store}/runs/first"
    reporter = At(lambda: os.kill(pids(model)[0], signal.SIGKILL))
    summary = explain(given(data, out, model, "ray"), reporter)
    assert (summary.counts.explained, summary.counts.failed) == (IMAGES, {"empty": 1})
    assert reporter.act is None
    run = Run.open(out)
    assert (run.manifest.state, run.verify(fresh=True)) == ("complete", [])
    assert_same_rows(out, undisturbed)


@pytest.mark.slow
@pytest.mark.usefixtures("parts_written")
def test_a_killed_worker_costs_its_shard_and_no_more(
    cluster: Any, audit: tuple[Path, Path], model: str, tmp_path: Path
) -> None:
    data, undisturbed = audit
    killed: list[int] = []

    def kill() -> None:
        killed.append(pids(model)[0])
        os.kill(killed[0], signal.SIGKILL)
        with pytest.raises(RunBusyError):
            RunWriter(tmp_path / "run")

    reporter = At(kill)
    summary = explain(given(data, tmp_path / "run", model, "ray"), reporter)
    assert killed
    assert summary.counts.failed == {"empty": 1}
    assert reporter.done == IMAGES + 3, "what a dead worker had done is not counted twice"
    assert_same_rows(tmp_path / "run", undisturbed)
    _assert_only_published_parts(tmp_path / "run")


@pytest.mark.slow
@pytest.mark.usefixtures("parts_written")
def test_a_lost_node_costs_its_shards_and_no_more(
    cluster: Any, audit: tuple[Path, Path], model: str, tmp_path: Path
) -> None:
    data, undisturbed = audit
    gone = next(node for node in cluster.list_all_nodes() if not node.is_head())
    try:
        summary = explain(
            given(data, tmp_path / "run", model, "ray"),
            At(lambda: cluster.remove_node(gone, allow_graceful=False)),
        )
        assert len(pids(model)) == 2, "nobody could take the place of the worker that was lost with its node"
        assert summary.counts.explained == IMAGES
        assert_same_rows(tmp_path / "run", undisturbed)
    finally:
        _add_node(cluster)


@pytest.mark.slow
def test_a_shard_that_always_fails_is_named_and_completed_later(
    cluster: Any, audit: tuple[Path, Path], model: str, tmp_path: Path
) -> None:
    data, _ = audit
    out, deadly = tmp_path / "run", Path(model).parent / "deadly"
    mine = tmp_path / "images"
    shutil.copytree(data, mine)
    Image.new("RGB", (SIDE, SIDE), (255, 0, 0)).save(mine / "red" / "0000-deadly.png")
    deadly.touch()
    reporter = At(lambda: None)
    summary = explain(given(mine, out, model, "ray"), reporter)
    lost = summary.counts.failed["lost"]
    assert 0 < lost < 10
    assert any("failed 3 times" in sentence and "red/0" in sentence for sentence in reporter.said)
    errors = pd.concat(pq.read_table(p).to_pandas() for p in Run.open(out).part_paths("errors"))
    assert set(errors["kind"]) == {"lost", "empty"}
    assert errors[errors["kind"] == "lost"]["message"].str.contains("run the same command again").all()
    assert "red/0000-deadly.png" in set(errors["sample_id"])
    assert not tables(out)["samples"]["sample_id"].isin(errors["sample_id"]).any()
    deadly.unlink()
    again = explain(given(mine, out, model, "ray"))
    assert again.counts.failed == {"empty": 1}
    assert again.counts.explained <= lost
    expected = tmp_path / "expected"
    explain(given(mine, expected, model, "local"))
    assert_same_rows(out, expected)


@pytest.mark.slow
@pytest.mark.parametrize("executor", EXECUTORS)
def test_control_c_publishes_what_is_finished(
    executor: str, cluster: Any, audit: tuple[Path, Path], model: str, tmp_path: Path
) -> None:
    data, undisturbed = audit
    out = tmp_path / "run"
    with pytest.raises(AuditInterruptedError):
        explain(given(data, out, model, executor), At(lambda: os.kill(os.getpid(), signal.SIGINT)))
    manifest = Run.open(out).manifest
    assert manifest.state == "interrupted"
    assert 0 < manifest.progress.done < IMAGES + 2
    _assert_only_published_parts(out)
    summary = explain(given(data, out, model, executor))
    assert summary.counts.explained <= IMAGES - manifest.progress.done
    assert_same_rows(out, undisturbed)


@pytest.mark.slow
def test_a_driver_that_was_killed_is_gone_on_from(
    cluster: Any, audit: tuple[Path, Path], model: str, tmp_path: Path
) -> None:
    data, undisturbed = audit
    out = tmp_path / "run"
    words = {"data": data, "model": model, "out": out, "methods": METHODS, "device": "cpu", "batch-size": 8}
    words |= {"publish-every": 0.2, "executor": "ray", "address": cluster.address, "workers": 2}
    command = [sys.executable, "-m", "engine", "explain", *(f"--{k}={v}" for k, v in words.items())]
    said = tmp_path / "said"
    with said.open("w") as log:
        driver = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=log)
    deadline = time.monotonic() + 400
    while time.monotonic() < deadline and driver.poll() is None:
        if (out / "run.json").exists() and Run.open(out).manifest.rows("samples"):
            break
        time.sleep(0.02)
    driver.kill()
    assert driver.wait() == -signal.SIGKILL, said.read_text()
    published = Run.open(out).manifest.rows("samples")
    assert 0 < published < IMAGES + 2
    # Parts that nobody published any more lie there; the next writer collects them.
    (out / "samples" / "part-0123456789abcdef.parquet").write_bytes(b"half")
    summary = explain(given(data, out, model, "ray"))
    assert summary.counts.explained <= IMAGES - published + 2
    assert_same_rows(out, undisturbed)
    _assert_only_published_parts(out)


@pytest.mark.slow
def test_a_network_that_only_the_driver_can_load_is_sent(
    cluster: Any, audit: tuple[Path, Path], tmp_path: Path
) -> None:
    data, _ = audit
    # Other weights each time that the factory is called: what workers load is never what was planned with.
    model = write_factory(
        tmp_path,
        FACTORY.replace("manual_seed(0)", "manual_seed(int.from_bytes(__import__('os').urandom(4)))"),
    )
    reporter = At(lambda: None)
    summary = explain(given(data, tmp_path / "run", model, "ray", limit=20), reporter)
    assert summary.samples == 20
    assert any("is sent to the workers" in sentence for sentence in reporter.said)


@pytest.mark.slow
def test_a_network_that_fails_in_the_middle_is_one_sentence(
    cluster: Any, audit: tuple[Path, Path], tmp_path: Path
) -> None:
    data, _ = audit
    model = write_factory(
        tmp_path,
        FACTORY.replace(
            "        return self.fc",
            "        if len(x) != 2: raise RuntimeError('only two')\n        return self.fc",
        ),
    )
    with pytest.raises(ModelError, match=r"The model failed on a batch|fails on an input|failed") as caught:
        explain(given(data, tmp_path / "run", model, "ray", batch_size=4))
    assert "\n" not in str(caught.value)


def test_an_address_wants_ray_and_a_cluster(cluster: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="say --executor ray with it"):
        config(tmp_path, tmp_path / "run", "torchvision:resnet18", address="auto")


def test_without_ray_it_is_one_sentence(audit: tuple[Path, Path], tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['ray'] = None\n"
        f"sys.argv = ['engine', 'explain', '--data', {str(audit[0])!r}, '--model', 'torchvision:resnet18', "
        f"'--out', {str(tmp_path / 'run')!r}, '--executor', 'ray']\n"
        "from engine.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [
        "Error: --executor ray needs the package ray: install it with `pip install -r requirements-ray.txt`."
    ]


def _assert_only_published_parts(out: Path) -> None:
    """Beside parts that were retired a moment ago, the run holds what its manifest names, after another writer."""
    RunWriter(out).close()
    manifest = Run.open(out).manifest
    named = {f"{table}/{part.name}" for table, parts in manifest.parts.items() for part in parts}
    named |= {entry["path"] for entry in manifest.retired}
    lying = {p.relative_to(out).as_posix() for p in out.rglob("*part-*")}
    assert lying <= named
