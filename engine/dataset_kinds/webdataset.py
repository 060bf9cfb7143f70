"""WebDataset: shards of images in tar files, a sample being the files of one stem; read in place, never unpacked."""

from __future__ import annotations

import json
import os
import tarfile
from array import array
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from cache.errors import DatasetError
from cache.schema import META_PREFIX
from engine import tables
from engine.datasets import Dataset, DatasetKind, DatasetOptions
from engine.files import ReadError, is_folder, is_url
from engine.images import SUFFIXES
from engine.shards import expand, file_size, listed, open_file, read_range

SUFFIX = ".tar"
COMPRESSED = (".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".tar.bz2")
LABEL = "cls"
CAPTION = "txt"
MASKS = ("mask", "seg", "segmentation", "depth")
"""First words of an extension that say that a picture is not the image itself, such as ``seg.png``."""
MOST_TEXT = 1 << 20
"""Bytes of a label or of metadata that are read."""
INDEXED_AT_ONCE = 8


@dataclass
class _Sample:
    """The files of one stem: where its image lies, and what its label and metadata say."""

    key: str
    image: str = ""
    offset: int = 0
    size: int = 0
    texts: dict[str, bytes] = field(default_factory=dict)


@dataclass
class ShardReader:
    """Reads one image at a time from its place in its shard: memory holds two numbers an image."""

    shards: list[str]
    shard_of: array[int]
    offsets: array[int]
    sizes: array[int]

    def __call__(self, i: int) -> bytes:
        """Return the bytes of the i-th image (raises ReadError)."""
        shard = self.shards[self.shard_of[i]]
        if not self.sizes[i]:
            raise ReadError("empty", f"An image of {shard} has no bytes.")
        data = read_range(shard, self.offsets[i], self.sizes[i])
        if len(data) != self.sizes[i]:
            raise ReadError("unreadable", f"The shard {shard} has become shorter than it was.")
        return data


def open_shards(spec: str, options: DatasetOptions) -> Dataset:
    """Open shards; the sample_id is the shard's name and the stem, such as ``train-000/husky_12``."""
    if spec.lower().endswith(COMPRESSED):
        raise DatasetError(
            f"{spec} is compressed, and images in it cannot be reached one by one: decompress it to a .tar file."
        )
    shards = _shards(spec)
    if options.data_root is not None:
        raise DatasetError(
            f"--data-root says where a table's images lie, but {spec} holds its images itself: leave it out."
        )
    with ThreadPoolExecutor(INDEXED_AT_ONCE) as pool:
        found = list(pool.map(_index, shards))
    columns: dict[str, list[Any]] = {"sample_id": [], "uri": []}
    reader = ShardReader(shards, array("l"), array("q"), array("q"))
    kept: list[_Sample] = []
    imageless: list[str] = []
    for number, (shard, samples) in enumerate(zip(shards, found, strict=True)):
        name = os.path.basename(shard)
        for sample in samples:
            if not sample.image:
                imageless.append(f"{name}#{sample.key}")
                continue
            columns["sample_id"].append(f"{name.removesuffix(SUFFIX)}/{sample.key}")
            columns["uri"].append(f"{name}#{sample.image}")
            reader.shard_of.append(number)
            reader.offsets.append(sample.offset)
            reader.sizes.append(sample.size)
            kept.append(sample)
    _refuse_twice(columns["sample_id"], spec)
    notices = []
    if imageless:
        notices.append(
            f"{len(imageless)} sample(s) of {spec} hold no image and were left out, such as {imageless[0]}."
        )
    said = [_json(sample, spec) for sample in kept]
    labels, are_indices, more = _labels(kept, said, spec, options)
    records = pa.table(
        {
            "sample_id": pa.array(columns["sample_id"], pa.string()),
            "uri": pa.array(columns["uri"], pa.string()),
            "label": labels,
            "split": pa.nulls(len(kept), pa.string()),
            **_meta(said, options),
        }
    )
    root = os.path.dirname(shards[0])
    return Dataset(
        spec,
        root,
        KIND.name,
        records,
        labels_are_indices=are_indices,
        notices=notices + more,
        reader=reader,
    )


def _shards(spec: str) -> list[str]:
    """Return the shards that a spec means: one, a pattern's, or a folder's."""
    places = [
        place if is_url(place) else os.path.abspath(os.path.expanduser(place)) for place in expand(spec)
    ]
    if len(places) == 1 and is_folder(places[0]):
        return listed(places[0], SUFFIX)
    for place in places:
        if file_size(place) < 0:
            raise DatasetError(f"There is no shard at {place}: check the path or the pattern.")
    return places


def _index(shard: str) -> list[_Sample]:
    """Read the headers of a shard, and its labels and metadata."""
    samples: dict[str, _Sample] = {}
    try:
        with open_file(shard) as file, tarfile.open(fileobj=file, mode="r:") as archive:
            for member in _members(archive):
                folder, slash, name = member.name.rpartition("/")
                stem, dot, extension = name.partition(".")
                if not stem or not dot:
                    continue
                sample = samples.setdefault(folder + slash + stem, _Sample(folder + slash + stem))
                extension = extension.lower()
                if _is_image(extension):
                    if not sample.image:
                        sample.image, sample.offset, sample.size = (
                            member.name,
                            member.offset_data,
                            member.size,
                        )
                elif extension in (LABEL, CAPTION, "json"):
                    held = archive.extractfile(member)
                    sample.texts[extension] = b"" if held is None else held.read(MOST_TEXT)
    except (tarfile.TarError, EOFError) as error:
        reason = str(error).rstrip(".") or "it ends too early"
        raise DatasetError(
            f"The shard {shard} is damaged or cut short ({reason}): fetch or make it again."
        ) from error
    except OSError as error:
        raise DatasetError(
            f"The shard {shard} cannot be read: {error.strerror or str(error).rstrip('.')}."
        ) from error
    return list(samples.values())


def _members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the files of an archive without keeping all of their headers."""
    while (member := archive.next()) is not None:
        if member.isreg():
            yield member
        archive.members.clear()  # type: ignore[attr-defined]


def _is_image(extension: str) -> bool:
    words = extension.split(".")
    return f".{words[-1]}" in SUFFIXES and words[0] not in MASKS


def _refuse_twice(ids: list[str], spec: str) -> None:
    seen: set[str] = set()
    for one in ids:
        if one in seen:
            raise DatasetError(
                f"Two shards of {spec} are called alike and hold a sample {one}: give shards names of their own."
            )
        seen.add(one)


def _json(sample: _Sample, spec: str) -> dict[str, Any]:
    text = sample.texts.get("json")
    if text is None:
        return {}
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DatasetError(
            f"The metadata {sample.key}.json of {spec} are no JSON: mend the shard or leave them out."
        ) from error
    return said if isinstance(said, dict) else {}


def _labels(
    samples: list[_Sample], said: list[dict[str, Any]], spec: str, options: DatasetOptions
) -> tuple[Any, bool, list[str]]:
    """Return the labels: from a key of the metadata that was asked for, else ``.cls``, the metadata, or ``.txt``."""
    key = options.label_column or _key(said, tables.LABEL_COLUMNS)
    texts: list[str | None]
    if options.label_column is None and any(LABEL in sample.texts for sample in samples):
        texts = [_text(sample.texts.get(LABEL)) for sample in samples]
    elif key is not None:
        texts = [None if one.get(key) is None else str(one[key]) for one in said]
        if options.label_column is not None and not any(text is not None for text in texts):
            raise DatasetError(
                f"No metadata of {spec} have the key {key!r} for a label: choose another with --label-column."
            )
    else:
        texts = [_text(sample.texts.get(CAPTION)) for sample in samples]
    missing = sum(text is None for text in texts)
    values = pa.array(texts, pa.string())
    labels, are_indices = tables.label_values(values, spec, label_names=options.label_names, typed=False)
    if missing == len(samples):
        return labels, False, [f"{spec} has no labels: its images are unlabelled."]
    more = [f"{missing} sample(s) of {spec} have no label and are unlabelled."] if missing else []
    return labels, are_indices, more


def _text(data: bytes | None) -> str | None:
    if data is None:
        return None
    return " ".join(data.decode("utf-8", "replace").split()) or None


def _key(said: list[dict[str, Any]], names: tuple[str, ...]) -> str | None:
    held = {key.lower(): key for one in said for key in one}
    return next((held[name] for name in names if name in held), None)


def _meta(said: list[dict[str, Any]], options: DatasetOptions) -> dict[str, Any]:
    """Return a column for every key of the metadata whose values are scalars."""
    label = options.label_column or _key(said, tables.LABEL_COLUMNS)
    keys = dict.fromkeys(key for one in said for key in one if key != label)
    columns = {}
    for key in keys:
        values = [one.get(key) for one in said]
        if any(isinstance(value, dict | list) for value in values):
            continue
        try:
            column = pa.array(values)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            column = pa.array([None if value is None else str(value) for value in values], pa.string())
        stored = tables.meta_column(column)
        if stored is not None:
            columns[META_PREFIX + key] = stored
    return columns


def _matches(spec: str) -> bool:
    if spec.lower().endswith((SUFFIX, *COMPRESSED)):
        return True
    place = os.path.expanduser(spec)
    return is_folder(place) and bool(listed(place, SUFFIX))


KIND = DatasetKind("webdataset", _matches, open_shards, order=20)
