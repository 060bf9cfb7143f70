"""The manifest of a run, ``run.json``: what the run is about and which files count."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

from cache.errors import RunDamagedError, RunSchemaError, shown
from cache.schema import SCHEMA_VERSION, Field
from cache.shapes import misfit, misfit_keys

FORMAT = "gazelake"
MANIFEST_NAME = "run.json"
TABLE_NAME = re.compile(r"[a-z]+(/[a-z][a-z0-9_]*)?")
PART_NAME = re.compile(r"part-[\w.-]+\.parquet")
"""What tables and parts may be called: a manifest from elsewhere must not point out of its run."""
State = Literal["running", "complete", "interrupted"]


def now() -> str:
    """Return the current time in UTC as ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Part:
    """One immutable Parquet file of a table.

    Attributes:
        name: File name within the table's folder.
        rows: Rows it holds.
        bytes: Its size.
        sha256: Digest of its bytes.
        key: For attributions and embeddings, the key of the parameters that its rows were computed with; for groups
            and projections, their version.
    """

    name: str
    rows: int
    bytes: int
    sha256: str
    key: str = ""


@dataclass
class Progress:
    """How far the engine has come: samples planned, samples with a row, samples in the errors table."""

    planned: int = 0
    done: int = 0
    failed: int = 0


@dataclass
class Manifest:
    """Everything about a run except its rows; ``docs/cache.md`` describes each key."""

    name: str
    dataset: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    preprocessing: dict[str, Any] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    default_method: str = ""
    methods: dict[str, dict[str, Any]] = field(default_factory=dict)
    statistics: list[Field] = field(default_factory=list)
    image_statistics: list[Field] = field(default_factory=list)
    meta: list[dict[str, str]] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    parts: dict[str, list[Part]] = field(default_factory=dict)
    retired: list[dict[str, str]] = field(default_factory=list)
    progress: Progress = field(default_factory=Progress)
    state: State = "running"
    history: list[dict[str, Any]] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)
    run_id: str = field(default_factory=lambda: uuid4().hex)
    generation: int = 0
    created: str = field(default_factory=now)
    updated: str = field(default_factory=now)
    schema_version: int = SCHEMA_VERSION
    format: str = FORMAT

    @property
    def identity(self) -> str:
        """What is audited, the same in every run of it: the weights and the preprocessing."""
        return f"{self.model.get('fingerprint', '')} {self.preprocessing.get('fingerprint', '')}"

    def rows(self, table: str) -> int:
        """Return how many rows the published parts of a table hold."""
        return sum(part.rows for part in self.parts.get(table, []))

    def to_json(self) -> str:
        """Return the text of ``run.json``."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str, where: str) -> Manifest:
        """Read a manifest.

        Args:
            text: Contents of ``run.json``.
            where: The run, named in errors.

        Raises:
            RunDamagedError: The text is not a manifest.
            RunSchemaError: Another schema version wrote it.
        """
        try:
            data = json.loads(text)
        except (
            ValueError,
            RecursionError,
        ) as error:  # no JSON, a number of thousands of digits, or a deep nest
            raise RunDamagedError(
                f"{where}/{MANIFEST_NAME} is not valid JSON ({error}): restore it from a backup, or explain again "
                "into another directory."
            ) from error
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise RunDamagedError(
                f"{where}/{MANIFEST_NAME} is not a Gazelake manifest: name the directory that "
                "`python -m engine explain --out` wrote."
            )
        version = data.get("schema_version")
        if version != SCHEMA_VERSION:
            newer = type(version) is int and version > SCHEMA_VERSION
            remedy = "upgrade Gazelake to read it" if newer else "explain again into another directory"
            raise RunSchemaError(
                f"{where} was written with schema version {shown(version)}, and this Gazelake reads version {SCHEMA_VERSION}: {remedy}."
            )
        damaged = _misfit(data)
        if damaged:
            raise RunDamagedError(
                f"{where}/{MANIFEST_NAME} does not hold what a manifest holds (see {damaged}): restore it from a backup, "
                "or explain again into another directory."
            )
        known = {f.name for f in fields(cls)}
        try:
            values = {key: value for key, value in data.items() if key in known}
            values["statistics"] = [Field.from_json(f) for f in data.get("statistics", [])]
            values["image_statistics"] = [Field.from_json(f) for f in data.get("image_statistics", [])]
            values["parts"] = {
                table: [Part(**p) for p in parts] for table, parts in data.get("parts", {}).items()
            }
            values["progress"] = Progress(**data.get("progress", {}))
            _refuse_odd_names(values)
            return cls(**values)
        except (TypeError, AttributeError, ValueError, KeyError) as error:
            raise RunDamagedError(
                f"{where}/{MANIFEST_NAME} does not hold what a manifest holds ({error}): restore it from a backup."
            ) from error


_ENTRIES: dict[str, dict[str, Any]] = {
    "methods": {
        **dict.fromkeys(("title", "family", "summary", "key", "reference"), str),
        **dict.fromkeys(("columns", "trust", "equivalent"), list[str]),
        **dict.fromkeys(("signed", "class_dependent"), bool),
        "parameters": dict[str, Any],
        "target_layer": str | None,
    },
    "history": {"command": str, "finished": str},
}
"""What the objects hold that the manifest's types leave open, and that pages and commands read."""


def _misfit(data: dict[str, Any]) -> str | None:
    """Return the place of the manifest that is not as `Manifest` declares it, None where all of it is."""
    place = misfit(data, Manifest)
    for name, kinds in _ENTRIES.items():
        if place is not None:
            break
        entries = data.get(name, {})
        for key, entry in entries.items() if isinstance(entries, dict) else enumerate(entries):
            place = place or misfit_keys(entry, kinds, f"{name}.{key}")
    return None if place is None else "".join(c if c.isprintable() else " " for c in place)[:80]


def _refuse_odd_names(values: dict[str, Any]) -> None:
    """Refuse names and moments that are texts, but not such as a run's are (raises ValueError, KeyError)."""
    for entry in values.get("retired", []):
        if datetime.fromisoformat(entry["at"]).tzinfo is None:
            raise ValueError(f"{entry['path']} retired at no moment")
    for entry in values.get("meta", []):
        if not {"name", "type"} <= entry.keys():
            raise KeyError("metadata without a name or a type")
    for method in values.get("methods", {}):
        if not TABLE_NAME.fullmatch(f"attributions/{method}"):
            raise ValueError(f"a method called {method}")
    for table, parts in values["parts"].items():
        for part in parts:
            if not (TABLE_NAME.fullmatch(table) and PART_NAME.fullmatch(part.name)):
                raise ValueError(f"a part called {table}/{part.name}")
