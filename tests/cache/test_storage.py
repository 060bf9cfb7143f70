"""A run in an object store: published whole or not at all, one writer at a time, read without listings."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from cache import lease, locations, queries
from cache.catalog import Catalog
from cache.errors import ConfigError, ReviewStoreError, RunBusyError, RunNotFoundError, RunStorageError
from cache.filters import Filter
from cache.locations import Url, located
from cache.manifest import Manifest
from cache.parts import PartWriter
from cache.profiles import thumbnails
from cache.ranges import Ranges
from cache.review_events import Subject
from cache.reviews import Reviews, reviews_path
from cache.run import Run, find_runs, is_run, signature
from cache.storage import storage_at
from cache.writer import RunWriter
from tests.cache.test_writer import SAMPLES, assert_thumbnails_found, ids, sample_rows, write
from tests.synthetic import make_run

PLACE = "memory://bucket/run"


class Store(MemoryFileSystem):
    """An object store in memory that fails when it is told to, shows nothing in listings that is young, and counts."""

    fails: Callable[[str, str], BaseException | None] = staticmethod(lambda call, path: None)
    calls: ClassVar[list[tuple[str, str]]] = []
    hidden = False

    def _ask(self, call: str, path: str) -> None:
        type(self).calls.append((call, path))
        error = type(self).fails(call, path)
        if error is not None:
            raise error

    def info(self, path: str, **kwargs: Any) -> Any:
        self._ask("info", path)
        return super().info(path, **kwargs)

    def cat_file(self, path: str, start: Any = None, end: Any = None, **kwargs: Any) -> Any:
        self._ask("cat", path)
        return super().cat_file(path, start, end, **kwargs)

    def get_file(self, rpath: str, lpath: str, **kwargs: Any) -> None:
        self._ask("get", rpath)
        data = super().cat_file(rpath)
        Path(lpath).write_bytes(data)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        self._ask("put", path)
        super().pipe_file(path, value, mode=mode, **kwargs)

    def put_file(self, lpath: str, rpath: str, **kwargs: Any) -> None:
        self._ask("put", rpath)
        super().pipe_file(rpath, Path(lpath).read_bytes())

    def rm_file(self, path: str) -> None:
        self._ask("delete", path)
        super()._rm(path)

    def find(self, path: str, *args: Any, **kwargs: Any) -> Any:
        self._ask("list", path)
        return {} if type(self).hidden else super().find(path, *args, **kwargs)

    def ls(self, path: str, *args: Any, **kwargs: Any) -> Any:
        self._ask("list", path)
        return [] if type(self).hidden else super().ls(path, *args, **kwargs)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Store]]:
    monkeypatch.setenv("GAZELAKE_CACHE", str(tmp_path / "copies"))
    monkeypatch.setattr("cache.retrying.WAITS", (0.0, 0.0, 0.0))
    before = fsspec.get_filesystem_class("memory")
    fsspec.register_implementation("memory", Store, clobber=True)
    Store.store.clear()
    Store.pseudo_dirs[:] = [""]
    Store.fails, Store.calls, Store.hidden = staticmethod(lambda call, path: None), [], False
    locations._filesystem.cache_clear()
    yield Store
    Store.store.clear()
    Store.pseudo_dirs[:] = [""]
    fsspec.register_implementation("memory", before, clobber=True)
    locations._filesystem.cache_clear()


def failing(call: str, ending: str, error: BaseException, times: int = 10**9, after: int = 0) -> Any:
    """Fail some calls on paths with an ending, after some that go well."""
    seen = 0

    def fails(asked: str, path: str) -> BaseException | None:
        nonlocal seen
        if asked != call or not path.endswith(ending):
            return None
        seen += 1
        return error if after < seen <= after + times else None

    return staticmethod(fails)


def begun(rows: int = 10) -> None:
    with RunWriter(PLACE, Manifest("a run")) as writer:
        write(writer, range(rows))
        writer.publish()


def objects() -> set[str]:
    return {path.removeprefix("/bucket/run/") for path in Store.store if path.startswith("/bucket/run/")}


def named() -> set[str]:
    manifest = Run.open(PLACE).manifest
    return {"run.json"} | {
        f"{table}/{part.name}" for table, parts in manifest.parts.items() for part in parts
    }


def test_a_place_is_a_path_or_a_url(tmp_path: Path) -> None:
    assert located(str(tmp_path)) == tmp_path
    assert located(f"file://{tmp_path}") == tmp_path
    url = located("s3://bucket/some/run/")
    assert isinstance(url, Url)
    assert (str(url), url.name, str(url.parent)) == ("s3://bucket/some/run", "run", "s3://bucket/some")
    assert str(url.with_name("run-2") / "samples") == "s3://bucket/some/run-2/samples"
    assert Url("s3://bucket").parent == Url("s3://bucket")
    with pytest.raises(ConfigError, match="begins with nothing://, which is not known"):
        storage_at("nothing://bucket/run")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(protocol: str) -> Any:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr(locations, "_filesystem", missing)
    with pytest.raises(
        ConfigError, match=r"^s3://bucket/run-\S+ needs the package s3fs, .* `pip install s3fs`\.$"
    ):
        storage_at(Url("s3://bucket/run-without-package"))


def test_a_run_is_published_and_read(store: type[Store]) -> None:
    with RunWriter(PLACE, Manifest("a run")) as writer:
        writer.save()
        run = Run.open(PLACE)
        write(writer, range(10))
        assert ids(Run.open(PLACE)) == []
        writer.publish()
        assert not run.is_current()
        write(writer, range(10, 20))
        writer.publish({"samples": ["s3"]})
    run = Run.open(PLACE)
    assert sorted(ids(run)) == sorted(f"s{i}" for i in range(20) if i != 3)
    assert_thumbnails_found(run)
    assert run.verify() == run.verify(fresh=True) == []
    assert is_run(Url(PLACE))
    assert str(run.path) == PLACE


def test_nothing_depends_on_a_listing(store: type[Store]) -> None:
    store.hidden = True
    begun()
    with RunWriter(PLACE) as writer:
        write(writer, range(10, 20))
        writer.publish()
    assert ids(Run.open(PLACE)) == [f"s{i}" for i in range(20)]


def test_a_reader_never_sees_a_part_of_a_generation(store: type[Store]) -> None:
    """After every single request of a writer, a reader finds a whole generation."""
    seen = set()
    asking = False

    def look(call: str, path: str) -> None:
        nonlocal asking
        if asking or call not in ("put", "delete", "info") or not is_begun:
            return
        asking = True
        try:
            run = Run.open(PLACE)
            assert run.damaged == []
            held = ids(run)
            assert len(held) in (0, 10, 20, 30)
            seen.add(len(held))
        finally:
            asking = False

    is_begun = False
    with RunWriter(PLACE, Manifest("a run")) as writer:
        writer.save()
        is_begun = True
        store.fails = staticmethod(look)
        for k in range(3):
            write(writer, range(10 * k, 10 * k + 10))
            writer.publish()
    assert seen == {0, 10, 20, 30}


def test_a_second_writer_is_refused(store: type[Store]) -> None:
    with RunWriter(PLACE, Manifest("a run")) as writer:
        writer.save()
        assert Run.open(PLACE).is_being_written()
        with pytest.raises(
            RunBusyError, match=r"Another process is writing memory://bucket/run \(process \d+ on .*"
        ):
            RunWriter(PLACE)
    assert not Run.open(PLACE).is_being_written()
    assert ".lock" not in objects()
    RunWriter(PLACE).close()


def lock_of(**changes: Any) -> None:
    held = json.loads(lease._text("somebody", timedelta(seconds=60))) | changes
    fsspec.filesystem("memory").pipe_file("/bucket/run/.lock", json.dumps(held).encode())


def test_a_dead_writers_lock_ends(store: type[Store]) -> None:
    begun()
    lock_of(machine="another", until=(datetime.now(UTC) + timedelta(seconds=30)).isoformat())
    with pytest.raises(RunBusyError, match=r"if it is dead already, its lock ends in (29|30) s"):
        RunWriter(PLACE)
    lock_of(machine="another", until=(datetime.now(UTC) - timedelta(seconds=1)).isoformat())
    RunWriter(PLACE).close()
    # On this machine it is known whether the process still lives, and whether it is the same one.
    lock_of()
    with pytest.raises(RunBusyError):
        RunWriter(PLACE)
    lock_of(started=1)
    RunWriter(PLACE).close()
    lock_of(process=2**22 + 1)
    assert not Run.open(PLACE).is_being_written()
    RunWriter(PLACE).close()
    fsspec.filesystem("memory").pipe_file("/bucket/run/.lock", b"no lock at all")
    RunWriter(PLACE).close()


def test_a_writer_that_lost_its_lock_publishes_nothing(store: type[Store]) -> None:
    begun()
    writer = RunWriter(PLACE)
    write(writer, range(10, 20))
    lock_of(until=(datetime.now(UTC) - timedelta(seconds=1)).isoformat())
    with RunWriter(PLACE) as other:
        write(other, range(30, 40))
        other.publish()
        with pytest.raises(
            RunBusyError, match="Another process has published into memory://bucket/run meanwhile"
        ):
            writer.publish()
        writer.close()
        assert other.storage.is_being_written()
    assert sorted(ids(Run.open(PLACE))) == sorted(
        [f"s{i}" for i in range(10)] + [f"s{i}" for i in range(30, 40)]
    )


def test_a_lock_that_is_not_renewed_is_lost(store: type[Store]) -> None:
    begun()
    with RunWriter(PLACE) as writer:
        write(writer, range(10, 20))
        writer._lock._until = datetime.now(UTC)  # type: ignore[attr-defined]
        with pytest.raises(RunBusyError, match="could not be renewed for 90 s"):
            writer.publish()


def test_throttling_is_waited_out(store: type[Store]) -> None:
    store.fails = failing("put", "", OSError(16, "Please reduce your request rate"), times=3, after=2)
    begun()
    assert len(ids(Run.open(PLACE))) == 10


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            OSError(16, "SlowDown"),
            r"cannot be reached \(.*SlowDown\), also not after 4 tries: check the network",
        ),
        (TimeoutError("timed out"), r"cannot be reached \(timed out\)"),
        (PermissionError("Access Denied"), r"Access to memory://bucket/run is denied \(Access Denied\)"),
        (FileNotFoundError("The bucket does not exist"), r"There is no bucket to hold memory://bucket/run"),
    ],
)
@pytest.mark.parametrize("ending", ["run.json", ".parquet"])
def test_a_failing_store_is_one_sentence_and_the_next_writer_goes_on(
    store: type[Store], error: BaseException, sentence: str, ending: str
) -> None:
    begun()
    with RunWriter(PLACE) as writer:
        write(writer, range(10, 20))
        store.fails = failing("put", ending, error)
        with pytest.raises((RunStorageError, RunBusyError), match=sentence) as told:
            writer.publish()
        assert "\n" not in str(told.value)
        store.fails = failing("put", "nothing", error)
    assert ids(Run.open(PLACE)) == [f"s{i}" for i in range(10)]
    with RunWriter(PLACE) as writer:
        write(writer, range(10, 20))
        writer.publish()
    assert ids(Run.open(PLACE)) == [f"s{i}" for i in range(20)]


def test_a_manifest_that_was_taken_without_an_answer_keeps_its_parts(store: type[Store]) -> None:
    begun()

    class Answerless(Store):
        def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
            super().pipe_file(path, value, mode=mode, **kwargs)
            if path.endswith("run.json"):
                raise TimeoutError("no answer")

        def cat_file(self, path: str, *args: Any, **kwargs: Any) -> Any:
            raise TimeoutError("no answer")

    writer = RunWriter(PLACE)
    write(writer, range(10, 20))
    writer.storage._objects.fs = Answerless(use_listings_cache=False)  # type: ignore[attr-defined]
    with pytest.raises(RunStorageError, match="no answer"):
        writer.publish()
    writer.close()
    run = Run.open(PLACE)
    assert run.damaged == []
    assert ids(run) == [f"s{i}" for i in range(20)]


def test_a_manifest_whose_answer_was_lost_counts(store: type[Store]) -> None:
    begun()

    class Forgetful(Store):
        lost = 1

        def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
            super().pipe_file(path, value, mode=mode, **kwargs)
            if path.endswith("run.json") and type(self).lost:
                type(self).lost = 0
                raise TimeoutError("no answer")

    with RunWriter(PLACE) as writer:
        write(writer, range(10, 20))
        writer.storage._objects.fs = Forgetful(use_listings_cache=False)  # type: ignore[attr-defined]
        writer.publish()
        write(writer, range(20, 30))
        writer.publish()
    assert ids(Run.open(PLACE)) == [f"s{i}" for i in range(30)]


def test_a_vanished_store_is_told_apart_from_a_missing_run(store: type[Store]) -> None:
    with pytest.raises(
        RunNotFoundError,
        match=r"^memory://bucket/run holds no run: start one with .*--out memory://bucket/run`\.$",
    ):
        Run.open(PLACE)
    store.fails = failing("cat", "run.json", TimeoutError("no answer"))
    with pytest.raises(RunStorageError, match="cannot be reached"):
        Run.open(PLACE)


def test_a_run_that_cannot_be_asked_for_is_never_begun_anew(store: type[Store]) -> None:
    begun()
    store.fails = failing("info", "run.json", TimeoutError("no answer"))
    with pytest.raises(RunStorageError, match="cannot be reached"):
        RunWriter(PLACE, Manifest("another"))
    store.fails = failing("info", "nothing", TimeoutError())
    assert len(ids(Run.open(PLACE))) == 10


def test_other_things_are_refused_and_kept(store: type[Store]) -> None:
    fsspec.filesystem("memory").pipe_file("/bucket/run/notes.txt", b"mine")
    with pytest.raises(RunStorageError, match=r"is not empty and holds no run \(notes\.txt lies there\)"):
        RunWriter(PLACE, Manifest("x"))
    assert objects() == {"notes.txt"}
    with pytest.raises(RunStorageError, match="cannot hold a run: only a local directory or an object store"):
        RunWriter("http://example.org/run", Manifest("x"))


def test_garbage_goes_when_it_is_old(store: type[Store]) -> None:
    begun()
    fs = fsspec.filesystem("memory")
    old, young = (f"samples/part-{digit * 16}.parquet" for digit in "01")
    for name in (old, young, "samples/mine.parquet"):
        fs.pipe_file(f"/bucket/run/{name}", b"half")
    for name in (old, "samples/mine.parquet"):
        store.store[f"/bucket/run/{name}"].created = datetime.now(UTC) - timedelta(hours=2)
    RunWriter(PLACE).close()
    assert objects() - named() == {young, "samples/mine.parquet"}


def test_a_missing_and_a_changed_part_are_named_and_left_out(store: type[Store], tmp_path: Path) -> None:
    with RunWriter(PLACE, Manifest("x")) as writer:
        for k in range(3):
            write(writer, range(10 * k, 10 * k + 10))
            writer.publish()
    parts = Run.open(PLACE).manifest.parts["samples"]
    fs = fsspec.filesystem("memory")
    fs.rm_file(f"/bucket/run/samples/{parts[0].name}")
    fs.pipe_file(f"/bucket/run/samples/{parts[1].name}", b"x" * parts[1].bytes)
    run = Run.open(PLACE)
    assert run.damaged == [f"samples/{parts[0].name}"]
    # The copy from when it was written is right; the bytes that lie there are not.
    assert run.verify() == [f"samples/{parts[0].name}"]
    assert run.verify(fresh=True) == [f"samples/{part.name}" for part in parts[:2]]
    run = Run.open(PLACE)
    assert ids(run) == [f"s{i}" for i in range(20, 30)]
    assert run.damaged == [f"samples/{part.name}" for part in parts[:2]]
    with RunWriter(PLACE) as writer:
        assert writer.damaged == [f"samples/{part.name}" for part in parts[:2]]


def test_a_part_is_written_without_a_lock(store: type[Store]) -> None:
    begun()
    part = PartWriter(storage_at(PLACE), "samples", SAMPLES)
    part.append(sample_rows(range(4), "p"))
    done = part.close()
    assert f"samples/{done.name}" in objects()
    other = PartWriter(storage_at(PLACE), "samples", SAMPLES)
    other.append(sample_rows(range(4), "p"))
    other.abort()
    assert not list((Path(storage_at(PLACE)._store.folder) / "writing").iterdir())  # type: ignore[attr-defined]


@pytest.fixture
def uploaded(store: type[Store], tmp_path: Path) -> Path:
    """A synthetic run, and the same one in the store."""
    path = make_run(tmp_path / "local", 260, ("wolf", "crane", "fox"), seed=5, chunk=97)
    fs = fsspec.filesystem("memory")
    for file in path.rglob("*"):
        if file.is_file() and file.name != ".lock":
            fs.pipe_file(f"/bucket/run/{file.relative_to(path).as_posix()}", file.read_bytes())
    store.calls.clear()
    return path


def test_a_catalog_answers_as_on_a_disk(uploaded: Path) -> None:
    there, here = Catalog(Run.open(PLACE)), Catalog(Run.open(uploaded))
    found = queries.ids(there, Filter())
    assert found == queries.ids(here, Filter())
    assert thumbnails(there, found[:48]) == thumbnails(here, found[:48])
    assert queries.count(there, Filter()) == queries.count(here, Filter())
    assert queries.confusion(there, Filter()) == queries.confusion(here, Filter())


def test_thumbnails_are_read_in_ranges(store: type[Store], uploaded: Path) -> None:
    catalog = Catalog(Run.open(PLACE))
    store.calls.clear()
    assert len(thumbnails(catalog, queries.ids(catalog, Filter())[:3])) == 3
    asked = {call for call, path in store.calls if "/thumbnails/" in path}
    assert asked == {"cat"}


def test_what_was_fetched_is_not_fetched_again(store: type[Store], uploaded: Path) -> None:
    Catalog(Run.open(PLACE))
    store.calls.clear()
    Catalog(Run.open(PLACE))
    assert not [
        path for call, path in store.calls if call in ("get", "cat") and not path.endswith("run.json")
    ]


def test_copies_are_bounded(store: type[Store], uploaded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cache.part_store.IN_USE", 0.0)
    run = Run.open(PLACE)
    kept = run.storage._store  # type: ignore[attr-defined]
    for table in run.manifest.parts:
        assert all(Path(path).stat().st_size for path in run.part_paths(table))
    kept.limit = sum(part.bytes for part in run.manifest.parts["samples"])
    kept.trim()
    held = sum(path.stat().st_size for path in kept.folder.glob("*/*/*"))
    assert 0 < held <= kept.limit
    # What was deleted is fetched again; without the time that a copy is left alone, one may go while the next is fetched.
    monkeypatch.setattr("cache.part_store.IN_USE", 600.0)
    assert len(ids(run)) == 260


def test_runs_are_found_below_a_url(store: type[Store], uploaded: Path) -> None:
    fs = fsspec.filesystem("memory")
    text = (uploaded / "run.json").read_bytes()
    for place in ("b/deep/er", "a", "b/c"):
        fs.pipe_file(f"/bucket/{place}/run.json", text)
    assert [str(place) for place in find_runs("memory://bucket")] == [
        "memory://bucket/a", "memory://bucket/b/c", "memory://bucket/run"
    ]  # fmt: skip
    assert find_runs(PLACE) == [Url(PLACE)]
    assert find_runs("memory://nothing") == []
    assert signature("memory://bucket/b") is None


def test_reviews_of_a_run_at_a_url_need_a_folder(uploaded: Path, tmp_path: Path) -> None:
    run = Run.open(PLACE)
    reviews = Reviews(reviews_path(run.path, run.manifest))
    assert list(reviews.lines()) == []
    assert reviews.revision() == ("", 0)
    with pytest.raises(
        ReviewStoreError, match=r"^memory://bucket/run can be looked at but not reviewed yet: .*--config\.$"
    ):
        reviews.tag("Ann", [Subject("sample", "0" * 32)], "seen")
    assert reviews_path(run.path, run.manifest, tmp_path) == tmp_path / f"{run.manifest.run_id}.sqlite"


def test_ranges_are_a_file() -> None:
    data = bytes(range(100))
    file = Ranges("some", 100, lambda start, end: data[start:end])
    assert file.seek(-10, io.SEEK_END) == 90
    assert file.read(20) == bytes(range(90, 100))
    assert file.read(1) == b""
    file.seek(5)
    assert (file.read(3), file.tell()) == (bytes([5, 6, 7]), 8)
    assert (
        len({file, Ranges("some", 100, lambda start, end: b""), Ranges("other", 1, lambda start, end: b"")})
        == 2
    )
