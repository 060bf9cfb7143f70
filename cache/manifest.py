"""The manifest of a run, ``run.json``: what the run is about and which files count."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import uuid4

from cache.errors import RunDamagedError, RunSchemaError
from cache.schema import SCHEMA_VERSION, Field

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
        key: For attributions and embeddings, the key of the parameters that its rows were computed with.
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
        except ValueError as error:
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
            newer = isinstance(version, int) and version > SCHEMA_VERSION
            remedy = "upgrade Gazelake to read it" if newer else "explain again into another directory"
            raise RunSchemaError(
                f"{where} was written with schema version {version}, and this Gazelake reads version {SCHEMA_VERSION}: {remedy}."
            )
        known = {f.name for f in fields(cls)}
        expected = {"dict": dict, "list": list, "str": str, "int": int}
        for f in fields(cls):
            kind = expected.get(str(f.type).partition("[")[0])
            if kind is not None and f.name in data and not isinstance(data[f.name], kind):
                raise RunDamagedError(
                    f"{where}/{MANIFEST_NAME} does not hold what a manifest holds ({f.name} is no {kind.__name__}): "
                    "restore it from a backup."
                )
        try:
            values = {key: value for key, value in data.items() if key in known}
            values["statistics"] = [Field.from_json(f) for f in data.get("statistics", [])]
            values["image_statistics"] = [Field.from_json(f) for f in data.get("image_statistics", [])]
            values["parts"] = {
                table: [Part(**p) for p in parts] for table, parts in data.get("parts", {}).items()
            }
            values["progress"] = Progress(**data.get("progress", {}))
            for entry in values.get("retired", []):
                datetime.fromisoformat(entry["at"])
            for table, parts in values["parts"].items():
                for part in parts:
                    if not (TABLE_NAME.fullmatch(table) and PART_NAME.fullmatch(part.name)):
                        raise ValueError(f"a part called {table}/{part.name}")
            return cls(**values)
        except (TypeError, AttributeError, ValueError, KeyError) as error:
            raise RunDamagedError(
                f"{where}/{MANIFEST_NAME} does not hold what a manifest holds ({error}): restore it from a backup."
            ) from error
