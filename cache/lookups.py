"""Finds samples by their ids and positions, and maps by their samples and images."""

from __future__ import annotations

from abc import abstractmethod
from collections import OrderedDict
from collections.abc import Sequence
from threading import RLock
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from cache.fields import Source
from cache.part_rows import PartRows
from cache.run import Run
from cache.schema import table_of_method
from cache.tables import IDS_TABLE, SAMPLES_TABLE, keys_table_name

KEPT_IDS = 20_000
"""Ids whose positions are kept: pages ask for those of the samples they have just found several times."""
KEPT_SOURCES = 12
"""Sources whose maps' rows are kept: four bytes a sample each."""


class Lookups(PartRows):
    """Looks rows up by keys where there is a table of them, and by reading all otherwise."""

    def __init__(self, run: Run) -> None:
        """Name the run."""
        super().__init__(run)
        self._made: set[str] = set()
        """Quoted names of the tables that are there."""
        self._lock = RLock()
        self._positions: OrderedDict[str, int] = OrderedDict()
        self._attributions: OrderedDict[Source, NDArray[np.signedinteger]] = OrderedDict()

    @abstractmethod
    def source_table(self, source: Source) -> str:
        """Return the name of a source's table, which has a row a sample in their order."""

    def _know(self, sample_ids: Sequence[str], positions: Sequence[int]) -> None:
        """Keep the positions of samples, so that they need not be looked up by their ids."""
        with self._lock:
            # Of more than are kept, the last.
            for name, position in zip(sample_ids[-KEPT_IDS:], positions[-KEPT_IDS:], strict=True):
                self._positions[name] = position
                self._positions.move_to_end(name)
            while len(self._positions) > KEPT_IDS:
                self._positions.popitem(last=False)

    def positions(self, sample_ids: Sequence[str]) -> dict[str, int]:
        """Return the positions of samples by their ids, in the order asked for; unknown ids are left out."""
        with self._lock:
            found = {name: self._positions[name] for name in sample_ids if name in self._positions}
        if missing := [name for name in dict.fromkeys(sample_ids) if name not in found]:
            looked_up = self._looked_up(missing)
            self._know(list(looked_up), list(looked_up.values()))
            found |= looked_up
        return {name: found[name] for name in sample_ids if name in found}

    def _looked_up(self, sample_ids: list[str]) -> dict[str, int]:
        where, params = "sample_id IN (SELECT unnest($wanted))", {"wanted": sample_ids}
        if IDS_TABLE in self._made:
            # Numbers are compared instead of a million texts; another id may have the key too.
            keys = f"SELECT sample FROM {IDS_TABLE} WHERE key IN (SELECT hash(unnest($wanted)))"
            where, params = (
                "sample IN (SELECT unnest($found))",
                {"found": self.query(keys, params)["sample"].to_pylist()},
            )
        table = self.query(f"SELECT sample_id, sample FROM {SAMPLES_TABLE} WHERE {where}", params)
        known = dict(zip(table["sample_id"].to_pylist(), table["sample"].to_pylist(), strict=True))
        return {name: known[name] for name in sample_ids if name in known}

    def attributions(self, source: Source) -> NDArray[np.signedinteger]:
        """Return the position of each sample's row among the maps of a source's method, −1 where it has none.

        Raises:
            RunDamagedError: A part is missing or cannot be read.
        """
        with self._lock:
            if source in self._attributions:
                self._attributions.move_to_end(source)
                return self._attributions[source]
        table = self.query(f"SELECT attribution FROM {self.source_table(source)} ORDER BY sample")
        found: NDArray[np.int64] = np.asarray(table["attribution"].fill_null(-1), np.int64)
        rows: NDArray[np.signedinteger] = found.astype(np.int32) if found.max(initial=0) < 2**31 else found
        with self._lock:
            self._attributions[source] = rows
            while len(self._attributions) > KEPT_SOURCES:
                self._attributions.popitem(last=False)
        return rows

    def rows_by_id(self, sample_ids: Sequence[str], columns: str) -> dict[str, dict[str, Any]]:
        """Return columns of samples by their ids, in the order asked for; unknown ids are left out.

        Args:
            sample_ids: The ids.
            columns: What stands after SELECT, over the alias ``s``.
        """
        places = self.positions(sample_ids)
        found = self.query(
            f"SELECT s.sample AS place, {columns} FROM {SAMPLES_TABLE} AS s WHERE s.sample IN (SELECT unnest($places))",
            {"places": list(places.values())},
        )
        rows = {row.pop("place"): row for row in found.to_pylist()}
        return {name: rows[place] for name, place in places.items()}

    def rows_by_position(self, positions: Sequence[int], columns: str) -> pa.Table:
        """Return columns of samples by their positions, each once, in the order asked for; SELECT and alias as above."""
        table = self.query(
            f"SELECT s.sample AS sample, {columns} FROM {SAMPLES_TABLE} AS s WHERE s.sample IN (SELECT unnest($positions))",
            {"positions": list(positions)},
        )
        if "sample_id" in table.column_names:
            self._know(table["sample_id"].to_pylist(), table["sample"].to_pylist())
        places = pc.index_in(pa.array(positions, pa.int64()), table["sample"].combine_chunks())
        return table.take(places)

    def maps_of_content(self, method: str, content: str) -> list[int]:
        """Return the positions of a method's rows for one image, one for each class explained, by class.

        Raises:
            RunDamagedError: A part is missing or cannot be read.
        """
        keys = keys_table_name(method)
        if keys in self._made:
            found = self.query(
                f"SELECT attribution, target FROM {keys} WHERE key = hash($content)", {"content": content}
            )
            # Another image may have the key too.
            held = self.rows_of_maps(method, found["attribution"].to_pylist(), ["content"])
            rows = zip(
                found["target"].to_pylist(),
                found["attribution"].to_pylist(),
                held["content"].to_pylist() if held.num_rows else (),
                strict=True,
            )
            last: dict[int, int] = {}
            for target, place, own in rows:
                if own == content:
                    last[target] = max(place, last.get(target, -1))
            return [last[target] for target in sorted(last)]
        columns = {"content": "VARCHAR", "target": "INTEGER"}
        rows_ = self._parts.select(table_of_method(method), columns, "attribution")
        found = self.query(
            f"SELECT max(attribution) AS attribution FROM ({rows_}) WHERE content = $content "
            "GROUP BY target ORDER BY target",
            {"content": content},
        )
        return [int(place) for place in found["attribution"].to_pylist()]
