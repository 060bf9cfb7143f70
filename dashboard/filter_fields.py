"""The rest of the filter bar: ranges of any number, metadata, splits and ids."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import streamlit as st

from cache import queries
from cache.fields import Kind, sample_fields
from cache.filters import Is, OneOf, Range, Text
from cache.schema import META_PREFIX, SAMPLE_FIELDS, Field
from dashboard.components.chart import chart
from dashboard.data import ask
from dashboard.facets import MOST_VALUES, counts_of, is_large, meant, with_count
from dashboard.field_help import field_help
from dashboard.figures import look_of
from dashboard.notices import plain
from dashboard.object_conditions import object_conditions
from dashboard.session import TARGETS, PageContext, update_filter
from dashboard.spark_figure import spark_figure

STEPS = 200
ANSWERS = {"any": ..., "yes": True, "no": False, "unknown": None}
_OPENED = "filter_opened"
_ADD = "filter_add"
IN_BAR = ("label", "pred", "correct", "confidence", "sample_id")


@dataclass(frozen=True)
class Choice:
    """A number that samples can be filtered or sorted by.

    Attributes:
        key: Its name in links and widgets; a statistic of maps starts with ``map.``.
        field: Its declaration.
        group: Which kind it is, for people.
        kind: ``number`` or ``time``.
    """

    key: str
    field: Field
    group: str
    kind: Kind = "number"

    @property
    def of_map(self) -> bool:
        """Whether it is a statistic of maps, which needs a method and a target."""
        return self.key.startswith("map.")

    @property
    def title(self) -> str:
        """What people choose it by."""
        return f"{self.group} · {self.field.title}"


def numbers(context: PageContext) -> dict[str, Choice]:
    """Return every number of samples and maps by key: attention first, then prediction, image and metadata."""
    manifest = context.manifest
    found: dict[str, Choice] = {}
    if manifest.methods:
        for field in manifest.statistics:
            found[f"map.{field.name}"] = Choice(f"map.{field.name}", field, "Attention")
    of_prediction = {field.name for field in SAMPLE_FIELDS}
    for name, entry in sample_fields(manifest).items():
        if entry.kind in ("number", "time"):
            group = (
                "Metadata"
                if name.startswith(META_PREFIX)
                else "Prediction"
                if name in of_prediction and name not in ("width", "height")
                else "Image"
            )
            found[name] = Choice(name, entry.field, group, entry.kind)
    return found


def more_filters(context: PageContext) -> None:
    """Draw what the popover of the filter bar holds."""
    choices = numbers(context)
    _text(context)
    object_conditions(context)
    if is_large(context):
        st.caption(
            "Counts are those of the whole run: of a run this large, those of every selection would take long."
        )
    for name, entry in sample_fields(context.manifest).items():
        if name in IN_BAR or name == "labelled":
            continue
        if entry.kind == "text":
            _values(context, name, entry.field.title)
        elif entry.kind == "boolean":
            _answer(context, name, entry.field.title)
    conditions = {c.subject for c in context.filter.conditions if isinstance(c, Range)}
    opened: list[str] = st.session_state.setdefault(_OPENED, [])
    for key in [*(k for k in choices if k in conditions), *(k for k in opened if k in choices)]:
        if key not in IN_BAR and (key in conditions or key in opened):
            conditions.discard(key)
            _range(context, choices[key])
    shown = {c.subject for c in context.filter.conditions} | set(opened) | set(IN_BAR)

    def add() -> None:
        chosen = st.session_state[_ADD]
        if chosen:
            st.session_state[_OPENED] = [*st.session_state[_OPENED], chosen]
        st.session_state[_ADD] = None

    st.selectbox(
        "Add a range",
        [key for key in choices if key not in shown],
        index=None,
        key=_ADD,
        on_change=add,
        format_func=lambda key: choices[key].title,
        placeholder="border mass, brightness, …",
    )


def _text(context: PageContext) -> None:
    current = context.filter.get("sample_id")
    key = "filter_sample_id"
    st.session_state[key] = current.contains if isinstance(current, Text) else ""

    def change() -> None:
        typed = st.session_state[key].strip()
        update_filter("sample_id", Text("sample_id", typed[:1000]) if typed else None)

    st.text_input(
        "Name contains", key=key, on_change=change, placeholder="part of an id", icon=":material/search:"
    )


def _values(context: PageContext, name: str, title: str) -> None:
    table = ask(context.catalog, queries.distinct, name)
    whole: dict[Any, int] = dict(
        zip(table["value"].to_pylist()[:MOST_VALUES], table["n"].to_pylist(), strict=False)
    )
    counts = counts_of(context, name)
    current = context.filter.get(name)
    chosen = list(current.values) if isinstance(current, OneOf) else []
    if not chosen and set(whole) <= {None}:
        return
    key = f"filter_{name}"
    st.session_state[key] = chosen

    options = [*whole, *(value for value in chosen if value not in whole)]

    def said(value: Any) -> str:
        return with_count(
            "unknown" if value is None else str(value), value, whole if is_large(context) else counts
        )

    def change() -> None:
        values = tuple(meant(st.session_state[key], options, said))
        update_filter(name, OneOf(name, values) if values else None)

    st.multiselect(
        plain(title), options, key=key, on_change=change, format_func=said, placeholder="any",
        filter_mode="contains",
    )  # fmt: skip


def _answer(context: PageContext, name: str, title: str) -> None:
    counts = counts_of(context, name)
    current = context.filter.get(name)
    value = current.value if isinstance(current, Is) else ...
    key = f"filter_{name}"
    st.session_state[key] = next(answer for answer, meant in ANSWERS.items() if meant is value)

    unknown = counts is None or counts.get(None) or value is None
    answers = [answer for answer, meant in ANSWERS.items() if meant is not None or unknown]

    def said(answer: str) -> str:
        return answer if answer == "any" else with_count(answer, ANSWERS[answer], counts)

    def change() -> None:
        chosen = ANSWERS[next(iter(meant([st.session_state[key]], answers, said)), "any")]
        update_filter(name, None if chosen is ... else Is(name, chosen))  # type: ignore[arg-type]

    st.segmented_control(
        plain(title), answers, key=key, on_change=change, required=True, format_func=said,
    )  # fmt: skip


def _range(context: PageContext, choice: Choice) -> None:
    current = context.filter.get(choice.key)
    if current is not None and not isinstance(current, Range):
        return
    method, target = None, None
    if choice.of_map:
        method = (current.method if current else None) or context.manifest.default_method
        target = (current.target if current else None) or context.target
        method, target = _map_of(context, choice, method, target, current)
    found = ask(context.catalog, queries.field_range, choice.field.name, method, target)
    if found is None or found[0] == found[1]:
        st.caption(f"{plain(choice.field.title)}: every image has the same value, or none.")
        return
    scale = Scale(choice.kind, *found)
    key = f"filter_{choice.key}"
    bounds = (current.low, current.high) if current else (None, None)
    st.session_state[key] = scale.shown(bounds)

    def change() -> None:
        low, high = scale.meant(st.session_state[key])
        nothing = low is None and high is None
        condition = None if nothing else Range(choice.field.name, low, high, method, target)
        if nothing and choice.key not in st.session_state[_OPENED]:
            st.session_state[_OPENED] = [*st.session_state[_OPENED], choice.key]
        update_filter(choice.key, condition)

    unit = f" ({choice.field.unit})" if choice.field.unit else ""
    title = plain(f"{choice.field.title}{unit}")
    # The name, the distribution and the slider below it, which lines up with it.
    place = st.container(key=f"filter_range_{choice.key}", gap=None)
    place.caption(title, help=field_help(choice.field))
    if choice.kind == "number":
        rest = context.filter.without(choice.key)
        shape = ask(context.catalog, queries.histogram, rest, choice.field.name, method, target)
        look = look_of(st.context.theme.type)
        with place:
            chart(
                spark_figure(shape.edges, shape.counts, bounds, look),
                f"filter_{choice.key}_shape",
                f"How {choice.field.title} is distributed over the rest of the selection",
            )
    place.slider(
        title, *scale.ends, step=scale.step, key=key, on_change=change, format=scale.format,
        label_visibility="collapsed",
    )  # fmt: skip


def _map_of(
    context: PageContext, choice: Choice, method: str, target: str, current: Range | None
) -> tuple[str, str]:
    """Let people choose whose map a statistic is of; the choice lives in the condition once there is one."""
    left, right = st.columns(2)
    method_key, target_key = f"filter_{choice.key}_method", f"filter_{choice.key}_target"
    if current is None:
        method = st.session_state.get(method_key, method)
        target = st.session_state.get(target_key, target)
    st.session_state[method_key], st.session_state[target_key] = method, target

    def change() -> None:
        if current is not None:
            changed = Range(
                choice.field.name,
                current.low,
                current.high,
                st.session_state[method_key],
                st.session_state[target_key],
            )
            update_filter(choice.key, changed)

    titles = {name: str(entry.get("title", name)) for name, entry in context.manifest.methods.items()}
    left.selectbox(
        f"{choice.field.title} of",
        list(titles),
        key=method_key,
        on_change=change,
        format_func=lambda name: titles[name],
    )
    right.selectbox(
        "for the", list(TARGETS), key=target_key, on_change=change, format_func=lambda t: TARGETS[t].lower()
    )
    return method, target


@dataclass(frozen=True)
class Scale:
    """A slider's scale over the values that occur; an end means no bound on that side.

    Attributes:
        kind: ``number`` or ``time`` (seconds since 1970).
        low: Smallest value.
        high: Largest value.
    """

    kind: Kind
    low: float
    high: float

    @property
    def unit(self) -> float:
        """The step between two positions: a round number, some 200 of which make the range."""
        if self.kind == "time":
            return 86_400.0 if self.high - self.low > 10 * 86_400 else 60.0
        rough = (self.high - self.low) / STEPS
        return float(10.0 ** math.floor(math.log10(rough)))

    @property
    def numbers(self) -> tuple[float, float]:
        """The ends as numbers, on whole steps and around every value."""
        return self._at(math.floor(self.low / self.unit)), self._at(math.ceil(self.high / self.unit))

    def _at(self, steps: float) -> float:
        digits = max(0, -math.floor(math.log10(self.unit)))
        return round(steps * self.unit, digits)

    @property
    def ends(self) -> tuple[Any, Any]:
        """The ends as the slider takes them."""
        return self._of(self.numbers[0]), self._of(self.numbers[1])

    @property
    def step(self) -> Any:
        """The step as the slider takes it."""
        return timedelta(seconds=self.unit) if self.kind == "time" else self.unit

    @property
    def format(self) -> str | None:
        """How values are written; None leaves it to the slider."""
        if self.kind == "time":
            return "YYYY-MM-DD" if self.unit >= 86_400 else "YYYY-MM-DD HH:mm"
        return f"%.{max(0, -math.floor(math.log10(self.unit)))}f"

    def _of(self, value: float) -> Any:
        return datetime.fromtimestamp(value, UTC).replace(tzinfo=None) if self.kind == "time" else value

    def shown(self, bounds: Sequence[Any]) -> tuple[Any, Any]:
        """Return a condition's bounds as positions of the slider."""
        first, last = self.numbers
        given = [self._number(bound, end) for bound, end in zip(bounds, (first, last), strict=True)]
        low, high = (min(max(value, first), last) for value in given)
        return self._of(low), self._of(high)

    def _number(self, bound: Any, end: float) -> float:
        if bound is None:
            return end
        if self.kind != "time":
            return float(bound) if isinstance(bound, int | float) else end
        try:
            return datetime.fromisoformat(str(bound)).replace(tzinfo=UTC).timestamp()
        except ValueError:
            return end

    def meant(self, positions: Sequence[Any]) -> tuple[Any, Any]:
        """Return the bounds that positions of the slider mean; None at an end."""
        ends = self.ends
        low, high = (None if at == end else at for at, end in zip(positions, ends, strict=True))
        if self.kind == "time":
            low, high = (None if at is None else at.isoformat() for at in (low, high))
        return low, high
