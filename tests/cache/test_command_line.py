"""How both command lines end: one sentence and an exit code, whatever happens."""

from __future__ import annotations

import errno
import subprocess
import sys
from pathlib import Path

import pytest

from cache.command_line import run_command
from cache.errors import FilterError, shown


def ending(
    capsys: pytest.CaptureFixture[str], result: object = None, error: BaseException | None = None
) -> tuple[object, str]:
    """Return the exit code and standard error of a command that gives a result or raises an error."""

    def command() -> object:
        if error is not None:
            raise error
        return result

    with pytest.raises(SystemExit) as left:
        run_command(command, "python -m room")
    return left.value.code, capsys.readouterr().err


def test_exit_codes_and_sentences(capsys: pytest.CaptureFixture[str]) -> None:
    assert ending(capsys) == (0, "")
    assert ending(capsys, 130) == (130, "")
    assert ending(capsys, error=FilterError("No “a\nb\x00”: mend it.")) == (
        2,
        "Error: No “a\\nb\\x00”: mend it.\n",
    )
    assert ending(capsys, error=BrokenPipeError()) == (1, "")


def test_other_errors_are_not_hidden() -> None:
    for error in (OSError(errno.ENOSPC, "No space left on device"), ZeroDivisionError()):

        def command(error: Exception = error) -> None:
            raise error

        with pytest.raises(type(error)):
            run_command(command, "python -m room")


def test_values_are_shown_on_a_line_of_some_length() -> None:
    nested: list[object] = []
    nested.append(nested)
    for value in ("x" * 9_000, 10**5_000, {"a": ["b" * 500] * 50}, nested, object(), "a\nb", ["\n"] * 3):
        assert "\n" not in shown(value)
        assert len(shown(value)) < 400
    assert shown("wolf") == "'wolf'"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("srve", "No such command 'srve' (did you mean 'serve'?); see `python -m dashboard --help`."),
        ("serve --prt 1", "No such option: --prt"),
        ("serve --port x", "a valid integer; see `python -m dashboard serve --help`."),
        ("serve /nowhere", "/nowhere does not exist"),
        ("serve " + "a" * 300, "does not exist"),
        ("serve . --address é..x", "cannot be used"),
    ],
)
def test_the_dashboard_says_one_sentence(words: str, sentence: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dashboard", *words.split()],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert sentence in done.stderr
    assert done.stderr.count("\n") == 1
