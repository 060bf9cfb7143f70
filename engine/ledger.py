"""What a run already holds, keyed by the images' content: the ground on which work is reused."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from cache.manifest import Manifest, Part
from cache.schema import META_PREFIX, table_of_method
from cache.storage import Storage

EMBEDDINGS = "embeddings"


class Known(NamedTuple):
    """Where the row of a content lies, and what the network said about it."""

    part: str
    row: int
    top_classes: tuple[int, ...]


class Held(NamedTuple):
    """What the run holds under a sample id."""

    content: str
    record: str


@dataclass
class Ledger:
    """A snapshot of a run, taken before anything is written.

    Its parts stay where they are while the writer lives, even when they are superseded, so rows can be copied out of
    them until the end.

    Attributes:
        samples: By sample id, its content and the digest of its record.
        contents: By content, where its row lies.
        failed: Sample ids in the errors table.
        thumbnails: By content, where a thumbnail lies that no row points to any more.
        stale: Parts of attributions and embeddings that were computed with other parameters.
    """

    storage: Storage
    samples: dict[str, Held]
    contents: dict[str, Known]
    failed: set[str]
    thumbnails: dict[str, tuple[str, int]]
    stale: list[tuple[str, str]]
    _held: dict[bytes, int]
    _bits: dict[str, int]
    _parts: dict[str, Part]

    @classmethod
    def read(
        cls,
        storage: Storage,
        manifest: Manifest,
        keys: dict[str, str],
        only: Collection[str] | None = None,
        ids: Collection[str] | None = None,
    ) -> Ledger:
        """Read what is there.

        Args:
            storage: Where the run is kept.
            manifest: Its manifest, damaged parts already left out.
            keys: By method, and for `EMBEDDINGS`, the key of the parameters that this time's work has.
            only: Leave out other contents than these, to save memory.
            ids: Leave out other samples than these.
        """
        bits = {name: 1 << i for i, name in enumerate(keys)}
        parts = {part.name: part for part in manifest.parts.get("samples", [])}
        ledger = cls(storage, {}, {}, set(), {}, [], {}, bits, parts)
        tops: dict[tuple[int, ...], tuple[int, ...]] = {}
        thumbnails = {part.name for part in manifest.parts.get("thumbnails", [])}
        columns = ["sample_id", "content", "record", "top_classes", "thumbnail_part"]
        for part in manifest.parts.get("samples", []):
            rows = pq.read_table(storage.fetch("samples", part), columns=columns).to_pydict()
            for i, values in enumerate(zip(*rows.values(), strict=True)):
                sample_id, content, record, top_classes, thumbnail_part = values
                if ids is None or sample_id in ids:
                    # A row whose thumbnail was lost is not kept as it is, whatever its record says.
                    ledger.samples[sample_id] = Held(content, record if thumbnail_part in thumbnails else "")
                if thumbnail_part in thumbnails and (only is None or content in only):
                    top = tuple(top_classes)
                    ledger.contents[content] = Known(part.name, i, tops.setdefault(top, top))
        for part in manifest.parts.get("errors", []):
            ledger.failed.update(pq.read_table(storage.fetch("errors", part))["sample_id"].to_pylist())
        for name, key in keys.items():
            ledger._read_keyed(manifest, name, key, only)
        if only is None and manifest.rows("thumbnails") > len(ledger.contents):
            ledger._read_loose_thumbnails(manifest)
        return ledger

    def _read_loose_thumbnails(self, manifest: Manifest) -> None:
        for part in manifest.parts.get("thumbnails", []):
            path = self.storage.fetch("thumbnails", part)
            contents = pq.read_table(path, columns=["content"])["content"].to_pylist()
            for row, content in enumerate(contents):
                if content not in self.contents:
                    self.thumbnails[content] = (part.name, row)

    def _read_keyed(self, manifest: Manifest, name: str, key: str, only: Collection[str] | None) -> None:
        table = EMBEDDINGS if name == EMBEDDINGS else table_of_method(name)
        bit = self._bits[name]
        for part in manifest.parts.get(table, []):
            if part.key != key:
                self.stale.append((table, part.name))
                continue
            columns = ["content"] if name == EMBEDDINGS else ["content", "target"]
            rows = pq.read_table(self.storage.fetch(table, part), columns=columns).to_pydict()
            targets = rows.get("target") or [-1] * part.rows
            for content, target in zip(rows["content"], targets, strict=True):
                if only is not None and content not in only:
                    continue
                pair = _pair(content, target)
                self._held[pair] = self._held.get(pair, 0) | bit

    def holds(self, name: str, content: str, target: int) -> bool:
        """Tell whether a method's attribution (or, with target −1, `EMBEDDINGS`) of a content is there."""
        return bool(self._held.get(_pair(content, target), 0) & self._bits[name])

    def missing(self, content: str, targets: Iterable[int]) -> list[int]:
        """Return the targets of which some method's attribution is missing; −1 stands for the embeddings."""
        methods = sum(bit for name, bit in self._bits.items() if name != EMBEDDINGS)
        lacking = [
            target for target in targets if self._held.get(_pair(content, target), 0) & methods != methods
        ]
        return lacking if self.holds(EMBEDDINGS, content, -1) else [*lacking, -1]

    def rows(self, contents: list[str]) -> pa.Table:
        """Return the published sample rows of known contents, in that order."""
        by_part: dict[str, list[int]] = {}
        order: list[tuple[str, int]] = []
        for content in contents:
            known = self.contents[content]
            order.append((known.part, len(by_part.setdefault(known.part, []))))
            by_part[known.part].append(known.row)
        tables: list[pa.Table] = []
        first: dict[str, int] = {}
        for part, rows in by_part.items():
            first[part] = sum(table.num_rows for table in tables)
            tables.append(self._copied(part).take(pa.array(rows)))
        merged = pa.concat_tables(tables, promote_options="permissive")
        return merged.take(pa.array([first[part] + at for part, at in order]))

    def _copied(self, part: str) -> pa.Table:
        """Read what a copied row takes over: everything but the dataset's metadata."""
        path = self.storage.fetch("samples", self._parts[part])
        names = [name for name in pq.read_schema(path).names if not name.startswith(META_PREFIX)]
        return pq.read_table(path, columns=names)


def _pair(content: str, target: int) -> bytes:
    """Pack a content and a target into 20 bytes: a million of them must fit a small machine."""
    return bytes.fromhex(content) + target.to_bytes(4, "little", signed=True)
