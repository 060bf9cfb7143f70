"""Bundles: the same run elsewhere, nothing that says where it lay, and nothing at all of what cannot be trusted."""

from __future__ import annotations

import hashlib
import io
import json
import random
import stat
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cache import queries, review_views
from cache.bundle_privacy import Privacy
from cache.bundle_reading import MAX_BYTES, MAX_RATIO, merge_reviews, open_bundle
from cache.bundles import SEAL_DIGITS, write_bundle
from cache.catalog import Catalog
from cache.errors import BundleError, GazelakeError, ReviewError, RunDamagedError, RunNotFoundError
from cache.filters import Filter, Is
from cache.manifest import Manifest
from cache.review_events import Event, Subject
from cache.reviews import Merged, Reviews
from cache.run import Run
from cache.writer import RunWriter
from tests.synthetic import make_run

SIGNED = "https://key:secret@bucket.example/set/a.jpg?X-Amz-Signature=abc123&x=1"
OPEN = "https://arxiv.org/abs/1610.02391"
ELSEWHERE = "/mnt/private disk/ann/9.jpg"


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose every text says where something lies."""
    base = tmp_path_factory.mktemp("private")
    root = base / "my data" / "animals"
    run = make_run(base / "runs" / "audit", 300, seed=3, chunk=97)
    with RunWriter(run) as writer:
        rows = pa.concat_tables(
            [pq.read_table(path) for path in Run.open(run).part_paths("samples")], promote_options="default"
        )
        ids = rows["sample_id"].to_pylist()
        ids[0], ids[1], ids[2], ids[3] = f"{root}/{ids[0]}", ELSEWHERE, SIGNED, f"{root}/{ids[4]}"
        uris = [*ids]
        uris[5], uris[6] = "../outside.jpg", f"file://{root}/6.jpg"
        cameras = [
            f"{root}/cameras/{i}.txt" if i % 3 else f"shot by C:\\Users\\ann\\x{i}.cfg, see {SIGNED}"
            for i in range(300)
        ]
        for name, values in (("sample_id", ids), ("uri", uris), ("meta.camera", cameras)):
            rows = rows.set_column(
                rows.schema.get_field_index(name), rows.schema.field(name), pa.array(values)
            )
        failed = pq.read_table(Run.open(run).part_paths("errors")[0])
        told = [
            f"{root}/broken {i}.jpg ends too early (see /var/log/gazelake/run.log)."
            for i in range(failed.num_rows)
        ]
        failed = failed.set_column(
            failed.schema.get_field_index("message"), failed.schema.field("message"), pa.array(told)
        )
        old = [(t, p.name) for t in ("samples", "errors") for p in writer.manifest.parts[t]]
        writer.append("samples", rows)
        writer.append("errors", failed)
        manifest = writer.manifest
        manifest.dataset = {"source": str(root), "root": str(root), "kind": "folder"}
        manifest.model["source"] = f"{base}/nets/my net.py:factory"
        manifest.model["weights"] = "/home/ann/weights/best.pt"
        manifest.notices = [f"3 files below {root} are empty.", f"Described in {OPEN}, cached at {SIGNED}."]
        command = f"python -m engine explain --data '{root}' --out {run} --weights=/home/ann/w.pt --classes {base}/c.txt"
        manifest.history = [{"command": command, "finished": "2024-01-01", "seconds": 3}]
        manifest.classes[3] = "/m/01yrx"
        manifest.methods["gradcam"]["reference"] = OPEN
        found = {
            "title": f"snow, see {root}/x.md",
            "class": "/m/01yrx",
            "sample_ids": [ids[0], ids[1], ids[7]],
        }
        findings = {"rank": pa.array([1], pa.int32()), "kind": ["where"], "json": [json.dumps(found)]}
        writer.append("findings", pa.table(findings))
        writer.publish(drop=old)
    reviews = Reviews.of_run(run)
    contents = rows["content"].to_pylist()
    reviews.tag("Ann", [Subject.sample(c) for c in contents], "snow")
    reviews.note(
        "Ann", [Subject.sample(contents[0])], f"compare {root}/x y.jpg with /home/ann/z/q.jpg and 1/2, and/or"
    )
    undone = reviews.note("Bo", [Subject.sample(contents[40])], "oops")
    reviews.undo("Bo", undone)
    reviews.judge("Bo", [Subject.selection(Filter((Is("correct", False),)))], "shortcut")
    query = f"sample={str(root).replace('/', '%2F').replace(' ', '+')}%2Fx.jpg&filter=%7B%7D"
    reviews.save_view("Ann", name="V", url=f"/sample?{query}", description=f"below {root}")
    return run


@pytest.fixture(scope="module")
def bundle(private: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bundles") / "audit.zip"
    write_bundle(Run.open(private), path)
    return path


def listing(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def everything(path: Path) -> str:
    """Return all that a bundle says: its bytes, its members, and the cells and footers of its tables."""
    told = [path.read_bytes().decode("latin-1")]
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            data = archive.read(name)
            told += [name, data.decode("utf-8", "replace")]
            if name.endswith(".parquet"):
                file = pq.ParquetFile(io.BytesIO(data))
                told.append(repr(file.metadata.metadata) + repr(file.schema_arrow.metadata))
                kinds = (pa.string(), pa.binary())
                columns = [f.name for f in file.schema_arrow if f.type in kinds]
                told += [repr(column) for column in file.read(columns=columns).to_pydict().values()]
    return "\n".join(told)


def test_no_place_is_in_a_bundle(private: Path, bundle: Path, tmp_path: Path) -> None:
    ids = queries.ids(Catalog(Run.open(private)), Filter())
    write_bundle(
        Run.open(private), tmp_path / "part.zip", samples=ids[:200], original=lambda _: b"\x89PNG bytes"
    )
    base = str(private.parents[1])
    needles = [
        base,
        base.replace("/", "%2F"),
        str(Path.home()) + "/",
        "my data",
        "/mnt/",
        "/home/",
        "ann/9",
        "secret@",
    ]
    needles += ["Signature", "abc123", "C:\\\\Users", "C:\\Users", "/var/log", "file:/", "../outside"]
    for path in (bundle, tmp_path / "part.zip"):
        told = everything(path)
        for needle in needles:
            assert needle not in told, (path.name, needle, told[max(0, told.find(needle) - 80) :][:200])
        assert OPEN in told
        assert "/m/01yrx" in told
    assert "my data" in "".join(p.read_text("latin-1") for p in private.glob("run.json"))


def test_a_whole_run_is_the_same_elsewhere(private: Path, bundle: Path, tmp_path: Path) -> None:
    opened = open_bundle(bundle, tmp_path / "there")
    assert (opened.samples, opened.originals) == (300, 0)
    here, there = Run.open(private), Run.open(tmp_path / "there")
    assert listing(tmp_path) == {"there"}
    assert there.verify() == []
    assert there.manifest.run_id == here.manifest.run_id
    assert there.manifest.dataset == {"source": "animals", "root": "", "kind": "folder"}
    assert there.manifest.model["source"] == "my net.py:factory"
    assert there.manifest.history[0]["command"] == (
        "python -m engine explain --data animals --out audit --weights=w.pt --classes c.txt"
    )
    assert there.manifest.notices[0] == "3 files below animals are empty."
    a, b = Catalog(here), Catalog(there)
    for filter_ in (Filter(), Filter((Is("correct", False),))):
        assert queries.count(a, filter_) == queries.count(b, filter_)
    for table in ("attributions/gradcam", "attributions/layercam", "embeddings", "thumbnails"):
        assert [pq.read_table(p) for p in here.part_paths(table)] == [
            pq.read_table(p) for p in there.part_paths(table)
        ]
    ids = queries.ids(b, Filter())
    assert len(set(ids)) == 300
    assert not any(i.startswith("/") or "://" in i for i in ids)
    (found,) = (
        json.loads(t) for p in there.part_paths("findings") for t in pq.read_table(p)["json"].to_pylist()
    )
    assert found["title"] == "snow, see x.md"
    assert found["class"] == "/m/01yrx"
    assert set(found["sample_ids"]) < set(ids)
    # One id came to be that of another sample, had it been cut at the root: both are there.
    assert len([i for i in ids if i.startswith("external/")]) == 3


def test_the_reviews_come_with_it_and_go_back(private: Path, bundle: Path, tmp_path: Path) -> None:
    assert open_bundle(bundle, tmp_path / "there").reviews == Merged(6)
    here, there = Reviews.of_run(private), Reviews.of_run(tmp_path / "there")
    assert review_views.tags(there) == review_views.tags(here)
    noted = {m.text for s in review_views.reviewed(there, note="compare") for m in marks(there, s).notes}
    assert noted == {"compare x y.jpg with q.jpg and 1/2, and/or"}
    (view,) = review_views.views(there)
    assert view.description == "below animals"
    assert view.url == "/sample?sample=x.jpg&filter=%7B%7D"
    before = list(here.lines())
    copy = tmp_path / "copy.sqlite"
    mine = Reviews(copy)
    mine.merge(here)
    there.tag("Cy", [Subject.sample(review_views.reviewed(there)[0])], "new")
    known = merge_reviews(tmp_path / "there", mine)
    # The words that were made neutral on the way out stay here as they were written.
    assert known == Merged(1, 6, 2)
    assert set(before) < set(mine.lines())
    assert merge_reviews(tmp_path / "there", mine).added == 0
    assert merge_reviews(bundle, mine).added == 0
    assert merge_reviews(copy, tmp_path / "there").added == 0


def marks(reviews: Reviews, content: str) -> review_views.Marks:
    return review_views.marks(reviews, [Subject.sample(content)])[Subject.sample(content)]


def test_a_selection_takes_what_it_needs(private: Path, tmp_path: Path) -> None:
    catalog = Catalog(Run.open(private))
    wrong = queries.ids(catalog, Filter((Is("correct", False),)))
    plain = [i for i in wrong if not i.startswith(("/", "http"))]
    summary = write_bundle(Run.open(private), tmp_path / "wrong.zip", samples=plain)
    assert (summary.samples, summary.of) == (len(plain), 300)
    assert summary.bytes == (tmp_path / "wrong.zip").stat().st_size
    open_bundle(tmp_path / "wrong.zip", tmp_path / "there")
    run = Run.open(tmp_path / "there")
    there = Catalog(run)
    assert sorted(queries.ids(there, Filter())) == sorted(plain)
    assert run.manifest.run_id != catalog.manifest.run_id
    assert run.manifest.progress.done == len(plain)
    assert f"{len(plain)} of the run's 300" in run.manifest.notices[-1]
    contents = set(there.query("SELECT content FROM samples")["content"].to_pylist())
    for table in ("attributions/gradcam", "thumbnails", "embeddings"):
        held = [
            c
            for p in run.part_paths(table)
            for c in pq.read_table(p, columns=["content"])["content"].to_pylist()
        ]
        assert set(held) == contents
        assert held
    assert pictures(there, plain) == pictures(catalog, plain)
    known = {c for p in run.part_paths("thumbnails") for c in pq.read_table(p)["content"].to_pylist()}
    assert known == contents
    assert review_views.tags(Reviews.of_run(run.path)) == [review_views.Tag("snow", len(contents))]
    assert review_views.views(Reviews.of_run(run.path)) == []
    assert "findings" not in run.manifest.parts


def pictures(catalog: Catalog, ids: list[str]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for path in catalog.run.part_paths("thumbnails"):
        images = pq.read_table(path)
        rows = catalog.query(
            "SELECT sample_id, content, thumbnail_row FROM samples WHERE thumbnail_part = $p",
            {"p": Path(path).name},
        )
        for row in rows.to_pylist():
            assert images["content"][row["thumbnail_row"]].as_py() == row["content"]
            found[row["sample_id"]] = images["image"][row["thumbnail_row"]].as_py()
    return {i: found[i] for i in ids}


def test_originals_lie_where_the_run_says(private: Path, tmp_path: Path) -> None:
    asked: list[str] = []

    def original(row: Mapping[str, Any]) -> bytes | None:
        asked.append(row["uri"])
        assert set(row) == {"sample_id", "content", "uri", "width", "height"}
        return None if len(asked) % 4 == 0 else b"\xff\xd8\xff" + row["content"].encode()

    summary = write_bundle(Run.open(private), tmp_path / "o.zip", original=original)
    assert any(uri.startswith("/mnt/") for uri in asked)
    assert len(asked) == 298
    assert summary.originals == 298 - 298 // 4
    assert summary.missing >= 298 // 4
    opened = open_bundle(tmp_path / "o.zip", tmp_path / "there")
    assert opened.originals == summary.originals
    run = Run.open(tmp_path / "there")
    root = Path(run.manifest.dataset["root"])
    assert root == tmp_path / "there" / "originals"
    rows = Catalog(run).query("SELECT content, uri FROM samples").to_pylist()
    found = {row["content"]: root / row["uri"] for row in rows if (root / row["uri"]).exists()}
    assert len(found) == summary.originals == len(listing(root))
    assert all(path.read_bytes() == b"\xff\xd8\xff" + content.encode() for content, path in found.items())
    # What was opened is bundled again, and does not say where it was opened.
    write_bundle(
        run,
        tmp_path / "again.zip",
        original=lambda row: (root / row["uri"]).read_bytes() if (root / row["uri"]).exists() else None,
    )
    assert str(tmp_path) not in everything(tmp_path / "again.zip")
    assert open_bundle(tmp_path / "again.zip", tmp_path / "again").originals == summary.originals


def test_the_same_run_gives_the_same_bytes(private: Path, bundle: Path, tmp_path: Path) -> None:
    write_bundle(Run.open(private), tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == bundle.read_bytes()


def test_what_cannot_be_bundled_leaves_nothing(private: Path, tmp_path: Path) -> None:
    run = Run.open(private)
    (tmp_path / "there.zip").write_bytes(b"mine")

    def refused(kind: type[Exception], said: str, target: Path, **more: Any) -> None:
        with pytest.raises(kind, match=said):
            write_bundle(run, target, **more)
        assert listing(tmp_path) == {"there.zip"}

    new = tmp_path / "new.zip"
    refused(BundleError, "exists already", tmp_path / "there.zip")
    refused(BundleError, "no folder", tmp_path / "no" / "x.zip")
    refused(BundleError, "1 of the selection's samples", new, samples=["no such thing"])
    refused(BundleError, "no sample", new, samples=[])

    def cancel(done: int, total: int) -> None:
        assert done <= total
        if done == 5:
            raise KeyError("cancelled")

    refused(KeyError, "cancelled", new, progress=cancel)
    assert (tmp_path / "there.zip").read_bytes() == b"mine"


def test_a_damaged_run_is_not_bundled(tmp_path: Path) -> None:
    path = make_run(tmp_path / "run", 60)
    run = Run.open(path)
    part = Path(run.part_paths("attributions/gradcam")[0])
    data = bytearray(part.read_bytes())
    data[len(data) // 3] ^= 1
    part.write_bytes(data)
    with pytest.raises(RunDamagedError):
        write_bundle(run, tmp_path / "a.zip")
    part.unlink()
    with pytest.raises(RunDamagedError):
        write_bundle(run, tmp_path / "a.zip")
    with pytest.raises(RunDamagedError):
        write_bundle(Run.open(path), tmp_path / "a.zip")
    assert listing(tmp_path) == {"run"}


def test_a_whole_disk_is_a_sentence(private: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile._ZipWriteFile, "write", full)
    with pytest.raises(GazelakeError, match="is full"):
        write_bundle(Run.open(private), tmp_path / "a.zip")
    assert listing(tmp_path) == set()


Members = list[tuple[zipfile.ZipInfo, bytes]]


def seal(path: Path) -> None:
    data = path.read_bytes()[:-SEAL_DIGITS]
    path.write_bytes(data + hashlib.sha256(data).hexdigest().encode())


def forged(bundle: Path, target: Path, change: Callable[[Members], Members], listed: bool = True) -> Path:
    """Write a bundle again with changed members; with a list and a seal that fit, unless told otherwise."""
    with zipfile.ZipFile(bundle) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist()]
        comment = archive.comment
    members = change(members)
    if listed:
        ours = [(info, data) for info, data in members if info.filename == "bundle.json"]
        contents = json.loads(ours[0][1])
        contents["members"] = {
            info.filename: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for info, data in members
            if info.filename != "bundle.json"
        }
        members = [pair for pair in members if pair not in ours] + [
            (ours[0][0], json.dumps(contents).encode())
        ]
    with zipfile.ZipFile(target, "w") as archive, pytest.MonkeyPatch.context() as patch:
        patch.setattr(zipfile.ZipFile, "_writecheck", lambda *_: None)
        for info, data in members:
            archive.writestr(info, data)
        archive.comment = comment
    seal(target)
    return target


def info(name: str, kind: int = stat.S_IFREG, packed: int = zipfile.ZIP_DEFLATED) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    made.external_attr = (kind | 0o644) << 16
    made.compress_type = packed
    return made


def added(name: str, data: bytes = b"x", **more: int) -> Callable[[Members], Members]:
    return lambda members: [*members, (info(name, **more), data)]


def edited(name: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Members], Members]:
    def edit(members: Members) -> Members:
        changed = []
        for held, data in members:
            if held.filename == name:
                value = json.loads(data)
                change(value)
                changed.append((info(held.filename), json.dumps(value).encode()))
            else:
                changed.append((info(held.filename), data))
        return changed

    return edit


def swapped(prefix: str, change: Callable[[pa.Table], pa.Table]) -> Callable[[Members], Members]:
    """Change the rows of a table, and let the manifest fit."""

    def swap(members: Members) -> Members:
        for at, (held, data) in enumerate(members):
            if held.filename.startswith(prefix):
                out = io.BytesIO()
                table = change(pq.read_table(io.BytesIO(data)))
                pq.write_table(table, out)
                members[at] = (info(held.filename, packed=zipfile.ZIP_STORED), out.getvalue())
                folder, _, name = held.filename.rpartition("/")

                def fit(
                    manifest: dict[str, Any],
                    folder: str = folder,
                    name: str = name,
                    table: pa.Table = table,
                    size: int = len(out.getvalue()),
                ) -> None:
                    for part in manifest["parts"].get(folder, []):
                        if part["name"] == name:
                            part |= {"rows": table.num_rows, "bytes": size}

                return edited("run.json", fit)(members)
        raise AssertionError(prefix)

    return swap


def with_uri(table: pa.Table, uri: str) -> pa.Table:
    at = table.schema.get_field_index("uri")
    return table.set_column(at, table.schema.field(at), pa.array([uri] * table.num_rows))


def without(name: str) -> Callable[[Members], Members]:
    return lambda members: [pair for pair in members if not pair[0].filename.startswith(name)]


def version(value: object) -> Callable[[dict[str, Any]], object]:
    return lambda data: data.update(version=value)


BOMB = bytes(60 << 20)
BAD: dict[str, tuple[Callable[[Members], Members], str]] = {
    "climbs out": (added("../evil.txt"), "outside of its directory"),
    "climbs out within": (added("samples/../../evil.txt"), "outside of its directory"),
    "climbs out backwards": (added("..\\evil.txt"), "outside of its directory"),
    "absolute": (added("/tmp/evil.txt"), "outside of its directory"),
    "drive": (added("C:/evil.txt"), "outside of its directory"),
    "symbolic link": (added("link", b"/etc/passwd", kind=stat.S_IFLNK), "a link"),
    "device": (added("device", kind=stat.S_IFCHR), "a link"),
    "directory": (added("folder/", b"", kind=stat.S_IFDIR), "a link"),
    "bomb": (added("samples/part-bomb.parquet", BOMB), "swells"),
    "unexpected": (added("evil.sh"), "belongs to no bundle"),
    "unexpected table": (added("samples/part-0.parquet"), "belongs to no bundle"),
    "unexpected original": (added("originals/evil.exe"), "belongs to no bundle"),
    "hidden": (added("samples/.part-0.parquet"), "belongs to no bundle"),
    "a database": (added("reviews.sqlite"), "belongs to no bundle"),
    "twice": (lambda members: [*members, members[0]], "twice"),
    "lacks run": (without("run.json"), "lacks"),
    "lacks reviews": (without("reviews.jsonl"), "lacks"),
    "lacks a part": (without("embeddings/"), "lacks"),
    "other packing": (added("x", packed=zipfile.ZIP_BZIP2), "a form that no bundle has"),
    "newer bundle": (edited("bundle.json", version(2)), "bundle version 2"),
    "no version": (edited("bundle.json", version(None)), "bundle version None"),
    "other schema": (edited("bundle.json", lambda d: d.update(schema_version=99)), "schema version 99"),
    "other schema of the run": (
        edited("run.json", lambda d: d.update(schema_version=99)),
        "no run that can be read",
    ),
    "other format": (edited("bundle.json", lambda d: d.update(format="x")), "was not made by Gazelake"),
    "parts elsewhere": (edited("run.json", lambda d: d["parts"].update({"../x": []})), "no run|lacks"),
    "parts named badly": (
        edited("run.json", lambda d: d["parts"]["samples"][0].update(name="../../x.parquet")),
        "no run that can be read",
    ),
    "retired": (
        edited("run.json", lambda d: d.update(retired=[{"path": "x", "at": "2024-01-01"}])),
        "no run",
    ),
    "other rows": (edited("run.json", lambda d: d["parts"]["samples"][0].update(rows=5)), "another table"),
    "no table": (
        lambda m: [(i, b"nonsense" if i.filename.startswith("embeddings") else d) for i, d in m],
        "cannot be read",
    ),
    "no column": (swapped("samples/", lambda t: t.drop_columns(["pred"])), "another table"),
    "other column": (
        swapped("thumbnails/", lambda t: t.rename_columns(["image", "content"])),
        "another table",
    ),
    "uri elsewhere": (swapped("samples/", lambda t: with_uri(t, "/etc/passwd")), "anywhere but in it"),
    "uri above": (swapped("samples/", lambda t: with_uri(t, "a/../../x.png")), "anywhere but in it"),
    "uri on the net": (swapped("samples/", lambda t: with_uri(t, "http://10.0.0.1/x")), "anywhere but in it"),
    "no review": (
        lambda m: [(i, b"{}\n" if i.filename == "reviews.jsonl" else d) for i, d in m],
        "no review",
    ),
    "endless review": (
        lambda m: [
            (
                i,
                random.Random(1).randbytes(5 << 20).replace(b"\n", b"")
                if i.filename == "reviews.jsonl"
                else d,
            )
            for i, d in m
        ],
        "too long",
    ),
    "no list": (edited("bundle.json", lambda d: d.update(members=[])), "damaged"),
}


@pytest.mark.parametrize("bad", BAD)
def test_a_bundle_that_cannot_be_trusted_is_refused_and_nothing_is_written(
    bundle: Path, tmp_path: Path, bad: str
) -> None:
    change, said = BAD[bad]
    path = forged(bundle, tmp_path / "bad.zip", change, listed=bad != "no list")
    with pytest.raises(GazelakeError, match=said) as refused:
        open_bundle(path, tmp_path / "there")
    assert isinstance(refused.value, BundleError | ReviewError)
    assert "\n" not in str(refused.value)
    assert str(refused.value).endswith(".")
    assert listing(tmp_path) == {"bad.zip"}


def test_a_forged_bundle_is_otherwise_fine(bundle: Path, tmp_path: Path) -> None:
    open_bundle(forged(bundle, tmp_path / "same.zip", lambda m: m), tmp_path / "there")
    assert Run.open(tmp_path / "there").verify() == []


@pytest.mark.parametrize(
    "rows",
    [
        {"content": ["../../evil"], "suffix": [".jpg"], "image": [b"x"]},
        {"content": ["0" * 32], "suffix": ["/../../evil"], "image": [b"x"]},
        {"content": ["0" * 32] * 2, "suffix": [".jpg"] * 2, "image": [b"x"] * 2},
        {"content": ["0" * 32], "image": [b"x"]},
    ],
    ids=str,
)
def test_an_original_that_cannot_be_trusted_is_refused(
    bundle: Path, tmp_path: Path, rows: dict[str, Any]
) -> None:
    out = io.BytesIO()
    schema = pa.schema([pa.field(k, pa.binary() if k == "image" else pa.string(), False) for k in rows])
    pq.write_table(pa.table(rows, schema=schema), out)
    path = forged(bundle, tmp_path / "bad.zip", added("originals/part-1.parquet", out.getvalue()))
    with pytest.raises(BundleError):
        open_bundle(path, tmp_path / "there")
    assert listing(tmp_path) == {"bad.zip"}


def test_what_is_announced_is_not_exceeded(bundle: Path, tmp_path: Path) -> None:
    """A directory that lies about sizes: what is read counts, not what is said."""
    path = forged(bundle, tmp_path / "bad.zip", lambda m: m)
    data = bytearray(path.read_bytes())
    at = data.find(b"PK\x01\x02")
    while zipfile.ZipFile(path).infolist() and at >= 0:
        name = data[at + 46 : at + 46 + int.from_bytes(data[at + 28 : at + 30], "little")]
        if name == b"reviews.jsonl":
            data[at + 24 : at + 28] = (10).to_bytes(4, "little")
            break
        at = data.find(b"PK\x01\x02", at + 4)
    path.write_bytes(data)
    seal(path)
    with pytest.raises(BundleError, match="damaged"):
        open_bundle(path, tmp_path / "there")
    with pytest.raises(BundleError, match="more than 0 MB"):
        open_bundle(bundle, tmp_path / "there", limit=1000)
    assert listing(tmp_path) == {"bad.zip"}


def test_files_within_files_are_refused(bundle: Path, tmp_path: Path) -> None:
    path = forged(bundle, tmp_path / "bad.zip", lambda m: m)
    data = bytearray(path.read_bytes())
    first = data.find(b"PK\x01\x02")
    second = data.find(b"PK\x01\x02", first + 4)
    data[second + 42 : second + 46] = (10).to_bytes(4, "little")
    path.write_bytes(data)
    seal(path)
    with pytest.raises(BundleError, match="within the other"):
        open_bundle(path, tmp_path / "there")


def test_any_flipped_byte_is_noticed(bundle: Path, tmp_path: Path) -> None:
    data = bundle.read_bytes()
    dice = random.Random(4)
    ends = [*range(4), *range(len(data) - 100, len(data), 7)]
    for at in [*ends, *(dice.randrange(len(data)) for _ in range(40))]:
        flipped = bytearray(data)
        flipped[at] ^= 1 << dice.randrange(8)
        (tmp_path / "bad.zip").write_bytes(flipped)
        with pytest.raises(BundleError):
            open_bundle(tmp_path / "bad.zip", tmp_path / "there")
        assert listing(tmp_path) == {"bad.zip"}


def test_a_byte_flipped_under_a_fitting_seal_is_noticed(bundle: Path, tmp_path: Path) -> None:
    """The digests of the members alone find it, too."""
    with zipfile.ZipFile(bundle) as archive:
        places = [i.header_offset + 200 for i in archive.infolist() if i.file_size > 1000]
    assert len(places) > 5
    for at in places:
        flipped = bytearray(bundle.read_bytes())
        flipped[at] ^= 4
        (tmp_path / "bad.zip").write_bytes(flipped)
        seal(tmp_path / "bad.zip")
        with pytest.raises(BundleError, match="damaged"):
            open_bundle(tmp_path / "bad.zip", tmp_path / "there")
    assert listing(tmp_path) == {"bad.zip"}


def test_other_bytes_than_the_list_says_are_noticed(bundle: Path, tmp_path: Path) -> None:
    """Where the archive's own sums fit, too."""

    def other(members: Members) -> Members:
        return [(i, d.replace(b"snow", b"hail") if i.filename == "reviews.jsonl" else d) for i, d in members]

    path = forged(bundle, tmp_path / "bad.zip", other, listed=False)
    reviews = Reviews(tmp_path / "r.sqlite")
    for read in (lambda: open_bundle(path, tmp_path / "there"), lambda: merge_reviews(path, reviews)):
        with pytest.raises(BundleError, match="damaged"):
            read()
    assert listing(tmp_path) == {"bad.zip"}


@pytest.mark.parametrize("data", [b"", b"PK", b"not a zip" * 50, b"PK\x05\x06" + bytes(18)])
def test_what_is_no_bundle_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.zip").write_bytes(data)
    for read in (
        lambda: open_bundle(tmp_path / "x.zip", tmp_path / "there"),
        lambda: merge_reviews(tmp_path / "x.zip", Reviews(tmp_path / "r.sqlite")),
    ):
        with pytest.raises(BundleError):
            read()
    assert listing(tmp_path) == {"x.zip"}


def test_half_a_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(bundle.read_bytes()[:-5000])
    with pytest.raises(BundleError, match="damaged or incomplete"):
        open_bundle(tmp_path / "x.zip", tmp_path / "there")


def test_a_target_that_is_there_stays(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    before = listing(tmp_path)
    for name in before:
        with pytest.raises(BundleError, match="exists already"):
            open_bundle(bundle, tmp_path / name)
    with pytest.raises(BundleError, match="no folder"):
        open_bundle(bundle, tmp_path / "no" / "there")
    with pytest.raises(BundleError, match="no file"):
        open_bundle(tmp_path / "no.zip", tmp_path / "there")
    assert listing(tmp_path) == before
    assert list((tmp_path / "folder").iterdir()) == []


def test_opening_can_be_cancelled(bundle: Path, tmp_path: Path) -> None:
    def cancel(done: int, total: int) -> None:
        assert 0 < done <= total
        raise KeyError

    with pytest.raises(KeyError):
        open_bundle(bundle, tmp_path / "there", progress=cancel)
    assert listing(tmp_path) == set()


def test_the_bundle_does_not_choose_where_originals_are_looked_for(bundle: Path, tmp_path: Path) -> None:
    change = edited("run.json", lambda d: d["dataset"].update(root="/etc"))
    open_bundle(forged(bundle, tmp_path / "x.zip", change), tmp_path / "there")
    assert Run.open(tmp_path / "there").manifest.dataset["root"] == ""


def test_reviews_of_a_bad_bundle_are_not_taken_in(bundle: Path, tmp_path: Path) -> None:
    def cut(members: Members) -> Members:
        return [(i, d + b"{}\n" if i.filename == "reviews.jsonl" else d) for i, d in members]

    reviews = Reviews(tmp_path / "r.sqlite")
    with pytest.raises(ReviewError):
        merge_reviews(forged(bundle, tmp_path / "bad.zip", cut), reviews)
    assert review_views.history(reviews) == []
    with pytest.raises(BundleError):
        merge_reviews(tmp_path / "nothing", reviews)
    with pytest.raises(RunNotFoundError):
        merge_reviews(bundle, tmp_path / "no run")


def test_neutral_names_differ_where_names_do() -> None:
    privacy = Privacy(
        Manifest("m", dataset={"root": "s3://bucket/set", "source": "s3://bucket/set"}), Path("/r/x")
    )
    assert privacy.name("husky/1.jpg") == "husky/1.jpg"
    assert privacy.name("s3://bucket/set/husky/1.jpg") == "husky/1.jpg"
    assert privacy.name("s3://bucket/other/1.jpg") != privacy.name("s3://bucket/another/1.jpg")
    assert privacy.name("https://h/i?id=1") != privacy.name("https://h/i?id=2")
    assert privacy.name("s3://bucket/set/a?sig=1").endswith("/a")
    assert privacy.name("s3://bucket/set/../a").startswith("external/")
    assert (
        privacy.text("at s3://bucket/set/husky/1.jpg, https://u:p@h/x?sig=1#f.")
        == "at husky/1.jpg, https://h/x"
    )
    assert privacy.text("wolf/husky at 1/2 of </b> http://h/a/b") == "wolf/husky at 1/2 of </b> http://h/a/b"


def test_a_painted_mask_survives() -> None:
    privacy = Privacy(Manifest("m", dataset={"root": "/data/set"}), Path("/r/x"))
    mask = {"v": 1, "all": [["mass", {"mask": [8, 8, "/wD/aaa/bbb+/ccc/ddd=="]}, 0.5]]}
    near = {"v": 1, "all": [["in", "meta.path", ["/data/set/a.jpg", "/other/b.jpg"]]]}
    for value, same in ((mask, True), (near, False)):
        filter_ = json.dumps(value, separators=(",", ":"))
        url = "/browse?" + urlencode({"filter": filter_, "run": "demo"})
        about = Subject("selection", filter_)
        event = Event("0" * 32, "Ann", 1, "view", {"url": url}, (Subject("view", "1" * 32),))
        kept = privacy.event(event).payload["url"]
        neutral = privacy.event(Event("0" * 32, "Ann", 1, "tag", {"tag": "x"}, (about,))).subjects[0].key
        assert (kept == url) is (neutral == filter_) is same
        assert parse_qs(kept.partition("?")[2]) == {"filter": [neutral], "run": ["demo"]}
        assert "/other/" not in neutral
        assert privacy.json_texts(pa.chunked_array([[filter_]]))[0].as_py() == filter_ or not same


def test_the_page_says_what_a_bundle_is(bundle: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "cache.md").read_text(encoding="utf-8")
    text = page.partition("\n## Bundles\n")[2].partition("\n## ")[0]
    with zipfile.ZipFile(bundle) as archive:
        contents = json.loads(archive.read("bundle.json"))
        assert archive.namelist()[-1] == "bundle.json"
    for key in contents:
        assert f"`{key}`" in text, key
    assert f"{MAX_RATIO} to 1" in text
    assert MAX_BYTES == 1 << 40
