"""Takes out of a bundle what says where things lie: absolute paths, the dataset's root, hosts and signatures of URLs."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

import pyarrow as pa
import pyarrow.compute as pc

from cache.locations import Location
from cache.manifest import Manifest
from cache.review_events import Event, Subject

ELSEWHERE = "external"
"""Folder, in neutral names, of what does not lie below the dataset's root."""
LONGEST_NAME = 80
PLACE = r"^[/\\~]|^[A-Za-z]:[\\/]|://|(?:^|[/\\])\.\.(?:[/\\]|$)"
"""What a name looks like that says more than a place below the dataset's root (also for Arrow)."""
_PLACE = re.compile(PLACE)
_ABSOLUTE = re.compile(r"[/\\~]|[A-Za-z]:[\\/]")
_URL = re.compile(r"(?i)\b([a-z][a-z0-9+.-]*)://([^\s\"'<>`\\]+)")
_POSIX = re.compile(r"(?<![\w/\\.~%+-])~?(?:/[^\s/\"'<>|`,;:()\[\]{}\\]+){2,}/?")
_WINDOWS = re.compile(r"(?<!\w)(?:[A-Za-z]:[\\/]|\\\\)[^\s\"'<>|`,;]+")
_SEPARATED = r"[/\\]|%2[Ff]|%5[Cc]"
_PLACES = ("source", "weights", "root", "data", "model", "checkpoint")
"""Keys of the manifest whose values say where something lies."""
_UNTOUCHED = ("classes", "parts", "run_id")
"""Keys of the manifest whose values are names, even where they look like paths."""


class Privacy:
    """Knows where a run and its dataset lie, and writes everything so that nobody else does.

    Attributes:
        taken: Ids that samples have already, so that no neutral name becomes one of them.
    """

    def __init__(self, manifest: Manifest, run: Location) -> None:
        root = str(manifest.dataset.get("root") or "")
        source = str(manifest.dataset.get("source") or "")
        places = {root, source, str(run), str(run.absolute()), str(run.resolve()), str(Path.home())}
        places |= {os.path.realpath(p) for p in (root, source) if p.startswith("/")}
        trimmed = {place.rstrip("/\\") for place in places if _PLACE.search(place)}
        self._places = sorted((p for p in trimmed if len(p) > 1), key=len, reverse=True)
        self._root = root.rstrip("/\\")
        self._classes = frozenset(manifest.classes)
        self.taken: set[str] = set()
        written = {form for p in self._places for form in (p, quote(p), quote(p, safe=""))}
        longest = sorted(written, key=len, reverse=True)
        either = "|".join(re.escape(p) for p in longest)
        self._known = re.compile(rf"(?<!\w)(?:{either})(?:(?P<below>/|%2F)|(?![\w-]|\.\w))")

    def name(self, place: str) -> str:
        """Return a neutral name for a uri or an id: relative to the root, or below `ELSEWHERE` under a digest of it.

        Names that do not look like places stay; different places have different names.
        """
        if not _PLACE.search(place):
            return place
        below = place.removeprefix(self._root + "/") if self._root else ""
        if (
            below not in (place, "")
            and not _PLACE.search(below)
            and not set("?#") & set(below)
            and below not in self.taken
        ):
            return below
        known = hashlib.blake2b(place.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()
        return f"{ELSEWHERE}/{known}/{leaf(place)}"

    def text(self, text: str) -> str:
        """Return a text without the places in it: of a path its last part stays, of a URL what is not signed."""
        text = _URL.sub(self._url, text)
        text = self._known.sub(lambda found: "" if found["below"] else leaf(unquote(found[0])), text)
        text = _WINDOWS.sub(lambda found: leaf(found[0]), text)
        return _POSIX.sub(lambda found: leaf(found[0]), text)

    def value(self, value: Any, key: str = "") -> Any:
        """Return a JSON value with every text in it made neutral.

        Args:
            value: What is said.
            key: Under which key: what says where something lies is a path from end to end, whatever is in it.
        """
        if isinstance(value, str):
            if value in self._classes:
                return value
            if key == "command":
                return shlex.join(self.value(word) for word in _words(value))
            whole = _ABSOLUTE.match(value) and (key in _PLACES or not re.search(r"\s", value))
            return leaf(value) if whole else self.text(value)
        if isinstance(value, list | tuple):
            return [self.value(one, key) for one in value]
        if isinstance(value, dict):
            return {name: self.value(one, name) for name, one in value.items()}
        return value

    def names(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        """Return a column of uris or ids with neutral names."""
        return _changed(column, PLACE, self.name)

    def texts(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        """Return a column of texts or of lists of them, such as metadata or messages, without places."""
        if pa.types.is_nested(column.type):
            return pa.chunked_array([pa.array(self._cells(column.to_pylist()), column.type)])
        return _changed(column, _SEPARATED, self._cell)

    def json_texts(self, column: pa.ChunkedArray) -> pa.ChunkedArray:
        """Return a column of JSON without places; samples in it have the names that they have in the bundle."""
        return _changed(column, _SEPARATED, self._json)

    def manifest(self, manifest: Manifest) -> dict[str, Any]:
        """Return what a manifest says, as JSON, without places; its parts are left as they are."""
        data = asdict(manifest)
        source = str(manifest.dataset.get("source") or "")
        kept = {key: data[key] for key in _UNTOUCHED}
        scrubbed: dict[str, Any] = {**self.value(data), **kept}
        scrubbed["dataset"] |= {
            "root": "",
            "source": leaf(source) if _PLACE.search(source) else self.text(source),
        }
        return scrubbed | {"retired": []}

    def event(self, event: Event) -> Event:
        """Return a review whose words name no place; a link to a sample keeps leading to it."""
        payload = {
            key: self._link(text) if key == "url" else self.value(text, "said")
            for key, text in event.payload.items()
        }
        about = tuple(
            Subject(s.type, self._json(s.key, True)) if s.type in ("selection", "finding") else s
            for s in event.subjects
        )
        return Event(event.id, event.author, event.time, event.kind, payload, about)

    def _json(self, text: str, compact: bool = False) -> str:
        try:
            said = json.loads(text)
        except (ValueError, RecursionError):
            return self.text(text)
        neutral = self._cells(said)
        if neutral == said:
            return text
        return json.dumps(neutral, ensure_ascii=False, separators=(",", ":") if compact else None)

    def _cells(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._cell(value)
        if isinstance(value, list | tuple):
            return [self._cells(one) for one in value]
        if isinstance(value, dict):
            # A painted mask is base64, which may look like a path.
            return {key: one if key == "mask" else self._cells(one) for key, one in value.items()}
        return value

    def _cell(self, text: str) -> str:
        if text in self._classes:
            return text
        return self.text(self.name(text) if _is_place(text) else text)

    def _link(self, url: str) -> str:
        path, mark, query = url.partition("?")
        pairs = parse_qsl(query, keep_blank_values=True)
        neutral = [
            (key, self._json(value, True) if value[:1] in ("{", "[") else self._cell(value))
            for key, value in pairs
        ]
        return self.text(path) + mark + (query if neutral == pairs else urlencode(neutral))

    def _url(self, found: re.Match[str]) -> str:
        scheme, rest = found[1], found[2]
        bare = re.split(r"[?#]", rest, maxsplit=1)[0]
        host, slash, path = bare.partition("/")
        whole = f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
        if self._root and whole.startswith(self._root + "/"):
            return whole.removeprefix(self._root + "/")
        return leaf(path) if scheme.lower() == "file" else whole


def leaf(place: str) -> str:
    """Return the last part of a path or URL, without what signs it."""
    parts = [part for part in re.split(r"[/\\]", re.split(r"[?#]", place, maxsplit=1)[0]) if part]
    last = parts[-1] if parts else ""
    return "" if last in ("..", "~") or last.endswith(":") else last[-LONGEST_NAME:]


def _changed(column: pa.ChunkedArray, pattern: str, change: Callable[[str], str]) -> pa.ChunkedArray:
    """Return a column of texts, those that match a pattern changed."""
    text = column.cast(pa.string())
    if not pc.any(pc.match_substring_regex(text, pattern)).as_py():
        return column
    changed = [None if value is None else change(value) for value in text.to_pylist()]
    return pa.chunked_array([pa.array(changed, column.type)])


def _is_place(text: str) -> bool:
    """Tell whether the whole of a text is a path or URL."""
    absolute = _ABSOLUTE.match(text) is not None and "\n" not in text
    return absolute or (_PLACE.search(text) is not None and not re.search(r"\s", text))


def _words(command: object) -> list[str]:
    try:
        return shlex.split(str(command))
    except ValueError:
        return str(command).split()
