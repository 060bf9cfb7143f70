"""The writer's lock in an object store: an object with a time until which it holds, renewed while its writer lives."""

from __future__ import annotations

import json
import os
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Any
from uuid import uuid4

from cache.errors import RunBusyError, RunStorageError
from cache.objects import Objects, ReplacedError

LEASE = timedelta(seconds=90)
"""How long a lock holds that is not renewed: so long a run waits for a writer that vanished with its machine."""
RENEWAL = timedelta(seconds=20)


class Lease:
    """A lock that is held; renewed by a thread of its own until it is closed."""

    def __init__(self, objects: Objects, name: str) -> None:
        """Take it.

        Raises:
            RunBusyError: Another writer holds it.
            RunStorageError: The store denies it, or cannot be reached.
        """
        self._objects, self._name = objects, name
        self._writer = uuid4().hex
        self._lost = False
        self._until = datetime.now(UTC)
        self._tag = self._take()
        self._closed = Event()
        self._thread = Thread(target=self._renew, daemon=True, name="gazelake-lease")
        self._thread.start()

    def check(self) -> None:
        """Make sure that no other writer can have taken it.

        Raises:
            RunBusyError: It was not renewed in time, or another writer has it.
        """
        if self._lost or datetime.now(UTC) >= self._until:
            raise RunBusyError(
                f"The lock of {self._objects.place} was lost to another process, or could not be renewed for "
                f"{LEASE.total_seconds():.0f} s: run the same command again; what was published is kept."
            )

    def close(self) -> None:
        """Give it back."""
        self._closed.set()
        self._thread.join()
        # Another writer's lock stays: it is looked at first, and replaced under its tag before it is deleted.
        if not self._lost:
            try:
                self._objects.write(self._name, _text("", timedelta(0)), self._tag)
            except (ReplacedError, RunStorageError):
                return
            self._objects.delete(self._name)

    def _take(self) -> str:
        for _ in range(4):
            try:
                return self._put(None)
            except ReplacedError:
                tag, held = _held(self._objects, self._name)
                if tag is None:
                    continue
                if _holds(held):
                    raise RunBusyError(_busy(self._objects, held)) from None
                try:
                    return self._put(tag)
                except ReplacedError:
                    continue
        raise RunBusyError(
            f"Other processes are about to write {self._objects.place}: run the same command again."
        )

    def _put(self, expected: str | None) -> str:
        began = datetime.now(UTC)
        tag = self._objects.write(self._name, _text(self._writer, LEASE), expected)
        self._until = began + LEASE
        return tag

    def _renew(self) -> None:
        while not self._closed.wait(RENEWAL.total_seconds()):
            try:
                self._tag = self._put(self._tag)
            except ReplacedError:
                self._lost = True
                return
            except RunStorageError:
                continue  # `check` tells when it has lasted too long


def is_held(objects: Objects, name: str) -> bool:
    """Tell whether some writer holds a lock (raises RunStorageError)."""
    return _holds(_held(objects, name)[1])


def _text(writer: str, lasts: timedelta) -> bytes:
    held = {
        "writer": writer,
        "host": socket.gethostname(),
        "machine": _machine(),
        "process": os.getpid(),
        "started": _started(os.getpid()),
        "until": (datetime.now(UTC) + lasts).isoformat(timespec="seconds"),
    }
    return json.dumps(held).encode()


def _machine() -> str:
    """Name this boot of this machine, and which processes can be seen from here."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""


def _started(process: int) -> int | None:
    """Return when a process of this machine began, in ticks since the boot; None of one that is dead."""
    try:
        told = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return None if told[0] in ("Z", "X") else int(told[19])
    except (OSError, IndexError, ValueError):
        return None


def _held(objects: Objects, name: str) -> tuple[str | None, dict[str, Any]]:
    """Return a lock's tag and what it says; None and nothing where there is none."""
    tag = objects.tag(name)
    if tag is None:
        return None, {}
    try:
        said = json.loads(objects.read(name))
    except (FileNotFoundError, ValueError):
        return tag, {}
    return tag, said if isinstance(said, dict) else {}


def _holds(held: dict[str, Any]) -> bool:
    """Tell whether a lock holds: its time has not passed, and its process is not known to be dead."""
    try:
        until = datetime.fromisoformat(str(held["until"]))
        process = int(held["process"])
        left = until - datetime.now(UTC)
    except (KeyError, ValueError, TypeError):
        return False
    if left <= timedelta(0):
        return False
    if held.get("machine") and held["machine"] == _machine():
        # The number may have become another process's.
        return _started(process) == held.get("started")
    return True


def _busy(objects: Objects, held: dict[str, Any]) -> str:
    left = (datetime.fromisoformat(str(held["until"])) - datetime.now(UTC)).total_seconds()
    host = "".join(c for c in str(held.get("host")) if c.isprintable())[:60]
    return (
        f"Another process is writing {objects.place} (process {int(held['process'])} on {host}): wait for it or stop it, "
        f"then run the same command again; if it is dead already, its lock ends in {max(left, 1):.0f} s."
    )
