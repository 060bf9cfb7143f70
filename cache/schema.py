"""What a run holds on disk: its tables, their columns, and the fields that people filter and sort by.

The page ``docs/cache.md`` says the same in prose; a test holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from itertools import combinations
from typing import Any, Literal

import pyarrow as pa

SCHEMA_VERSION = 1
GRID = 14
"""Rows and columns of the grid on which attributions of any resolution are measured."""
MASK_SIZE = 56
"""Rows and columns of a stored object mask, over the model's view."""
PROJECTION_SIZE = 64
"""Dimensions of the random projections that similarity search runs on."""
PART_ROWS = 8_000
"""Rows that a compacted part holds."""
THUMBNAIL_SIZE = 192
"""Longest side of a thumbnail in pixels; smaller views are kept as they are."""
THUMBNAIL_GROUP_ROWS = 128
"""Rows of a row group of thumbnails, small so that one page of a gallery reads little."""
CONTENT_HEX = 32
"""Length of a content key: BLAKE2b with 16 bytes, in hexadecimal."""

Direction = Literal["higher", "lower", "none"]
"""Which end of a field tends to deserve a look: high values, low values, or neither."""


@dataclass(frozen=True)
class Column:
    """One column of a table on disk."""

    name: str
    type: pa.DataType
    description: str
    nullable: bool = False


@dataclass(frozen=True)
class Field:
    """A number or a text that samples are filtered, sorted and described by.

    Attributes:
        name: Column name; statistics of attributions are addressed together with a method and a target.
        title: What people read.
        unit: Unit of the value, ``""`` where it has none.
        low: Smallest value possible, None where unbounded.
        high: Largest value possible, None where unbounded.
        direction: Which end deserves a look.
        description: One sentence: what it is.
        formula: How it is computed, in plain notation.
        suggests: One sentence: what a high value suggests, or a low one where that is the end that deserves a look.
    """

    name: str
    title: str
    unit: str
    low: float | None
    high: float | None
    direction: Direction
    description: str
    formula: str = ""
    suggests: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the plain dictionary that the manifest stores."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Field:
        """Read a field from the manifest, ignoring keys of later minor versions."""
        known = {f.name for f in fields(cls)}
        return cls(**{k: v for k, v in data.items() if k in known})


SAMPLE_COLUMNS = (
    Column(
        "sample_id",
        pa.string(),
        "stable, readable identity: the path below the dataset's root, or the table's id",
    ),
    Column(
        "content", pa.string(), "BLAKE2b-128 of the image's bytes (and of its mask or boxes), hexadecimal"
    ),
    Column(
        "record",
        pa.string(),
        "BLAKE2b-64 of the row's uri, split, label and metadata: tells whether the row changed",
    ),
    Column("uri", pa.string(), "where the original lies: relative to the dataset's root, or a URL"),
    Column("split", pa.string(), "the dataset's split, where it names one", nullable=True),
    Column("label", pa.int32(), "index of the true class among the model's outputs", nullable=True),
    Column("pred", pa.int32(), "index of the predicted class"),
    Column("correct", pa.bool_(), "whether pred equals label", nullable=True),
    Column("confidence", pa.float32(), "probability of the predicted class"),
    Column("margin", pa.float32(), "probability of the predicted class minus that of the runner-up"),
    Column(
        "entropy",
        pa.float32(),
        "entropy of the predicted distribution divided by the logarithm of the class count",
    ),
    Column("loss", pa.float32(), "cross-entropy: −ln of the true class's probability", nullable=True),
    Column(
        "top_classes", pa.list_(pa.int32()), "indices of the five most probable classes, most probable first"
    ),
    Column("top_probabilities", pa.list_(pa.float32()), "their probabilities"),
    Column("width", pa.int32(), "width of the upright original in pixels"),
    Column("height", pa.int32(), "height of the upright original in pixels"),
    Column("crop_x0", pa.float32(), "left edge of the crop the model saw, in pixels of the upright original"),
    Column("crop_y0", pa.float32(), "its upper edge"),
    Column("crop_x1", pa.float32(), "its right edge"),
    Column("crop_y1", pa.float32(), "its lower edge"),
    Column(
        "thumbnail_part", pa.string(), "file name of the part of `thumbnails` that holds the model's view"
    ),
    Column("thumbnail_row", pa.int32(), "its row within that part"),
    Column(
        "mask",
        pa.binary(),
        "object mask over the model's view, 56×56 bits, row-major, packed big-endian",
        nullable=True,
    ),
    Column(
        "boxes",
        pa.list_(pa.float32()),
        "object boxes over the model's view: x0, y0, x1, y1 in fractions, flattened",
        nullable=True,
    ),
)
"""Fixed columns of `samples`; image statistics (float32) and ``meta.*`` columns (any scalar type) follow them."""

THUMBNAIL_COLUMNS = (
    Column("content", pa.string(), "content key of the image"),
    Column("image", pa.binary(), "WebP of the model's view, longest side at most 192 pixels"),
)

ATTRIBUTION_COLUMNS = (
    Column("content", pa.string(), "content key of the image"),
    Column("target", pa.int32(), "index of the class that is explained"),
    Column(
        "degenerate", pa.bool_(), "the map has no positive mass or is not finite: shares and grid are NULL"
    ),
    Column("height", pa.int16(), "rows of the map"),
    Column("width", pa.int16(), "columns of the map"),
    Column("scale", pa.float32(), "the map is values × scale"),
    Column("map", pa.binary(), "values: float16, little-endian, row-major, largest magnitude 1"),
)
"""Fixed columns of an attribution table; the statistics (float32) and the grid's corners (float32) follow them."""

ERROR_COLUMNS = (
    Column("sample_id", pa.string(), "identity of the sample that could not be explained"),
    Column("uri", pa.string(), "where its original should be"),
    Column("label", pa.int32(), "index of its true class", nullable=True),
    Column("stage", pa.string(), "what failed: read, decode, predict or explain"),
    Column(
        "kind",
        pa.string(),
        "gone, unreadable, empty, truncated, not_an_image, too_large, not_finite, lost, out_of_memory, other",
    ),
    Column("message", pa.string(), "one sentence for a person"),
)


AGREEMENT = "agreement"
"""Table of the rank correlations between methods, and the statistic of a map that is their mean."""

AGREEMENT_COLUMNS = (
    Column("content", pa.string(), "content key of the image"),
    Column("target", pa.int32(), "index of the class that is explained"),
)
"""Fixed columns of `agreement`; one nullable float32 column a pair of methods follows them."""


FINDINGS = "findings"
"""Table of what discovery and verification wrote."""
GROUPS = "groups"
"""Table of clusters; a part's key is the version that filters name."""
PROJECTIONS = "projections"
"""Table of 2-D maps of features; a part's key is the version that filters name."""

FINDING_COLUMNS = (
    Column("rank", pa.int32(), "place in the list, from 1; 0 for the row that holds the list's notices"),
    Column("kind", pa.string(), "where, what or who; about for the row that holds the list's notices"),
    Column("class", pa.int32(), "index of the predicted class that the shortcut leads to", nullable=True),
    Column("json", pa.string(), "the finding as `findings --json` prints it"),
)

GROUP_COLUMNS = (
    Column("content", pa.string(), "content key of the image"),
    Column("group", pa.int32(), "number of its group within the version; images of no group have no row"),
)

PROJECTION_COLUMNS = (
    Column("content", pa.string(), "content key of the image"),
    Column("x", pa.float32(), "place on the map, across: 0 to 1"),
    Column("y", pa.float32(), "place on the map, upwards: 0 to 1"),
)


def pair_name(first: str, second: str) -> str:
    """Name the column of `agreement` that belongs to two methods."""
    return "__".join(sorted((first, second)))


def agreement_schema(methods: Iterable[str]) -> pa.Schema:
    """Return the schema of `agreement` for the methods of a run."""
    return arrow_schema(AGREEMENT_COLUMNS, [pair_name(a, b) for a, b in combinations(sorted(methods), 2)])


def embedding_columns(penultimate: int, attended: int) -> tuple[Column, ...]:
    """Return the columns of `embeddings` for feature vectors of the given lengths."""

    def vector(size: int) -> pa.DataType:
        return pa.list_(pa.float16(), size)

    return (
        Column("content", pa.string(), "content key of the image"),
        Column("penultimate", vector(penultimate), "input of the network's last linear layer"),
        Column(
            "attended",
            vector(attended),
            "activations of the target layer averaged under the default method's map",
            True,
        ),
        Column(
            "penultimate_projection",
            vector(PROJECTION_SIZE),
            "random projection of the unit-length penultimate vector",
        ),
        Column(
            "attended_projection",
            vector(PROJECTION_SIZE),
            "random projection of the unit-length attended vector",
            True,
        ),
    )


def corner_name(row: int, column: int) -> str:
    """Name the column that holds the mass above and left of a grid corner (1 to 14 each way)."""
    return f"sat_{row:02d}_{column:02d}"


CORNERS: tuple[str, ...] = tuple(corner_name(r, c) for r in range(1, GRID + 1) for c in range(1, GRID + 1))
"""The 196 summed-area columns, row by row: ``sat_RR_CC`` = Σ p over the first RR rows and CC columns."""


def arrow_schema(columns: Iterable[Column], floats: Iterable[str] = ()) -> pa.Schema:
    """Return the Arrow schema of fixed columns followed by nullable float32 columns."""
    fixed = [pa.field(c.name, c.type, c.nullable) for c in columns]
    return pa.schema(fixed + [pa.field(name, pa.float32(), True) for name in floats])


def attribution_schema(statistics: Iterable[str], extras: Iterable[Column] = ()) -> pa.Schema:
    """Return the schema of ``attributions/METHOD`` for the given statistic names and a method's own columns."""
    fixed = (*ATTRIBUTION_COLUMNS, *extras)
    return arrow_schema(fixed, (*statistics, *CORNERS))


SAMPLE_FIELDS = (
    Field(
        "confidence",
        "Confidence",
        "",
        0,
        1,
        "none",
        "Probability the model gives its prediction.",
        "max softmax",
        "A high value suggests that the model is sure, rightly or not.",
    ),
    Field(
        "margin",
        "Margin",
        "",
        0,
        1,
        "lower",
        "Lead of the predicted class over the runner-up.",
        "p1 − p2",
        "A low value suggests that the model is torn, a high one that it sees no second candidate.",
    ),
    Field(
        "entropy",
        "Prediction entropy",
        "",
        0,
        1,
        "higher",
        "How spread the prediction is over the classes.",
        "−Σ p ln p / ln K",
        "A high value suggests a guess: 1 is all classes alike.",
    ),
    Field(
        "loss",
        "Loss",
        "nats",
        0,
        None,
        "higher",
        "Cross-entropy of the true class.",
        "−ln p(label)",
        "A high value suggests a confident mistake, or a wrong label.",
    ),
    Field(
        "width",
        "Width",
        "px",
        1,
        None,
        "none",
        "Width of the original.",
        "",
        "A high value is a large original.",
    ),
    Field(
        "height",
        "Height",
        "px",
        1,
        None,
        "none",
        "Height of the original.",
        "",
        "A high value is a large original.",
    ),
)
"""Numbers every sample has, besides its image statistics and its metadata."""

META_PREFIX = "meta."
TARGET_PRED = "pred"
TARGET_TRUE = "true"


def table_of_method(method: str) -> str:
    """Return the table (and folder below the run) that holds a method's attributions."""
    return f"attributions/{method}"
