"""What people mean by a choice whose words bear a count."""

from __future__ import annotations

from functools import partial

import pytest

from dashboard.facets import meant, with_count

COUNTS = {"cat": 1_055, "dog (old)": 7, None: 3}


def said(value: str | None) -> str:
    return with_count("unknown" if value is None else value, value, COUNTS)


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (["cat", None], ["cat", None]),
        (["cat (1,055)"], ["cat"]),
        (["cat (127)"], ["cat"]),
        (["cat"], ["cat"]),
        (["dog (old) (12)"], ["dog (old)"]),
        (["unknown (9)"], [None]),
        (["wolf (9)", "cat (2)"], ["cat"]),
        ([], []),
    ],
)
def test_words_with_the_count_of_a_moment_ago_name_the_same_choice(
    chosen: list[str | None], expected: list[str | None]
) -> None:
    assert meant(chosen, COUNTS, said) == expected


def test_choices_may_be_numbers() -> None:
    titles = ["cat", "dog"]
    assert meant([1, "cat (4)"], [0, 1], partial(lambda i: f"{titles[i]} (5)")) == [1, 0]
