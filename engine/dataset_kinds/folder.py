"""A folder with a subfolder a class, or one of unlabelled images; local or behind any fsspec URL."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from cache.errors import DatasetError
from cache.run import is_run
from engine.datasets import Dataset, DatasetKind, DatasetOptions
from engine.files import exists, filesystem, is_folder, is_url
from engine.images import SUFFIXES

_SPLITS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}
_LAYOUT = "a subfolder for each class (such as husky/0012.jpg)"


def open_folder(spec: str, options: DatasetOptions) -> Dataset:
    """Open a folder of classes: sample_id is the path relative to it, the label is the name of the first subfolder."""
    root = spec.rstrip("/") if is_url(spec) else os.path.abspath(os.path.expanduser(spec))
    if not is_folder(root):
        if exists(root):
            raise DatasetError(
                f"The dataset {spec} is a file of an unknown kind: give a folder of images, a .csv, .tsv or .parquet "
                "table, or torchvision:NAME@ROOT."
            )
        raise DatasetError(f"There is no dataset at {spec}: check the path, or mount the disk it lies on.")
    if options.data_root is not None:
        raise DatasetError(
            f"--data-root says where a table's images lie, but {spec} is a folder: give the folder of images as --data."
        )
    paths, folders = _scan_url(root) if is_url(root) else _scan_local(root, spec)
    if not paths:
        raise DatasetError(
            f"The folder {spec} has no images: put files such as .jpg or .png into {_LAYOUT}, or give a table."
        )
    if options.unlabelled:
        return _dataset(spec, root, paths, None, [])
    nested = [path for path in paths if "/" in path]
    if not nested:
        raise DatasetError(
            f"The folder {spec} has images but no class folders: put them into {_LAYOUT}, give a table with labels, "
            "or say --unlabelled to explain them without labels."
        )
    _refuse_splits(spec, nested, folders)
    notices = []
    if len(nested) < len(paths):
        loose = len(paths) - len(nested)
        notices.append(f"{loose} image(s) directly in {spec}, outside its class folders, were left out.")
    return _dataset(spec, root, nested, folders, notices)


def _dataset(
    spec: str, root: str, paths: list[str], folders: list[str] | None, notices: list[str]
) -> Dataset:
    uri = pa.array(paths, pa.string())
    if folders is None:
        label = pa.nulls(len(paths), pa.string())
    else:
        label = pa.array([path.partition("/")[0] for path in paths], pa.string())
    empty = set(folders or ()) - set(label.unique().to_pylist())
    if empty:
        names = ", ".join(sorted(empty)[:3])
        notices.append(f"{len(empty)} class folder(s) of {spec} hold no images: {names}.")
    records = pa.table(
        {"sample_id": uri, "uri": uri, "label": label, "split": pa.nulls(len(paths), pa.string())}
    )
    return Dataset(spec, root, "folder", records, classes=folders, notices=notices)


def _refuse_splits(spec: str, nested: list[str], folders: list[str]) -> None:
    """Refuse D/train/husky/1.jpg: its classes would be called train and test."""
    if all(name.lower() in _SPLITS for name in folders) and all(path.count("/") >= 2 for path in nested):
        inner = f"{spec.rstrip('/')}/{folders[-1]}"
        raise DatasetError(
            f"The subfolders of {spec} ({', '.join(folders)}) are splits, not classes: give one of them, such as "
            f"--data {inner}."
        )


def _visible(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"


def _is_image(name: str) -> bool:
    return _visible(name) and os.path.splitext(name)[1].lower() in SUFFIXES


def _scan_local(root: str, spec: str) -> tuple[list[str], list[str]]:
    """Return every image's path below the root and the first-level folders, both sorted."""
    try:
        with os.scandir(root) as entries:
            folders = sorted(_text(e.name) for e in entries if _is_folder(e))
        paths = sorted(_text(path) for path in _walk(root, "", {os.path.realpath(root)}))
    except PermissionError as error:
        raise DatasetError(
            f"The folder {error.filename or spec} may not be read: permission denied; "
            "change its permissions or give another folder."
        ) from error
    return paths, folders


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Tell whether an entry is a folder of images: not hidden, not a loop of links, not a run written there."""
    try:
        return entry.is_dir() and _visible(entry.name) and not is_run(Path(entry.path))
    except OSError:
        return False


def _walk(folder: str, prefix: str, above: set[str]) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if _is_folder(entry):
                real = os.path.realpath(entry.path)
                if real not in above:  # a link to a folder above would never end
                    yield from _walk(entry.path, f"{prefix}{entry.name}/", above | {real})
            elif _is_image(entry.name):
                yield prefix + entry.name


def _text(name: str) -> str:
    """Return a file name as text that can be stored: bytes that are not UTF-8 are written as escapes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsencode(name).decode("utf-8", "backslashreplace")
    return name


def _scan_url(root: str) -> tuple[list[str], list[str]]:
    try:
        fs, path = filesystem(root)
        found = fs.find(path)
    except Exception as error:  # each remote filesystem has its own errors
        raise DatasetError(f"The folder {root} cannot be listed: {str(error).rstrip('.')}.") from error
    base = path.rstrip("/") + "/"
    below = [name[name.index(base) + len(base) :] for name in found if base in name]
    paths = sorted(
        name for name in below if _is_image(name.rpartition("/")[2]) and all(map(_visible, name.split("/")))
    )
    return paths, sorted({name.partition("/")[0] for name in paths if "/" in name})


KIND = DatasetKind("folder", lambda spec: True, open_folder, order=100)
