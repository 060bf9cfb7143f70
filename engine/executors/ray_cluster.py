"""Connects to a Ray cluster, or starts one on this machine."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any

import ray

from cache.errors import ConfigError

OBJECT_STORE = 200 << 20
"""Bytes of Ray's object store where a cluster is started here: only records and reports go through it."""


def connect(address: str | None) -> bool:
    """Connect to a cluster, or start one on this machine; return whether this was not done already."""
    if ray.is_initialized():
        return False
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    own: dict[str, Any] = {}
    if address == "local":
        own = {"include_dashboard": False, "object_store_memory": OBJECT_STORE}
    try:
        with _handlers_kept():
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", **own)
    except (OSError, RuntimeError, ValueError) as error:  # ConnectionError among them
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160].rstrip(".")
        raise ConfigError(
            f"No Ray cluster can be used at {address} ({reason}): start one with `ray start --head`, or leave --address "
            "out to use this machine alone."
        ) from error
    return True


@contextlib.contextmanager
def _handlers_kept() -> Iterator[None]:
    """Keep the handlers of signals: Ray sets its own, which would end the audit without a word."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # not the main thread
            signal.signal(signal.SIGTERM, handler)
