"""How wide the columns of tables are, where their content must not decide it alone."""

from __future__ import annotations

from collections.abc import Sequence

LONG_NAME = 20
"""Letters up to which a column of names is as wide as they are."""
NAME_WIDTH = 140


def name_width(names: Sequence[str]) -> int | None:
    """Return the width of a table's column of names: their own, unless long ones would push the numbers out of sight."""
    return NAME_WIDTH if max(map(len, names), default=0) > LONG_NAME else None
