"""Files that are made for somebody to fetch: in a thread of their own, so that the page stays usable and can say stop."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Hashable
from pathlib import Path
from threading import Event, Thread

from cache.errors import GazelakeError
from cache.progress import Progress


class StoppedError(Exception):
    """Somebody said stop."""


class Work:
    """One file being made, or made.

    Attributes:
        of: What it is made of.
        path: The file.
        share: How much of it is done, 0 to 1.
        refusal: The sentence that says why it could not be made.
    """

    def __init__(self, of: Hashable, path: Path, make: Callable[[Path, Progress], object]) -> None:
        """Start to make a file.

        Args:
            of: What it is made of.
            path: Where it goes.
            make: Makes it, and tells how far it is; what it is told raises where somebody says stop.
        """
        self.of, self.path = of, path
        self.share, self.refusal = 0.0, ""
        self._failure: BaseException | None = None
        self._stop = Event()
        self._thread = Thread(target=self._run, args=(make,), name="share", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """Tell whether it is still being made."""
        return self._thread.is_alive()

    @property
    def ready(self) -> bool:
        """Tell whether the file waits to be fetched."""
        self.raise_failure()
        return not self.running and not self.refusal and not self._stop.is_set() and self.path.is_file()

    def stop(self) -> None:
        """End it as soon as it next tells how far it is."""
        self._stop.set()

    def wait(self, seconds: float) -> None:
        """Wait for its end, but not longer."""
        self._thread.join(seconds)

    def raise_failure(self) -> None:
        """Raise what nobody expected to go wrong."""
        if self._failure is not None:
            raise self._failure

    def _run(self, make: Callable[[Path, Progress], object]) -> None:
        try:
            make(self.path, self._told)
        except StoppedError:
            pass
        except GazelakeError as error:
            self.refusal = str(error)
        except Exception as error:  # the page raises it, where it is seen
            self._failure = error

    def _told(self, done: int, total: int) -> None:
        if self._stop.is_set():
            raise StoppedError
        self.share = min(done / max(total, 1), 1.0)


class Place:
    """The folder and the work of a person's session; both end when it does."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="gazelake-share-"))
        self._works: list[Work] = []
        weakref.finalize(self, _leave, self.path, self._works)

    @property
    def work(self) -> Work | None:
        """The last work, if there is one."""
        return self._works[-1] if self._works else None

    def start(self, of: Hashable, name: str, make: Callable[[Path, Progress], object]) -> Work:
        """Start to make a file; the one before is stopped and goes."""
        for work in self._works:
            work.stop()
            work.wait(10)
        self._works.clear()
        for path in self.path.iterdir():
            path.unlink(missing_ok=True)
        self._works.append(Work(of, self.path / name, make))
        return self._works[-1]


def _leave(path: Path, works: list[Work]) -> None:
    for work in works:
        work.stop()
    shutil.rmtree(path, ignore_errors=True)
