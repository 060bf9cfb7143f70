"""A run in S3, against a server on this machine: conditional writes, kills, denials, and a server that goes away."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import fsspec
import pytest

from cache import queries
from cache.bundles import write_bundle
from cache.catalog import Catalog
from cache.errors import RunBusyError, RunStorageError
from cache.filters import Filter
from cache.manifest import Manifest
from cache.profiles import thumbnails
from cache.run import Run, find_runs
from cache.writer import RunWriter
from tests.buckets import Server, bucket
from tests.cache.test_writer import assert_thumbnails_found, ids, write
from tests.synthetic import make_run

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture
def place(server: Server, tmp_path: Path) -> Iterator[str]:
    with bucket(server, f"runs-{uuid4().hex[:8]}", tmp_path / "copies") as url:
        yield f"{url}/first"


def objects(place: str) -> set[str]:
    fs = fsspec.filesystem("s3", use_listings_cache=False)
    return {path.partition("/first/")[2] for path in fs.find(place)}


def test_a_run_is_published_and_read(place: str) -> None:
    with RunWriter(place, Manifest("a run")) as writer:
        writer.save()
        for k in range(10):
            write(writer, range(10 * k, 10 * k + 10))
            writer.publish()
        writer.compact()
    run = Run.open(place)
    assert ids(run) == [f"s{i}" for i in range(100)]
    assert_thumbnails_found(run)
    assert run.damaged == run.verify(fresh=True) == []
    assert [str(found) for found in find_runs(place.rpartition("/")[0])] == [place]


def test_two_drivers_are_one_too_many(place: str) -> None:
    with RunWriter(place, Manifest("a run")) as writer:
        writer.save()
        with pytest.raises(RunBusyError, match=r"Another process is writing s3://.*/first \(process \d+ on"):
            RunWriter(place)
    assert ".lock" not in objects(place)


def test_a_manifest_is_replaced_only_where_it_is_the_one_that_was_read(place: str) -> None:
    with RunWriter(place, Manifest("a run")) as writer:
        writer.save()
        write(writer, range(10))
        # Whatever became of the lock: somebody else has published, and the store itself refuses.
        fs = fsspec.filesystem("s3", use_listings_cache=False)
        fs.pipe_file(f"{place}/run.json", fs.cat_file(f"{place}/run.json") + b"\n")
        with pytest.raises(RunBusyError, match="Another process has published into s3://"):
            writer.publish()
    assert ids(Run.open(place)) == []


KILLED = """
import os, sys
sys.path.insert(0, os.getcwd())
from cache.manifest import Manifest
from cache.writer import RunWriter
from tests.cache.test_writer import write
with RunWriter(sys.argv[1], Manifest("a run")) as writer:
    done = writer.manifest.rows("samples")
    for k in range(done // 20, 6):
        write(writer, range(20 * k, 20 * k + 20))
        writer.publish()
        print(k, flush=True)
"""


@pytest.mark.slow
def test_kills_during_uploads_lose_and_double_nothing(place: str) -> None:
    """A writer is killed again and again; whoever looks meanwhile sees whole generations only."""
    seen = []
    for attempt in range(40):
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", KILLED, place],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=dict(os.environ),
        )
        assert process.stdout is not None
        if attempt < 3:
            process.stdout.readline()
            time.sleep(0.03 * attempt)
            process.send_signal(signal.SIGKILL)
        else:
            while process.poll() is None:
                run = Run.open(place)
                assert run.damaged == []
                seen.append(len(ids(run)))
                assert seen[-1] % 20 == 0
        process.stdout.close()
        code = process.wait()
        assert code in (0, -signal.SIGKILL)
        if code == 0:
            break
    run = Run.open(place)
    assert sorted(ids(run)) == sorted(f"s{i}" for i in range(120))
    assert run.verify(fresh=True) == []
    assert_thumbnails_found(run)
    assert seen == sorted(seen)


def test_a_server_that_goes_away_is_one_sentence(
    place: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cache.retrying.WAITS", (0.0,))
    another = Server()
    name = place.split("/")[2]
    with bucket(another, name, tmp_path / "other"):
        with RunWriter(place, Manifest("a run")) as writer:
            write(writer, range(10))
            writer.publish()
            write(writer, range(10, 20))
            another.close()
            with pytest.raises(RunStorageError, match=r"^s3://.*/first cannot be reached \(.*\.$") as told:
                writer.publish()
            assert "\n" not in str(told.value)
        with pytest.raises(RunStorageError, match="cannot be reached"):
            Run.open(place)


def test_a_bucket_that_is_not_there_is_one_sentence(place: str) -> None:
    with pytest.raises(RunStorageError, match=r"^There is no bucket to hold s3://no-such-bucket/run .*\.$"):
        RunWriter("s3://no-such-bucket/run", Manifest("x"))


def test_pages_and_bundles_read_a_run_there(place: str, tmp_path: Path) -> None:
    local = make_run(tmp_path / "local", 120, seed=3, chunk=50)
    fs = fsspec.filesystem("s3", use_listings_cache=False)
    for file in local.rglob("*"):
        if file.is_file() and file.name != ".lock":
            fs.pipe_file(f"{place}/{file.relative_to(local).as_posix()}", file.read_bytes())
    here, there = Catalog(Run.open(local)), Catalog(Run.open(place))
    chosen = queries.ids(there, Filter())
    assert chosen == queries.ids(here, Filter())
    assert thumbnails(there, chosen[:20]) == thumbnails(here, chosen[:20])
    write_bundle(there.run, tmp_path / "there.zip")
    write_bundle(here.run, tmp_path / "here.zip")
    assert (tmp_path / "there.zip").stat().st_size == pytest.approx(
        (tmp_path / "here.zip").stat().st_size, abs=64
    )
