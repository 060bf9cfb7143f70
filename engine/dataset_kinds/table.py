"""A CSV, TSV or Parquet table with a row an image: path or URL, label, and whatever else is known."""

from __future__ import annotations

import os
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cache.errors import DatasetError
from cache.schema import META_PREFIX
from engine import tables
from engine.datasets import Dataset, DatasetKind, DatasetOptions
from engine.files import is_folder, is_url, parent

_PARQUET = (".parquet", ".pq")
_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", *_PARQUET)


def open_table(spec: str, options: DatasetOptions) -> Dataset:
    """Open a table: relative paths start from its own folder or from the data root; other columns become meta.*."""
    location = spec if is_url(spec) else os.path.abspath(os.path.expanduser(spec))
    texts = (
        tables.PATH_COLUMNS,
        tables.LABEL_COLUMNS,
        tables.ID_COLUMNS,
        tables.SPLIT_COLUMNS,
        tables.MASK_COLUMNS,
        (tables.BOXES_COLUMN, options.path_column, options.label_column, options.id_column),
    )
    table, columns = tables.read_table(location, texts)
    path = tables.find_column(columns, tables.PATH_COLUMNS, options.path_column, "paths", spec)
    if path is None:
        raise tables.no_path_column(columns, spec)
    label = tables.find_column(columns, tables.LABEL_COLUMNS, options.label_column, "labels", spec)
    identity = tables.find_column(columns, tables.ID_COLUMNS, options.id_column, "ids", spec)
    split = tables.find_column(columns, tables.SPLIT_COLUMNS, None, "split", spec)
    mask = tables.find_column(columns, tables.MASK_COLUMNS, None, "masks", spec)

    uri = _paths(tables.text_column(table, path, spec), path, spec)
    notices: list[str] = []
    labels: Any = pa.nulls(table.num_rows, pa.string())
    are_indices = False
    if label is None:
        notices.append(f"The table {spec} has no label column: its images are unlabelled.")
    else:
        tables.text_column(table, label, spec)
        labels, are_indices = tables.label_values(
            table.column(label),
            spec,
            label_names=options.label_names,
            typed=location.lower().endswith(_PARQUET),
        )
    records: dict[str, Any] = {
        "sample_id": uri
        if identity is None
        else _ids(tables.text_column(table, identity, spec), identity, spec),
        "uri": uri,
        "label": labels,
        "split": pa.nulls(table.num_rows, pa.string())
        if split is None
        else tables.text_column(table, split, spec),
    }
    _refuse_duplicates(records["sample_id"], spec, identity)
    used = {path, label, identity, split, mask}
    if mask is not None:
        records["mask"] = _slashes(tables.text_column(table, mask, spec))
    used |= _add_boxes(records, table, columns, spec)
    notices += _add_meta(records, table, [name for name in columns if name not in used], spec)
    return Dataset(
        spec,
        _root(location, options.data_root),
        "table",
        pa.table(records),
        labels_are_indices=are_indices,
        notices=notices,
    )


def _root(location: str, data_root: str | None) -> str:
    if data_root is None:
        return parent(location)
    root = data_root.rstrip("/") if is_url(data_root) else os.path.abspath(os.path.expanduser(data_root))
    if not is_folder(root):
        raise DatasetError(f"There is no folder at --data-root {data_root}: check the path.")
    return root


def _paths(paths: Any, name: str, spec: str) -> Any:
    if paths.null_count:
        row = pc.index(pc.is_null(paths), True).as_py()
        raise DatasetError(
            f"Row {row} of {spec} has no value in the path column {name!r}: fill or remove the row."
        )
    return _slashes(paths)


def _slashes(paths: Any) -> Any:
    """Return relative paths written on Windows with slashes."""
    return pc.replace_substring(paths, "\\", "/")


def _ids(ids: Any, name: str, spec: str) -> Any:
    if ids.null_count:
        row = pc.index(pc.is_null(ids), True).as_py()
        raise DatasetError(f"Row {row} of {spec} has no value in the id column {name!r}: give every row one.")
    return ids


def _refuse_duplicates(ids: Any, spec: str, identity: str | None) -> None:
    counts = pc.value_counts(ids)
    twice = pc.filter(counts.field("values"), pc.greater(counts.field("counts"), 1)).to_pylist()
    if not twice:
        return
    named = ", ".join(repr(value) for value in sorted(twice)[:3])
    more = f" and {len(twice) - 3} more" if len(twice) > 3 else ""
    advice = (
        "add an id column that tells the rows apart"
        if identity is None
        else "give every row an id of its own"
    )
    raise DatasetError(
        f"The table {spec} has duplicate {'paths' if identity is None else 'ids'} ({named}{more}): {advice}."
    )


def _add_boxes(records: dict[str, Any], table: pa.Table, columns: list[str], spec: str) -> set[str]:
    """Add the boxes, where the table has them, and return the columns they came from."""
    by_lower = {name.lower(): name for name in columns}
    if tables.BOXES_COLUMN in by_lower:
        name = by_lower[tables.BOXES_COLUMN]
        records["boxes"] = tables.boxes_column(table.column(name), spec)
        return {name}
    for group in tables.BOX_COLUMNS:
        if all(name in by_lower for name in group):
            names = [by_lower[name] for name in group]
            records["boxes"] = tables.box_column(table, names, spec)
            return set(names)
    return set()


def _add_meta(records: dict[str, Any], table: pa.Table, names: list[str], spec: str) -> list[str]:
    left_out = []
    for name in names:
        column = tables.meta_column(table.column(name))
        if column is None:
            left_out.append(name)
        else:
            records[META_PREFIX + name] = column
    if not left_out:
        return []
    return [
        f"Column(s) {', '.join(left_out)} of {spec} hold neither numbers, text, booleans nor times and were left out."
    ]


def _matches(spec: str) -> bool:
    return spec.lower().endswith(_SUFFIXES) and not is_folder(os.path.expanduser(spec))


KIND = DatasetKind("table", _matches, open_table, order=30)
