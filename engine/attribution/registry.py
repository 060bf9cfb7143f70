"""Every method of attribution, registered once: its name, parameters, needs, reference and cost.

The command line, the documentation and the test-suite find methods here and nowhere else. A built-in method and
an extension come in by the same door, :func:`register`.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from cache.errors import MethodError
from cache.schema import Column

Family = Literal["activation", "gradient", "perturbation"]
Need = Literal["gradients", "spatial_layer", "linear_head", "attention", "forward_only"]
Value = bool | int | float | str

PRESETS: dict[str, str] = {
    "fast": "the activation family, all from one forward pass",
    "standard": "the activation and the gradient family",
    "thorough": "every method, the perturbation family included: thousands of forward passes an image",
}
"""Names that stand for several methods; each method says which of them it belongs to."""

_MODULES = (
    "engine.attribution.cams",
    "engine.attribution.attention",
    "engine.attribution.sensitivity",
    "engine.attribution.occlusions",
    "engine.attribution.superpixel_methods",
    "engine.attribution.ablations",
)
"""Modules whose import registers the built-in methods."""

_METHODS: dict[str, Method] = {}
_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_KINDS = {"bool": "true or false", "int": "a whole number", "float": "a number", "str": "a word"}
_ITEM = re.compile(r"^(?P<name>[\w.+-]+)\s*(?:\((?P<arguments>[^()]*)\))?$")

Compute = TypeVar("Compute", bound=Callable[..., Any])


@dataclass(frozen=True)
class Parameter:
    """One setting of a method.

    Attributes:
        name: Keyword under which the method receives it.
        default: Value when nothing is given; its type is the parameter's type.
        description: One sentence.
        low: Smallest value allowed, None where unbounded.
        high: Largest value allowed, None where unbounded.
        choices: The only values allowed, empty where any will do.
        keyed: Whether it changes the result and therefore belongs to the cache key.
    """

    name: str
    default: Value
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    keyed: bool = True

    @property
    def type(self) -> str:
        """Name of the value's type: bool, int, float or str."""
        return type(self.default).__name__

    @property
    def allowed(self) -> str:
        """Return what may be given, in words."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        words = _KINDS[self.type]
        if self.low is not None and self.high is not None:
            return f"{words} from {self.low:g} to {self.high:g}"
        if self.low is not None:
            return f"{words} of at least {self.low:g}"
        if self.high is not None:
            return f"{words} of at most {self.high:g}"
        return words

    def read(self, given: Value) -> Value | None:
        """Return the value as the parameter's type, or None where it is not allowed."""
        value = self._convert(given)
        if value is None or (self.choices and value not in self.choices):
            return None
        if isinstance(value, int | float) and not isinstance(value, bool):
            if not math.isfinite(value):
                return None
            if (self.low is not None and value < self.low) or (self.high is not None and value > self.high):
                return None
        return value

    def _convert(self, given: Value) -> Value | None:
        text = str(given).strip()
        try:
            match self.type:
                case "bool":
                    return _TRUTHS.get(text.lower())
                case "int":
                    return int(text)
                case "float":
                    return float(text)
                case _:
                    return text
        except ValueError:
            return None


@dataclass(frozen=True)
class Method:
    """One way to attribute a score to the image, and what the rest of the project must know about it.

    Attributes:
        name: What people type and what its table is called.
        title: What people read.
        family: Which engine runs it.
        summary: One sentence: what its map shows.
        reference: Authors, year and arXiv number or DOI.
        compute: The function itself; what it is given depends on the family.
        parameters: Its settings.
        needs: What the network must offer.
        signed: Whether its map may hold negative values.
        class_dependent: Whether the map of another class differs.
        passes: What it costs for one image and class, in words.
        presets: Names of the presets that it belongs to.
        columns: Columns of its own that it keeps beside its maps.
        trust: Numbers of `engine.trust.TRUST` that come with each of its maps.
        version: Raised whenever the implementation's result changes, so that stored maps are recomputed.
    """

    name: str
    title: str
    family: Family
    summary: str
    reference: str
    compute: Callable[..., Any] = field(repr=False)
    parameters: tuple[Parameter, ...] = ()
    needs: frozenset[Need] = frozenset()
    signed: bool = False
    class_dependent: bool = True
    passes: str = "1 forward"
    presets: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    trust: tuple[str, ...] = ()
    version: int = 1

    def resolve(self, given: Mapping[str, Value] | None = None) -> dict[str, Value]:
        """Return every parameter's value, defaults filled in; MethodError names what is not allowed."""
        known = {parameter.name: parameter for parameter in self.parameters}
        values: dict[str, Value] = {name: parameter.default for name, parameter in known.items()}
        for name, value in (given or {}).items():
            if name not in known:
                offered = f"it has {', '.join(known)}" if known else "it has none"
                raise MethodError(f"method '{self.name}' has no parameter '{name}': {offered}.")
            read = known[name].read(value)
            if read is None:
                allowed = known[name].allowed
                raise MethodError(
                    f"'{name}={value}' is not allowed for method '{self.name}': give {allowed}."
                )
            values[name] = read
        return values

    def key(self, parameters: Mapping[str, Value] | None = None, target_layer: str = "") -> str:
        """Return the 16 hexadecimal digits under which this method's maps are reused.

        They cover the name, the implementation's version, the parameters that change the result and, for a
        method on a layer's activations, that layer.
        """
        values = self.resolve(parameters)
        keyed = {p.name: values[p.name] for p in self.parameters if p.keyed}
        layer = target_layer if "spatial_layer" in self.needs else ""
        text = json.dumps([self.name, self.version, keyed, layer], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class MethodRequest:
    """A method together with the parameters it is asked to run with."""

    method: Method
    parameters: Mapping[str, Value]

    @property
    def name(self) -> str:
        """Name of the method."""
        return self.method.name

    def key(self, target_layer: str = "") -> str:
        """Return the key under which the maps of this request are reused."""
        return self.method.key(self.parameters, target_layer)


def register(
    name: str,
    *,
    title: str,
    family: Family,
    summary: str,
    reference: str,
    parameters: Iterable[Parameter] = (),
    needs: Iterable[Need] = (),
    signed: bool = False,
    class_dependent: bool = True,
    passes: str = "1 forward",
    presets: Iterable[str] = (),
    columns: Iterable[Column] = (),
    trust: Iterable[str] = (),
    version: int = 1,
) -> Callable[[Compute], Compute]:
    """Return a decorator that registers a function as a method; see :class:`Method` for the words."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError(f"method name {name!r} must be lower-case letters, digits and underscores")
    unknown = set(presets) - set(PRESETS)
    if unknown:
        raise ValueError(f"method {name!r} names unknown presets {sorted(unknown)}")

    def enter(compute: Compute) -> Compute:
        if name in _METHODS or name in PRESETS:
            raise ValueError(f"method {name!r} is registered already")
        _METHODS[name] = Method(
            name=name,
            title=title,
            family=family,
            summary=summary,
            reference=reference,
            compute=compute,
            parameters=tuple(parameters),
            needs=frozenset(needs),
            signed=signed,
            class_dependent=class_dependent,
            passes=passes,
            presets=tuple(presets),
            columns=tuple(columns),
            trust=tuple(trust),
            version=version,
        )
        return compute

    return enter


def unregister(name: str) -> None:
    """Forget a method; for extensions that are loaded and unloaded, and for tests."""
    _METHODS.pop(name, None)


def methods() -> dict[str, Method]:
    """Return every registered method by name, built-ins first."""
    for module in _MODULES:
        importlib.import_module(module)
    return dict(_METHODS)


def parse_methods(text: str) -> tuple[MethodRequest, ...]:
    """Read ``gradcam,eigencam(center=true)`` or a preset's name.

    A method that is named beside a preset which holds it keeps the parameters given with its name.

    Raises:
        MethodError: A name is unknown or repeated, or a parameter is not allowed.
    """
    known = methods()
    named: dict[str, MethodRequest] = {}
    order: dict[str, None] = {}
    for item in _split(text):
        found = _ITEM.match(item)
        if found is None:
            raise MethodError(f"'{item}' is not a method: write NAME or NAME(parameter=value, …).")
        name, arguments = found["name"].lower(), found["arguments"]
        if name in PRESETS and arguments is None:
            order.update(dict.fromkeys(m.name for m in known.values() if name in m.presets))
            continue
        if name not in known:
            raise MethodError(_unknown(name, (*PRESETS, *known)))
        if name in named:
            raise MethodError(f"method '{name}' is named twice: a run holds one map of each method.")
        order[name] = None
        named[name] = MethodRequest(known[name], known[name].resolve(_arguments(item, arguments or "")))
    if not order:
        offered = ", ".join((*PRESETS, *known))
        raise MethodError(f"no method was named: choose from {offered}.")
    return tuple(named.get(name) or MethodRequest(known[name], known[name].resolve()) for name in order)


def _split(text: str) -> list[str]:
    """Split at the commas that stand outside brackets."""
    return [item.strip() for item in re.split(r",(?![^()]*\))", text) if item.strip()]


def _arguments(item: str, text: str) -> dict[str, Value]:
    given: dict[str, Value] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not equals or not name or not value or name in given:
            raise MethodError(f"'{pair}' in '{item}' is not a parameter: write each one once, as name=value.")
        given[name] = value
    return given


def _unknown(name: str, offered: Iterable[str]) -> str:
    names = list(offered)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return f"there is no method '{name}': did you mean {' or '.join(close)}?"
    return f"there is no method '{name}': choose from {', '.join(names)}."
