"""Which rows of a run's tables belong to a selection, and how they read elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from cache.bundle_privacy import PLACE, Privacy
from cache.errors import BundleError
from cache.run import Run
from cache.schema import CONTENT_HEX

ORIGINAL_SCHEMA = pa.schema(
    [
        pa.field("content", pa.string(), False),
        pa.field("suffix", pa.string(), False),
        pa.field("image", pa.binary(), False),
    ]
)
SUFFIXES = {
    b"\xff\xd8\xff": ".jpg",
    b"\x89PNG": ".png",
    b"GIF8": ".gif",
    b"RIFF": ".webp",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
    b"BM": ".bmp",
}
"""What a file of pixels begins with, and how its name then ends."""
OTHER_SUFFIX = ".img"
NAMED = ("sample_id", "uri")
"""Columns whose texts are places, or names made of them."""
KEYS = ("content", "record", "thumbnail_part", "stage", "kind", "suffix")
"""Columns of texts that the engine makes up; any other may say where something lies."""
JSON = "json"
"""Column of texts that are JSON."""


@dataclass
class Chosen:
    """The samples of a bundle.

    Attributes:
        everything: Whether they are the whole run.
        wanted: Their ids; None for the whole run.
        contents: Content keys of their images, distinct.
        thumbnails: By part, the rows that are needed.
        count: How many samples.
        plain: Ids of all samples of the run that look like no place, where some do.
        placed: By part of thumbnails, the number of the new part, the row within it of the first, and the rows taken.
        given: Contents whose original was asked for, with the ending of its name; "" where there was none.
    """

    everything: bool
    wanted: pa.Array | None
    contents: pa.Array
    thumbnails: dict[str, NDArray[np.int64]]
    count: int
    plain: set[str]
    placed: dict[str, tuple[int, int, NDArray[np.int64]]] = field(default_factory=dict)
    given: dict[str, str] = field(default_factory=dict)

    def known(self, contents: Sequence[str]) -> list[str]:
        """Return those of some content keys that belong to the bundle."""
        some = pa.array(contents, pa.string())
        kept: list[str] = some.filter(pc.is_in(some, self.contents)).to_pylist()
        return kept

    def ids(self) -> list[str]:
        """Return the ids of a selection, sorted."""
        return [] if self.wanted is None else sorted(self.wanted.to_pylist())

    def place(self, table: str, part: str, rows: Rows, number: int, first: int) -> None:
        """Remember where rows of a part of thumbnails go: to which new part, and from which row on."""
        if table == "thumbnails":
            self.placed[part] = number, first, rows.taken

    def pointed(self, samples: pa.Table, names: Sequence[str]) -> pa.Table:
        """Let samples point to where their thumbnails lie in the bundle.

        Raises:
            BundleError: A thumbnail is missing from the run.
        """
        parts, at = [], []
        olds, rows = (samples[c].to_pylist() for c in ("thumbnail_part", "thumbnail_row"))
        for old, row in zip(olds, rows, strict=True):
            number, first, taken = self.placed.get(old, (0, 0, np.zeros(0, np.int64)))
            found = int(np.searchsorted(taken, row))
            if found >= len(taken) or taken[found] != row:
                raise BundleError(
                    "A sample's thumbnail is missing from the run: run the same `explain` command again, then make the bundle."
                )
            parts.append(names[number])
            at.append(first + found)
        for column, values in (("thumbnail_part", parts), ("thumbnail_row", at)):
            place = samples.schema.get_field_index(column)
            declared = samples.schema.field(place)
            samples = samples.set_column(place, declared, pa.array(values, declared.type))
        return samples


@dataclass(frozen=True)
class Rows:
    """The rows of one part that go into a bundle.

    Attributes:
        taken: Their positions, ascending.
        whole: All of them go, and nothing in them is changed: the file goes as it is.
    """

    taken: NDArray[np.int64]
    whole: bool

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self.taken)

    @classmethod
    def of(cls, file: pq.ParquetFile, table: str, part: str, chosen: Chosen) -> Rows:
        """Find the rows of an opened part that a bundle needs."""
        names = file.schema_arrow.names
        if table == "thumbnails":
            taken = chosen.thumbnails.get(part, np.zeros(0, np.int64))
        elif "sample_id" in names:
            mask = None if chosen.wanted is None else _held(file, "sample_id", chosen.wanted)
            taken = np.arange(file.metadata.num_rows) if mask is None else np.flatnonzero(mask)
        elif "content" in names:
            taken = np.flatnonzero(_held(file, "content", chosen.contents))
        else:
            # What is said of all samples together, such as findings, does not hold of some of them.
            taken = np.arange(file.metadata.num_rows if chosen.everything else 0)
        touched = any(_is_scrubbed(field_) for field_ in file.schema_arrow)
        described = set(file.metadata.metadata or {}) - {b"ARROW:schema"}
        everything = len(taken) == file.metadata.num_rows > 0
        return cls(taken, everything and not touched and not described)

    def schema(self, file: pq.ParquetFile) -> pa.Schema:
        """Return the schema to write them with: without metadata, which may say where things lay."""
        return pa.schema([f.remove_metadata() for f in file.schema_arrow])


def choose(run: Run, samples: Sequence[str] | None) -> Chosen:
    """Find what a selection needs of a run.

    Raises:
        BundleError: The run is empty, or lacks a sample of the selection.
    """
    wanted = None if samples is None else pa.array(sorted(set(samples)), pa.string())
    contents, parts, rows = [], [], []
    count, places, plain = 0, False, []
    for path in run.part_paths("samples"):
        columns = ["sample_id", "content", "thumbnail_part", "thumbnail_row"]
        with pq.ParquetFile(path) as file:
            table = file.read(columns=columns, use_threads=False)
        looks = pc.match_substring_regex(table["sample_id"], PLACE)
        places = places or bool(pc.any(looks).as_py())
        plain.append(table["sample_id"].filter(pc.invert(looks)))
        if wanted is not None:
            table = table.filter(pc.is_in(table["sample_id"], wanted))
        count += table.num_rows
        contents.append(table["content"].unique())
        parts.append(table["thumbnail_part"].combine_chunks())
        rows.append(table["thumbnail_row"].to_numpy())
    if wanted is not None and count < len(wanted):
        raise BundleError(
            f"{len(wanted) - count:,} of the selection's samples are not in the run: reload the page, then make the bundle."
        )
    if not count:
        raise BundleError("There is no sample to put into the bundle: choose some.")
    needed: dict[str, list[NDArray[np.int64]]] = {}
    for names, positions in zip(parts, rows, strict=True):
        for name in pc.unique(names).to_pylist():
            needed.setdefault(name, []).append(
                positions[pc.equal(names, name).to_numpy(zero_copy_only=False)]
            )
    return Chosen(
        samples is None,
        wanted,
        pa.chunked_array(contents, pa.string()).unique() if len(contents) > 1 else contents[0],
        {name: np.unique(np.concatenate(at)).astype(np.int64) for name, at in needed.items()},
        count,
        {str(one) for ids in plain for one in ids.to_pylist()} if places else set(),
    )


def rewritten(
    file: pq.ParquetFile, rows: Rows, chosen: Chosen, privacy: Privacy
) -> Iterator[tuple[pa.Table, pa.Table]]:
    """Yield the rows that go, a row group at a time: as they are, and without what says where things lie."""
    privacy.taken = chosen.plain
    first = 0
    for number in range(file.num_row_groups):
        size = file.metadata.row_group(number).num_rows
        low, high = np.searchsorted(rows.taken, [first, first + size])
        if low < high:
            group = file.read_row_group(number, use_threads=False).replace_schema_metadata(None)
            group = group.take(pa.array(rows.taken[low:high] - first))
            yield group, _neutral(group, rows.schema(file), privacy)
        first += size


def original_rows(
    samples: pa.Table,
    original: Callable[[Mapping[str, Any]], bytes | None],
    chosen: Chosen,
) -> Iterator[tuple[str | None, pa.Table | None]]:
    """Yield the uri of each sample's original in the bundle, with its row where this is its first sample.

    Args:
        samples: Rows of the run.
        original: Returns the bytes of a sample's original; None where there is none, and then the uri is None too.
        chosen: Remembers which images have theirs.
    """
    columns = ["sample_id", "content", "uri", "width", "height"]
    for row in samples.select(columns).to_pylist():
        content, image = row["content"], None
        if content not in chosen.given:
            data = original(row)
            suffix = ""
            if data:
                ends = (end for start, end in SUFFIXES.items() if data.startswith(start))
                suffix = next(ends, OTHER_SUFFIX)
                columns_of = {"content": [content], "suffix": [suffix], "image": [data]}
                image = pa.table(columns_of, schema=ORIGINAL_SCHEMA)
            chosen.given[content] = suffix
        suffix = chosen.given[content]
        yield (f"{content}{suffix}" if suffix else None), image


def _held(file: pq.ParquetFile, column: str, values: pa.Array) -> NDArray[np.bool_]:
    held = file.read(columns=[column], use_threads=False)[column]
    mask: NDArray[np.bool_] = pc.is_in(held, values).to_numpy()
    return mask


def _is_scrubbed(declared: pa.Field) -> bool:
    kind = declared.type
    texts = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_nested(kind)
    numbers = pa.types.is_nested(kind) and pa.types.is_primitive(getattr(kind, "value_type", pa.string()))
    return texts and not numbers and declared.name not in KEYS


def _neutral(rows: pa.Table, schema: pa.Schema, privacy: Privacy) -> pa.Table:
    for at, declared in enumerate(schema):
        if _is_scrubbed(declared):
            change = (
                privacy.names if declared.name in NAMED
                else privacy.json_texts if declared.name == JSON
                else privacy.texts
            )  # fmt: skip
            rows = rows.set_column(at, declared, change(rows[declared.name]))
    return rows.cast(schema)


def content_keys(contents: Iterable[str]) -> bool:
    """Tell whether texts are content keys, which may stand in a file's name."""
    digits = set("0123456789abcdef")
    return all(len(key) == CONTENT_HEX and set(key) <= digits for key in contents)
