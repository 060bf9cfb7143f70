"""What discovery reads of a run: outcomes, maps on the grid, statistics and features, aligned by sample."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from cache.catalog import Catalog
from cache.fields import sample_fields, statistic_fields
from cache.filter_sql import identifier
from cache.maps import grid_from_corners
from cache.schema import AGREEMENT, CORNERS, GRID, PROJECTION_SIZE

CELLS = GRID * GRID
OUTCOME_FIELDS = frozenset({"confidence", "margin", "entropy", "loss"})
"""Fields that say how the prediction went: a rule over them would explain errors by errors."""
OBJECT_STATISTICS = ("mass_inside", "pointing_hit", "localization_iou")
"""Statistics that exist only where the object is known."""
MAX_LEVELS = 40
"""A text field with more values than this names samples rather than kinds of them."""
BLOCK = 8_192


@dataclass(frozen=True)
class Column:
    """One field that rules are made of.

    Attributes:
        name: The field's name.
        title: What people read.
        values: Numbers, or codes into `levels` (−1 where unknown); NaN where unknown.
        levels: The values of a text or yes-or-no field; empty for a number.
        origin: ``image`` statistic, ``map`` statistic, or ``meta`` data.
        single: Whether the run stores the numbers in single precision.
    """

    name: str
    title: str
    values: NDArray[np.float64]
    levels: tuple[str | bool, ...] = ()
    origin: str = "meta"
    single: bool = True


@dataclass
class Audited:
    """The samples of a run; every array has one row a sample, in the order of ``sample_ids``.

    Attributes:
        identity: Of the weights and the preprocessing: salt of the split and of every draw.
        classes: Names of the outputs.
        sample_ids: Identity of each sample.
        contents: Content key of each.
        pred: The predicted class.
        label: The true class, −1 where it is unknown.
        known: Whether the default method's map of the prediction exists and is not degenerate.
        p: Share of the map's mass in each cell, (n, 196), float32; rows of zeros where not known.
        held_back: The half that effects are measured on.
        columns: Fields for rules.
        attended: Unit vectors of the attended features, (n, 64), or None; rows of zeros where unknown.
        peak: Centre of the map's peak, (n, 2), x and y in fractions.
        outside: Share of the map outside the known object, NaN where none is known.
    """

    identity: str
    classes: list[str]
    sample_ids: NDArray[np.str_]
    contents: list[str]
    pred: NDArray[np.int32]
    label: NDArray[np.int32]
    known: NDArray[np.bool_]
    p: NDArray[np.float32]
    held_back: NDArray[np.bool_]
    columns: list[Column]
    attended: NDArray[np.float32] | None
    peak: NDArray[np.float64]
    outside: NDArray[np.float64]
    notices: list[str] = field(default_factory=list)

    @property
    def n(self) -> int:
        """Number of samples."""
        return len(self.pred)

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """Whether the true class is known."""
        return np.asarray(self.label >= 0)

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """Whether the prediction is known to be wrong."""
        return np.asarray(self.labelled & (self.label != self.pred))

    def rng(self, *salt: object) -> np.random.Generator:
        """Return dice that depend on what is audited and the purpose alone."""
        text = "/".join([self.identity, *map(str, salt)])
        return np.random.default_rng(
            int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
        )


def halves(
    identity: str, contents: list[str], pred: NDArray[np.int32], label: NDArray[np.int32]
) -> NDArray[np.bool_]:
    """Return which samples are held back: every second image of each prediction and outcome, in the order of a hash.

    Copies of one image stay together: half of a twin would tell about the other.
    """
    salted = [hashlib.blake2b((identity + c).encode(), digest_size=8).hexdigest() for c in contents]
    strata: dict[tuple[int, int], list[str]] = {}
    seen: set[str] = set()
    for i in np.argsort(np.array(salted), kind="stable").tolist():
        if salted[i] not in seen:
            seen.add(salted[i])
            outcome = -1 if label[i] < 0 else int(label[i] != pred[i])
            strata.setdefault((int(pred[i]), outcome), []).append(salted[i])
    held: set[str] = set()
    odd = 0
    for _, stratum in sorted(strata.items()):
        # Strata of an odd size start with the other half by turns, or one half would gather all the odd ones.
        held.update(stratum[odd::2])
        odd ^= len(stratum) % 2
    return np.array([one in held for one in salted], dtype=bool)


def read_audited(catalog: Catalog) -> Audited:
    """Read what discovery needs of a run.

    Raises:
        RunDamagedError: A part is missing or cannot be read.
    """
    manifest = catalog.manifest
    compiler = catalog.compiler()
    known = sample_fields(manifest)
    maps = [name for name in statistic_fields(manifest) if name != AGREEMENT] if manifest.methods else []
    fields = [
        name
        for name, entry in known.items()
        if entry.kind in ("number", "time", "text", "boolean")
        and name not in OUTCOME_FIELDS
        and name not in ("correct", "labelled", "masked", "sample_id")
    ]
    parts = [f"s.{name} AS {identifier('.' + name)}" for name in ("sample_id", "content", "pred", "label")]
    parts += [f"{compiler.value(name)} AS {identifier(name)}" for name in fields]
    if manifest.methods:
        method = manifest.default_method
        parts += [f"{compiler.value(name, method)} AS {identifier('map/' + name)}" for name in maps]
        parts.append(f"{compiler.value('degenerate', method)} AS degenerate")
    rows = catalog.select(", ".join(parts), compiler, tail="ORDER BY s.sample")
    contents = rows[".content"].to_pylist()
    pred, label = _integers(rows[".pred"]), _integers(rows[".label"])
    p, present = _grids(catalog, rows.num_rows)
    audited = Audited(
        manifest.identity,
        list(manifest.classes),
        np.array(rows[".sample_id"].to_pylist(), dtype=np.str_),
        contents,
        pred,
        label,
        present,
        p,
        halves(manifest.identity, contents, pred, label),
        [],
        _attended(catalog, contents),
        np.full((rows.num_rows, 2), 0.5),
        np.full(rows.num_rows, np.nan),
    )
    if {"peak_x", "peak_y"} <= set(maps):
        audited.peak = np.column_stack([_floats(rows["map/peak_x"]), _floats(rows["map/peak_y"])])
    elif audited.n:
        cell = p.argmax(axis=1)
        audited.peak = (np.column_stack([cell % GRID, cell // GRID]) + 0.5) / GRID
    if "mass_inside" in maps:
        audited.outside = 1 - _floats(rows["map/mass_inside"])
    images = {one.name for one in manifest.image_statistics}
    for name in fields:
        column = _column(name, known[name].field.title, known[name].kind, known[name].single, rows[name])
        if column is not None:
            audited.columns.append(
                Column(**{**vars(column), "origin": "image"}) if name in images else column
            )
    for name in maps:
        title = statistic_fields(manifest)[name].title
        audited.columns.append(Column(name, title, _floats(rows["map/" + name]), (), "map"))
    return audited


def _grids(catalog: Catalog, n: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the shares of mass in the cells of every sample's map, read in blocks of rows."""
    p, present = np.zeros((n, CELLS), np.float32), np.zeros(n, bool)
    if not catalog.manifest.methods:
        return p, present
    source = catalog.source()
    placed = catalog.query(
        f"SELECT sample, attribution FROM {catalog.source_table(source)} WHERE NOT degenerate ORDER BY attribution"
    )
    samples, positions = placed["sample"].to_numpy(), placed["attribution"].to_numpy()
    # In the order on disk, so that each row group is read once or twice however many samples there are.
    for first in range(0, len(samples), BLOCK):
        some = slice(first, first + BLOCK)
        # Copies of an image share a row.
        wanted, back = np.unique(positions[some], return_inverse=True)
        table = catalog.rows_of_maps(source.method, wanted.tolist(), CORNERS)
        corners = np.column_stack([table[name].to_numpy() for name in CORNERS])[back]
        whole = np.isfinite(corners).all(axis=1)
        at = samples[some][whole]
        p[at] = np.maximum(grid_from_corners(corners[whole]), 0).reshape(-1, CELLS)
        present[at] = True
    return p, present


def _attended(catalog: Catalog, contents: list[str]) -> NDArray[np.float32] | None:
    table = catalog.read("embeddings", ["content", "attended_projection"])
    if not table.num_rows:
        return None
    column = table["attended_projection"].combine_chunks()
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    values = np.zeros((len(column), PROJECTION_SIZE), np.float32)
    flat = column.flatten().to_numpy(zero_copy_only=False)
    values[valid] = flat.astype(np.float32).reshape(-1, PROJECTION_SIZE)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    sound = np.isfinite(length) & (length > 0)
    unit = np.where(sound, values / np.where(sound, length, 1), 0).astype(np.float32)
    if not sound.any():
        return None
    place = {content: i for i, content in enumerate(table["content"].to_pylist())}
    at = np.array([place.get(content, -1) for content in contents], np.int64)
    return np.where((at >= 0)[:, None], unit[at], 0).astype(np.float32)


def _integers(column: pa.ChunkedArray) -> NDArray[np.int32]:
    filled: NDArray[np.int32] = column.fill_null(-1).to_numpy().astype(np.int32)
    return filled


def _floats(column: pa.ChunkedArray) -> NDArray[np.float64]:
    return np.asarray(column.cast(pa.float64()).fill_null(float("nan")).to_numpy(), np.float64)


def _column(name: str, title: str, kind: str, single: bool, values: pa.ChunkedArray) -> Column | None:
    """Return a field as rules take it; None where no rule could use it."""
    if kind == "number":
        return Column(name, title, _floats(values), (), "meta", single)
    if kind == "time":
        return None
    encoded = values.combine_chunks().dictionary_encode()
    if not 2 <= len(encoded.dictionary) <= MAX_LEVELS:
        return None
    codes = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.float64)
    return Column(name, title, codes, tuple(encoded.dictionary.to_pylist()))
