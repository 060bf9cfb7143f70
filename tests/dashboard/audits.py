"""Audits to share: a run with findings, reviews and saved views, whose every text says where something lies."""

from __future__ import annotations

import io
import math
from pathlib import Path
from urllib.parse import urlencode

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from cache.catalog import Catalog
from cache.filters import Filter, Is, OneOf, RegionMass
from cache.findings import Finding, Findings, Rate, store_findings
from cache.queries import ids
from cache.regions import Region
from cache.review_events import Subject
from cache.reviews import Reviews
from cache.run import Run
from cache.writer import RunWriter
from tests.synthetic import make_run

HOSTILE = "<img src=x onerror=\"document.title='owned'\">"
SIGNED = "https://key:secret@bucket.example/set/a.jpg?X-Amz-Signature=abc123&x=1"
OPEN = "https://arxiv.org/abs/1610.02391"
SECRETS = (
    "my data", "/mnt/", "/home/", "/root/", "secret@", "Signature", "abc123", "C:\\Users", "/var/log", "file:/",
    "../outside", "Camera Maker",
)  # fmt: skip
"""What nothing that is shared may say; the folder of the run besides."""
CORNER = Filter((OneOf("pred", ("fox",)), RegionMass(Region.box(0, 0.7, 0.3, 1), low=0.2)))


def make_audit(base: Path, samples: int = 120) -> Path:
    """Write the run and return its directory, which lies below ``base``."""
    root = base / "my data" / "animals"
    run = make_run(base / "runs" / "audit", samples, classes=("wolf", HOSTILE, "fox", "cat"), seed=3)
    with RunWriter(run) as writer:
        rows = pa.concat_tables([pq.read_table(path) for path in Run.open(run).part_paths("samples")])
        names = rows["sample_id"].to_pylist()
        names[:3] = [f"{root}/{names[0]}", "/mnt/private disk/ann/9.jpg", SIGNED]
        uris = [*names]
        uris[5] = "../outside.jpg"
        for name, values in (("sample_id", names), ("uri", uris)):
            at = rows.schema.get_field_index(name)
            rows = rows.set_column(at, rows.schema.field(at), pa.array(values))
        thumbnails = pa.concat_tables(
            [pq.read_table(path) for path in Run.open(run).part_paths("thumbnails")]
        )
        images = [with_exif(image) for image in thumbnails["image"].to_pylist()]
        at = thumbnails.schema.get_field_index("image")
        thumbnails = thumbnails.set_column(at, thumbnails.schema.field(at), pa.array(images))
        old = [(t, p.name) for t in ("samples", "thumbnails") for p in writer.manifest.parts[t]]
        part, first = writer.append("thumbnails", thumbnails)
        place = {content: first + i for i, content in enumerate(thumbnails["content"].to_pylist())}
        for name, values in (
            ("thumbnail_part", [part] * rows.num_rows),
            ("thumbnail_row", [place[content] for content in rows["content"].to_pylist()]),
        ):
            at = rows.schema.get_field_index(name)
            rows = rows.set_column(at, rows.schema.field(at), pa.array(values, rows.schema.field(at).type))
        writer.append("samples", rows)
        manifest = writer.manifest
        manifest.name = f"Audit of {root}"
        manifest.dataset = {
            "source": str(root), "root": str(root), "kind": "folder", "config": {"data": str(root)}
        }  # fmt: skip
        manifest.model["weights"] = "/home/ann/weights/best.pt"
        manifest.notices = [f"3 files below {root} are empty.", f"Described in {OPEN}, cached at {SIGNED}."]
        manifest.history = [
            {"command": f"python -m engine explain --data '{root}' --out {run}", "finished": "2024-01-01"}
        ]
        manifest.methods["gradcam"] |= {"reference": OPEN, "parameters": {"masks": "/home/ann/masks.npy"}}
        writer.publish(drop=old)
    catalog = Catalog(Run.open(run))
    with RunWriter(run) as writer:
        found = tuple(_finding(rank, catalog, root) for rank in (1, 2))
        store_findings(writer, Findings(found, (f"Half of {root} has no mask.",)))
    _review(run, rows["content"].to_pylist(), root)
    return run


def with_exif(image: bytes) -> bytes:
    """Return an image with a camera's words in it."""
    exif = Image.Exif()
    exif[0x010F] = "Camera Maker"
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(image)) as opened:
        opened.save(buffer, opened.format, exif=exif)
    return buffer.getvalue()


def _finding(rank: int, catalog: Catalog, root: Path) -> Finding:
    chosen = CORNER if rank == 1 else Filter((OneOf("pred", ("wolf",)),))
    samples = ids(catalog, chosen)
    return Finding(
        rank=rank,
        kind="where" if rank == 1 else "who",
        class_index=2 if rank == 1 else 0,
        title="Predicted fox, looking at the lower left corner"
        if rank == 1
        else f"Like {root}/a.jpg {HOSTILE}",
        box=(0.0, 0.7, 0.3, 1.0) if rank == 1 else None,
        filter=chosen,
        sample_ids=tuple(samples),
        n=len(samples),
        effect=0.4 if rank == 1 else None,
        ci=(0.2, 0.6) if rank == 1 else None,
        p_value=0.001,
        q_value=0.002 if rank == 1 else None,
        likeness=0.9,
        outside_object=None,
        property=None,
        evidence={"mass": 0.5, "odd": math.nan},
        deletion=Rate(0.7, 0.1, 40, 0.4, 0.8) if rank == 1 else None,
        transplant=Rate(0.5, 0.05, 80, 0.3, 0.6, 0.1, 0.2, 0.5) if rank == 1 else None,
        verdict="shortcut" if rank == 1 else "untested",
        reasons=(f"Measured below {root}.",) if rank == 1 else (),
    )


def _review(run: Path, contents: list[str], root: Path) -> None:
    reviews = Reviews.of_run(run)
    reviews.tag("Ann", [Subject.sample(content) for content in contents[:4]], "snow & ice")
    reviews.note(
        "Ann", [Subject.sample(contents[0])], f"see {root}/x.jpg and /home/ann/z/q.jpg {HOSTILE}\nمرحبا 🦊"
    )
    reviews.judge(HOSTILE, [Subject.sample(contents[1])], "wrong label", 2, "fox")
    wrong = Filter((Is("correct", False),))
    reviews.note("Bo", [Subject.selection(wrong)], "Ask for better labels.")
    link = urlencode(
        {"run": "audit", "filter": wrong.to_param(), "method": "layercam", "sort": "-confidence"}
    )
    reviews.save_view("Ann", name="Second", url=f"/browse?{link}", description=f"below {root}", order=2)
    reviews.save_view("Ann", name=f"First {HOSTILE}", url="/browse", order=1)
    other = urlencode({"filter": '{"v":1,"all":[["in","pred",["zebra"]]]}'})
    reviews.save_view("Bo", name="Elsewhere", url=f"/browse?{other}", order=3)
