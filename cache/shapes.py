"""Whether what a JSON file holds has the types that a dataclass declares, at every depth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints


def misfit(value: object, kind: Any, where: str = "") -> str | None:
    """Return where a value that was read from JSON differs from a type, None where it fits.

    Whole numbers are counts here: none is negative, or needs more than 64 bits. A dataclass is an object whose keys are its fields; those with a
    default may be missing, and keys that it does not know are passed over.

    Args:
        value: What JSON gave.
        kind: A type as annotations write it: a class, a dataclass, Literal, a union, or a list or dict of these.
        where: Its place in the file, the beginning of the answer.
    """
    origin, arguments = get_origin(kind) or kind, get_args(kind)
    if origin in (list, dict):
        return _first(value, origin, arguments[-1:], where)
    if is_dataclass(kind):
        return _unlike(value, kind, where)
    return None if _fits(value, kind, origin, arguments) else where


def _fits(value: object, kind: Any, origin: Any, arguments: tuple[Any, ...]) -> bool:
    if kind is Any:
        return True
    if origin is Literal:
        return isinstance(value, str) and value in arguments
    if origin in (Union, UnionType):
        return any(misfit(value, one) is None for one in arguments)
    if kind in (int, float):
        number = isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
        return number and (kind is float or 0 <= value < 1 << 63)  # type: ignore[operator]
    return isinstance(value, kind)


def misfit_keys(value: Mapping[str, object], kinds: Mapping[str, Any], where: str) -> str | None:
    """Return which of an object's keys, where it has them, differs from its type."""
    found = (misfit(value[key], kind, f"{where}.{key}") for key, kind in kinds.items() if key in value)
    return next((place for place in found if place is not None), None)


def _first(value: object, container: type, of: tuple[Any, ...], where: str) -> str | None:
    """Return the place of the first item of a list or object that is not of the type that all of them have."""
    if not isinstance(value, container):
        return where
    if not of:
        return None
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = (misfit(item, of[0], f"{where}.{key}") for key, item in items)
    return next((place for place in found if place is not None), None)


def _unlike(value: object, kind: Any, where: str) -> str | None:
    if not isinstance(value, dict):
        return where
    hints = get_type_hints(kind)
    for field in fields(kind):
        place = f"{where}.{field.name}" if where else field.name
        if field.name not in value:
            if field.default is MISSING and field.default_factory is MISSING:
                return place
            continue
        found = misfit(value[field.name], hints[field.name], place)
        if found is not None:
            return found
    return None
