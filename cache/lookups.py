"""Finds samples by their ids and positions, and maps by their images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cache.part_rows import PartRows
from cache.run import Run
from cache.schema import table_of_method
from cache.tables import IDS_TABLE, SAMPLES_TABLE, keys_table_name


class Lookups(PartRows):
    """Looks rows up by keys where there is a table of them, and by reading all otherwise."""

    def __init__(self, run: Run) -> None:
        """Name the run."""
        super().__init__(run)
        self._made: set[str] = set()
        """Quoted names of the tables that are there."""

    def rows_by_id(self, sample_ids: Sequence[str], columns: str) -> dict[str, dict[str, Any]]:
        """Return columns of samples by their ids, in the order asked for; unknown ids are left out.

        Args:
            sample_ids: The ids.
            columns: What stands after SELECT, over the alias ``s``.
        """
        wanted, condition = list(sample_ids), "s.sample_id IN (SELECT unnest($wanted))"
        if IDS_TABLE in self._made:
            # Numbers are compared instead of a million texts; another id may have the key too.
            keys = f"SELECT sample FROM {IDS_TABLE} WHERE key IN (SELECT hash(unnest($wanted)))"
            found = self.query(keys, {"wanted": wanted})["sample"].to_pylist()
            params, condition = {"found": found}, "s.sample IN (SELECT unnest($found))"
        else:
            params = {"wanted": wanted}
        rows = self.query(
            f"SELECT s.sample_id AS sample_id, {columns} FROM {SAMPLES_TABLE} AS s WHERE {condition}", params
        ).to_pylist()
        known = {row["sample_id"]: row for row in rows}
        return {name: known[name] for name in wanted if name in known}

    def rows_by_position(self, positions: Sequence[int], columns: str) -> pa.Table:
        """Return columns of samples by their positions, each once, in the order asked for; SELECT and alias as above."""
        table = self.query(
            f"SELECT s.sample AS sample, {columns} FROM {SAMPLES_TABLE} AS s WHERE s.sample IN (SELECT unnest($positions))",
            {"positions": list(positions)},
        )
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
