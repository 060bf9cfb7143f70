"""Reading tables of images: which column is what, and columns brought to the types that a run stores."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from cache.errors import DatasetError
from engine.files import ReadError, read_bytes

PATH_COLUMNS = (
    "path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img", "img_path",
    "uri", "url",
)  # fmt: skip
LABEL_COLUMNS = ("label", "class", "class_name", "category", "target")
ID_COLUMNS = ("sample_id", "id", "image_id")
SPLIT_COLUMNS = ("split", "subset")
MASK_COLUMNS = ("mask", "mask_path", "mask_file")
BOX_COLUMNS = (("x0", "y0", "x1", "y1"), ("xmin", "ymin", "xmax", "ymax"), ("left", "top", "right", "bottom"))
BOXES_COLUMN = "boxes"
"""Column of several boxes an image: lists of numbers, or text of numbers."""
NULLS = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None")
"""Words of a CSV that mean that a metadata value is missing; paths, labels and ids are missing only when empty."""


def find_column(
    columns: Sequence[str], names: Iterable[str], wanted: str | None, role: str, spec: str
) -> str | None:
    """Return the column that plays a role: the one asked for, else the first of the usual names, in any case.

    Raises:
        DatasetError: the column asked for does not exist.
    """
    if wanted is not None:
        if wanted in columns:
            return wanted
        raise DatasetError(
            f"The table {spec} has no column {wanted!r} for its {role}: its columns are {_listed(columns)}."
        )
    by_lower = {name.strip().lower(): name for name in reversed(columns)}
    return next((by_lower[name] for name in names if name in by_lower), None)


def read_table(spec: str, text_columns: Iterable[Sequence[str | None]] = ()) -> tuple[pa.Table, list[str]]:
    """Return a CSV, TSV or Parquet table and its column names.

    Args:
        spec: Path or URL; a CSV may be compressed (.gz).
        text_columns: The usual names of columns of a CSV that are read as text, whatever they look like.

    Raises:
        DatasetError: missing, unreadable, malformed, or with two columns of one name.
    """
    try:
        data = read_bytes(spec)
    except ReadError as error:
        if error.kind == "gone":
            raise DatasetError(f"There is no table at {spec}: check the path.") from error
        raise DatasetError(f"The table {spec} cannot be used: {error.message.rstrip('.')}.") from error
    try:
        if spec.lower().endswith((".parquet", ".pq")):
            table = pa.parquet.read_table(io.BytesIO(data))
        else:
            table = _read_csv(data, spec, {name for names in text_columns for name in names if name})
    except (pa.ArrowException, csv.Error, OSError, EOFError, zlib.error) as error:
        reason = str(error).splitlines()[0][:160].rstrip(".") if str(error) else type(error).__name__
        raise DatasetError(f"The table {spec} cannot be read: {reason}; mend or export it again.") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"The table {spec} is not UTF-8 text: save it in that encoding.") from error
    names = table.column_names
    seen: dict[str, str] = {}
    for name in names:
        if name.lower() in seen:
            raise DatasetError(
                f"The table {spec} has two columns that differ at most in case, {seen[name.lower()]!r} and {name!r}: "
                "rename one."
            )
        seen[name.lower()] = name
    if not table.num_rows:
        raise DatasetError(f"The table {spec} has no rows: give one with a row an image.")
    return table, names


_READ = pa.csv.ReadOptions(use_threads=False)
"""One thread: each of several keeps buffers of its own, and a table of a million rows is read in a second anyway."""


def _read_csv(data: bytes, spec: str, text_names: set[str]) -> pa.Table:
    if spec.lower().endswith(".gz"):
        data = gzip.decompress(data)
    first = data.split(b"\n", 1)[0].decode("utf-8-sig").strip("\r")
    delimiter = "\t" if "\t" in first else ";" if ";" in first and "," not in first else ","
    header = next(csv.reader([first], delimiter=delimiter), [])
    text = [name for name in header if name.strip().lower() in {t.lower() for t in text_names}]
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise DatasetError(f"The table {spec} has two columns called {twice!r}: rename one.")
    parse = pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True)
    # two passes: an empty class is missing, but a class may well be called "null" or "NA"
    strict = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(text, pa.string()),
        include_columns=text,
        null_values=[""],
        strings_can_be_null=True,
    )
    others = [name for name in header if name not in text]
    loose = pa.csv.ConvertOptions(
        include_columns=others, null_values=list(NULLS), strings_can_be_null=True, timestamp_parsers=[pa.csv.ISO8601]
    )  # fmt: skip
    columns: dict[str, Any] = {}
    for convert, names in ((strict, text), (loose, others)):
        if names:
            read = pa.csv.read_csv(
                pa.BufferReader(data), read_options=_READ, parse_options=parse, convert_options=convert
            )
            columns.update({name: read.column(name) for name in names})
    return pa.table({name: columns[name] for name in header})


def text_column(table: pa.Table, name: str, spec: str) -> Any:
    """Return a column of a table as text (raises DatasetError where its values are no scalars)."""
    try:
        return as_text(table.column(name))
    except pa.ArrowException as error:
        raise DatasetError(
            f"The column {name!r} of {spec} holds {table.column(name).type} instead of text or numbers: "
            "rename it, or say which columns to use with --path-column, --label-column and --id-column."
        ) from error


def as_text(column: Any) -> Any:
    """Return a column as one string array; numbers in their shortest form, missing and empty values NULL."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pa.types.is_floating(array.type):
        array = pa.array([None if v is None else f"{v:.15g}" for v in array.to_pylist()], pa.string())
    array = pc.cast(array, pa.string())
    return pc.if_else(pc.equal(array, ""), None, array)


def label_values(column: Any, spec: str, *, label_names: bool, typed: bool) -> tuple[Any, bool]:
    """Return labels as strings and whether they are output indices.

    They are when a typed column (Parquet) holds integers, or when every value of an untyped one (CSV) is written as a
    whole number without leading zeros. Whole floating point (1.0, as columns with gaps get) counts as integers.

    Raises:
        DatasetError: the labels are fractions.
    """
    labels = as_text(column)
    if label_names:
        return labels, False
    if not typed:
        whole = pc.match_substring_regex(labels, r"^(-?[1-9][0-9]*|0)(\.0+)?$")
        if labels.null_count == len(labels) or not pc.all(whole).as_py():
            return labels, False
        return pc.replace_substring_regex(labels, r"\.0+$", ""), True
    if pa.types.is_floating(column.type):
        odd = next((v for v in labels.to_pylist() if v is not None and not re.fullmatch(r"-?\d+", v)), None)
        if odd is not None:
            raise DatasetError(
                f"The label column of {spec} holds the fraction {odd}: labels are class names or whole numbers; "
                "choose another with --label-column."
            )
    return labels, bool(pa.types.is_integer(column.type) or pa.types.is_floating(column.type))


def meta_column(column: Any) -> Any | None:
    """Return a metadata column as numbers, text, booleans or times; None where its type has no such form."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return meta_column(pc.cast(column, kind.value_type))
    stored = next((to for is_of, to in _STORED if is_of(kind)), None)
    return None if stored is None else pc.cast(column, stored, safe=False)


_STORED: tuple[tuple[Callable[[pa.DataType], bool], pa.DataType], ...] = (
    (pa.types.is_boolean, pa.bool_()),
    (pa.types.is_uint64, pa.float64()),
    (pa.types.is_integer, pa.int64()),
    (pa.types.is_floating, pa.float64()),
    (pa.types.is_decimal, pa.float64()),
    (pa.types.is_timestamp, pa.timestamp("us")),
    (pa.types.is_date, pa.timestamp("us")),
    (pa.types.is_time, pa.string()),
    (pa.types.is_null, pa.string()),
    (pa.types.is_string, pa.string()),
    (pa.types.is_large_string, pa.string()),
    (pa.types.is_string_view, pa.string()),
)
"""The form in which a column of each type is stored."""


def box_column(table: pa.Table, names: Sequence[str], spec: str) -> Any:
    """Return boxes from four columns x0, y0, x1, y1, a list a row; NULL where one of the four is missing.

    Raises:
        DatasetError: a column is no number, or a box has no area.
    """
    try:
        corners = [np.asarray(pc.cast(table.column(name), pa.float64()).to_numpy()) for name in names]
    except pa.ArrowException as error:
        raise DatasetError(f"The box columns {', '.join(names)} of {spec} must hold numbers.") from error
    boxes = np.stack(corners, axis=1)
    return _box_lists([None if np.isnan(box).any() else list(box) for box in boxes], spec)


def boxes_column(column: Any, spec: str) -> Any:
    """Return boxes from a column of lists of numbers, or of text such as ``10 20 60 80; 5 5 9 9``."""
    lists: list[list[float] | None] = []
    for row, value in enumerate(column.to_pylist()):
        try:
            lists.append(_flat(value))
        except (TypeError, ValueError) as error:
            raise DatasetError(
                f"Row {row} of {spec} has the boxes {str(value)[:40]!r}: write x0 y0 x1 y1 in pixels."
            ) from error
    return _box_lists(lists, spec)


def _flat(value: Any) -> list[float] | None:
    if value is None or value in ("", []):
        return None
    if isinstance(value, str):
        value = re.split(r"[\s,;\[\]()]+", value.strip(" \t[]();,"))
    flat: list[float] = []
    for item in value:
        flat += [float(v) for v in item] if isinstance(item, list | tuple) else [float(item)]
    if len(flat) % 4:
        raise ValueError(value)
    return flat


def _box_lists(lists: list[list[float] | None], spec: str) -> Any:
    for row, flat in enumerate(lists):
        for x0, y0, x1, y1 in zip(*[iter(flat or ())] * 4, strict=True):
            if not (x1 > x0 and y1 > y0):
                raise DatasetError(
                    f"Row {row} of {spec} has a box without area ({x0:g}, {y0:g}, {x1:g}, {y1:g}): write x0 < x1 and "
                    "y0 < y1 in pixels of the original."
                )
    return pa.array(lists, pa.list_(pa.float32()))


def _listed(columns: Sequence[str]) -> str:
    return ", ".join(columns[:8]) + (", …" if len(columns) > 8 else "")


def no_path_column(columns: Sequence[str], spec: str) -> DatasetError:
    """Return the error of a table in which no column is known to hold paths."""
    return DatasetError(
        f"The table {spec} has no column of paths: its columns are {_listed(columns)}; call one path (or "
        f"{', '.join(PATH_COLUMNS[1:6])}, …) or say which with --path-column."
    )
