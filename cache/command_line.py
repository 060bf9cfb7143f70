"""How both command lines end: a mistake is one sentence on standard error and exit code 2, never a traceback."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

from cache.errors import GazelakeError

EXIT_MISTAKE = 2
_EXIT_UNREAD = 1
"""Whoever read our output has gone away, as `head` does: nothing to say, and nobody to say it to."""


def run_command(command: Callable[[], object], program: str) -> NoReturn:
    """Run a command and leave with its exit code.

    Args:
        command: The command line of a room, in a mode in which it raises its usage errors and returns exit codes.
        program: What a person types to start it, for the hint at ``--help``.
    """
    _write_anything()
    try:
        code = command()
        if sys.stdout is not None:
            sys.stdout.flush()
    except GazelakeError as error:
        _leave(str(error))
    except BrokenPipeError:
        _silence_output()
        sys.exit(_EXIT_UNREAD)
    except OSError as error:
        if not _output_fails():
            raise
        _silence_output()
        _leave(
            f"What {program} prints cannot be written ({error.strerror or error}): send it to a place with room for it."
        )
    except Exception as error:
        sentence = _usage_sentence(error, program)
        if sentence is None:
            raise
        _leave(sentence)
    sys.exit(code if isinstance(code, int) else 0)


def _leave(sentence: str) -> NoReturn:
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in sentence)
    with suppress(OSError):
        print(f"Error: {line}", file=sys.stderr, flush=True)
    sys.exit(EXIT_MISTAKE)


def _usage_sentence(error: Any, program: str) -> str | None:
    """Return what is wrong with the words that were typed, None where the error is another one.

    Click's errors are known by their ``format_message``: Typer carries a Click of its own, and the cache knows neither.
    """
    say = getattr(error, "format_message", None)
    if say is None:
        return None
    context = getattr(error, "ctx", None)
    if type(error).__name__ == "NoArgsIsHelpError":  # nothing was typed: its message is the whole help
        print(say())
        sys.exit(EXIT_MISTAKE)
    said = " ".join(str(say()).split()).rstrip(".").partition(", unable to parse")[0]
    said = re.sub(r"\.? Did you mean (.+)\?$", r" (did you mean \1?)", said)
    where = program if context is None else context.command_path
    return f"{said}; see `{where} --help`."


def _write_anything() -> None:
    """Let names be printed that the terminal's encoding lacks, or that are no text at all."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _output_fails() -> bool:
    """Tell whether it is standard output that refuses."""
    try:
        print(flush=True)
    except OSError:
        return True
    return False


def _silence_output() -> None:
    """Send what still waits in standard output nowhere, or Python complains about it when it ends."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
