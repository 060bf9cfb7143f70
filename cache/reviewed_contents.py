"""The images that conditions on reviews select, as tables of a query; remembered until somebody reviews something."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock

import pyarrow as pa

from cache.locations import Location
from cache.review_condition import Reviewed
from cache.review_views import reviewed
from cache.reviews import Reviews

KEPT = 32
Revision = tuple[str, int]


class ReviewedContents:
    """What the reviews in one file select; safe between threads.

    The file is opened anew each time, so that one brought back or begun anew is simply read.
    """

    def __init__(self, path: Location) -> None:
        """Name the file, which need not exist yet."""
        self.path = path
        self._tables: OrderedDict[tuple[Revision, Reviewed], pa.Table] = OrderedDict()
        self._lock = Lock()

    def revision(self) -> Revision:
        """Return what changes with every review, to remember answers by.

        Raises:
            ReviewStoreError: The reviews cannot be read.
        """
        return Reviews(self.path).revision()

    def table(self, condition: Reviewed) -> pa.Table:
        """Return the images that satisfy a condition: one column, content.

        Raises:
            ReviewStoreError: The reviews cannot be read.
        """
        reviews = Reviews(self.path)
        # The revision is read first: an answer may be newer than its key, never older.
        key = (reviews.revision(), condition)
        with self._lock:
            if key in self._tables:
                self._tables.move_to_end(key)
                return self._tables[key]
        contents = reviewed(reviews, condition.tag, condition.verdict, condition.author, condition.note)
        table = pa.table({"content": pa.array(contents, pa.string())})
        with self._lock:
            self._tables[key] = table
            while len(self._tables) > KEPT:
                self._tables.popitem(last=False)
        return table
