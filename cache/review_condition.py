"""The condition on what people said of an image: a tag, a verdict, a note, by somebody, or anything at all."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import Any

from cache.errors import FilterError, shown

VERDICTS = ("shortcut", "real feature", "wrong label", "unsure")
WRONG_LABEL = "wrong label"
MAX_WORDS = 1_000
_ASPECTS = ("tag", "verdict", "author", "note")


@dataclass(frozen=True)
class Reviewed:
    """Somebody reviewed the image; with nothing given, in whatever way. Its opposite holds for all other images.

    Attributes:
        tag: The image bears the tag.
        verdict: Somebody's verdict on it is this, one of `VERDICTS`.
        author: It is this person who tagged, judged or noted so; alone, anything by them that stands.
        note: One of its notes contains this text, in upper or lower case.
    """

    tag: str | None = None
    verdict: str | None = None
    author: str | None = None
    note: str | None = None

    def __post_init__(self) -> None:
        for aspect in _ASPECTS:
            object.__setattr__(self, aspect, _words(aspect, getattr(self, aspect)))
        if self.verdict is not None and self.verdict not in VERDICTS:
            raise FilterError(f"{shown(self.verdict)} is no verdict: choose one of {', '.join(VERDICTS)}.")

    @property
    def subject(self) -> str:
        """What the condition is about: another one about the same replaces it."""
        return "reviewed"

    def words(self) -> dict[str, str]:
        """Return what is asked for, as it stands in a link."""
        return {aspect: said for aspect in _ASPECTS if (said := getattr(self, aspect)) is not None}

    @classmethod
    def from_words(cls, words: dict[Any, Any]) -> Reviewed:
        """Read what `words` gave.

        Raises:
            FilterError: It asks for something else.
        """
        if set(words) - set(_ASPECTS):
            raise FilterError(
                "The filter asks for a kind of review that there is not: choose a tag, verdict, reviewer or note."
            )
        return cls(**words)

    def sentence(self, negated: bool = False) -> str:
        """Say the condition so that it continues "samples …"."""
        by = f" by {self.author}" if self.author is not None else ""
        said = [f"tagged “{self.tag}”"] if self.tag is not None else []
        said += [f"judged “{self.verdict}”"] if self.verdict is not None else []
        said += [f"noted “{_brief(self.note)}”"] if self.note is not None else []
        listed = f"{' and '.join(said) or 'reviewed'}{by}"
        return f"not {listed}" if negated and len(said) < 2 else f"not ({listed})" if negated else listed


def reviewed_alias(index: int) -> str:
    """Return the name under which the images of the nth condition on reviews are a table of a query."""
    return f"reviewed_{index}"


def _words(aspect: str, said: object) -> str | None:
    """Check words and bring them to the form in which reviews are kept."""
    if said is None:
        return None
    if not isinstance(said, str):
        raise FilterError(f"The {aspect} to filter by is a text: choose one.")
    try:
        said.encode()
    except UnicodeEncodeError as error:
        raise FilterError(f"The {aspect} to filter by holds broken characters: type it again.") from error
    text = unicodedata.normalize("NFC", said).strip()
    if not 0 < len(text) <= MAX_WORDS:
        raise FilterError(f"The {aspect} to filter by has 1 to {MAX_WORDS:,} characters: type another.")
    return text


def _brief(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 80 else f"{line[:79]}…"
