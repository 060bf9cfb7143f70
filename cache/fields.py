"""What the samples of a run can be filtered and sorted by, and how its classes are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from cache.errors import FilterError
from cache.manifest import Manifest
from cache.schema import META_PREFIX, SAMPLE_FIELDS, TARGET_PRED, Field

Kind = Literal["number", "time", "text", "boolean", "class"]
Target = Literal["pred", "true"]
TARGETS: tuple[Target, ...] = ("pred", "true")
CLASS_FIELDS = ("label", "pred")
MAX_NAMED = 12


@dataclass(frozen=True)
class Source:
    """One method's map of every sample, for the predicted (``pred``) or the true class (``true``)."""

    method: str
    target: Target


@dataclass(frozen=True)
class SampleField:
    """A field that every sample of a run has, or lacks for some.

    Attributes:
        field: Its declaration.
        kind: What its values are.
        single: Whether numbers are stored in single precision, so that bounds are compared in it.
    """

    field: Field
    kind: Kind
    single: bool = False


def _plain(name: str, title: str, description: str) -> Field:
    return Field(name, title, "", None, None, "none", description)


def sample_fields(manifest: Manifest) -> dict[str, SampleField]:
    """Return everything that belongs to a sample itself, by name, in the order that people meet it."""
    known = {
        "label": SampleField(_plain("label", "Label", "The true class."), "class"),
        "pred": SampleField(_plain("pred", "Prediction", "The predicted class."), "class"),
        "correct": SampleField(
            _plain("correct", "Correct", "Whether the prediction is the label."), "boolean"
        ),
        "labelled": SampleField(
            _plain("labelled", "Labelled", "Whether the true class is known."), "boolean"
        ),
        "masked": SampleField(
            _plain("masked", "Object known", "Whether a mask or box of the object is known."), "boolean"
        ),
        "split": SampleField(_plain("split", "Split", "The dataset's split."), "text"),
        "sample_id": SampleField(_plain("sample_id", "Sample", "The sample's identity."), "text"),
    }
    for field in SAMPLE_FIELDS:
        known[field.name] = SampleField(field, "number", field.name not in ("width", "height"))
    for field in manifest.image_statistics:
        known.setdefault(field.name, SampleField(field, "number", True))
    for entry in manifest.meta:
        name, kind = entry["name"], entry["type"]
        title = name.removeprefix(META_PREFIX)
        described = _plain(name, title, f"Metadata of the dataset: {title}.")
        # SQL does not tell "meta.Site" from "meta.site": only the first of them can be asked for.
        alike = name.lower() in {other.lower() for other in known}
        if name.startswith(META_PREFIX) and kind in ("number", "time", "text", "boolean") and not alike:
            known[name] = SampleField(described, kind)  # type: ignore[arg-type]
    return known


def statistic_fields(manifest: Manifest) -> dict[str, Field]:
    """Return the statistics of attributions, by name."""
    return {field.name: field for field in manifest.statistics}


def is_statistic(manifest: Manifest, name: str, method: str | None, target: str | None) -> bool:
    """Tell whether a field is a statistic of attributions rather than of samples.

    Some names mean both (``entropy`` of the prediction, of the map): naming a method or target asks for the map's.
    """
    if method is None and target is None and name in sample_fields(manifest):
        return False
    return name == "degenerate" or name in statistic_fields(manifest)


def resolve_source(manifest: Manifest, method: str | None, target: str | None) -> Source:
    """Return the map meant by a method (None for the run's default) and a target (None for the predicted class).

    Raises:
        FilterError: The run has no such method, or there is no such target.
    """
    chosen = manifest.default_method if method is None else method
    if chosen not in manifest.methods:
        if not manifest.methods:
            raise FilterError(
                "This run holds no attributions yet: wait until the first are published, or run `explain` again."
            )
        raise FilterError(
            f"This run has no method {quote(chosen)}: choose one of {', '.join(manifest.methods)}, or compute it with "
            "`python -m engine explain --methods`."
        )
    wanted = TARGET_PRED if target is None else target
    for known in TARGETS:
        if wanted == known:
            return Source(chosen, known)
    raise FilterError(f"A map's target is pred or true, not {quote(wanted)}: choose one of them.")


def unknown_field(name: str, known: Iterable[str]) -> FilterError:
    """Return the error for a field that the run does not have."""
    names = list(known)
    listed = ", ".join(names[:MAX_NAMED]) + (", …" if len(names) > MAX_NAMED else "")
    return FilterError(f"This run has no field {quote(name)}: choose one of {listed}.")


def quote(text: object) -> str:
    """Write someone's text into a sentence: in quotes, on one line, not longer than it is useful."""
    line = "".join(c if c.isprintable() else " " for c in str(text))
    return f"“{line[:60]}…”" if len(line) > 60 else f"“{line}”"


def class_title(classes: Sequence[str], index: int) -> str:
    """Name an output for people: its class, with the index where two outputs share the name."""
    if not 0 <= index < len(classes):
        return f"class {index}"
    name = classes[index]
    return f"{name} ({index})" if classes.count(name) > 1 else name


def class_titles(classes: Sequence[str]) -> list[str]:
    """Name all outputs for people; no two are alike."""
    count = Counter(classes)
    return [f"{name} ({i})" if count[name] > 1 else name for i, name in enumerate(classes)]


def class_index(classes: Sequence[str], value: object) -> int:
    """Return the output that a class name or an index means.

    Raises:
        FilterError: No output, or more than one, has that name; or the index is none.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        if 0 <= value < len(classes):
            return value
        raise FilterError(
            f"There is no class {str(value)[:20]}: the model's outputs are numbered 0 to {len(classes) - 1}."
        )
    found = [i for i, name in enumerate(classes) if name == value]
    if not found:
        listed = ", ".join(classes[:MAX_NAMED]) + (", …" if len(classes) > MAX_NAMED else "")
        raise FilterError(f"There is no class {quote(value)}: choose one of {listed}.")
    if len(found) > 1:
        indices = " or ".join(str(i) for i in found)
        raise FilterError(f"{len(found)} outputs are called {quote(value)}: choose by index, {indices}.")
    return found[0]
