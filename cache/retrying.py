"""Asks an object store again when it stumbles, and turns what it refuses for good into sentences."""

from __future__ import annotations

import errno
from collections.abc import Callable
from time import sleep
from typing import TypeVar

from cache.errors import GazelakeError, RunStorageError
from cache.locations import Url

T = TypeVar("T")
WAITS = (0.2, 0.6, 1.8)
"""Seconds between tries, on top of what the store's own library tries."""
FINAL = (
    FileNotFoundError,
    FileExistsError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
    NotImplementedError,
    TypeError,
    GazelakeError,
)
FINAL_NUMBERS = (errno.EINVAL, errno.EPERM, errno.ENOSYS, errno.ENOSPC, errno.EDQUOT)
CREDENTIALS = (
    "NoCredentialsError",
    "PartialCredentialsError",
    "ProfileNotFound",
    "DefaultCredentialsError",
    "ClientAuthenticationError",
    "TokenRetrievalError",
)
"""Names of the libraries' errors that say that nobody is signed in: trying again does not help."""


def patiently(ask: Callable[[], T]) -> T:
    """Ask, and ask again where the store was busy or out of reach (raises what the last try raised)."""
    for wait in WAITS:
        try:
            return ask()
        except Exception as error:  # each store has its own errors
            if is_final(error):
                raise
            sleep(wait)
    return ask()


def is_final(error: BaseException) -> bool:
    """Tell whether asking again would have the same answer."""
    return (
        isinstance(error, FINAL)
        or type(error).__name__ in CREDENTIALS
        or getattr(error, "errno", None) in FINAL_NUMBERS
    )


def refusal(place: Url, error: BaseException) -> RunStorageError:
    """Return the sentence for an error that stays."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:160].rstrip(". ")
    again = "then run the same command again; what was published is kept"
    if isinstance(error, PermissionError) or type(error).__name__ in CREDENTIALS:
        return RunStorageError(
            f"Access to {place} is denied ({reason}): check the credentials and what they permit, {again}."
        )
    if isinstance(error, FileNotFoundError):
        return RunStorageError(
            f"There is no bucket to hold {place} ({reason}): make it, or name another place."
        )
    if is_final(error):
        return RunStorageError(
            f"{place} cannot be used ({reason}): check the address and the service, {again}."
        )
    return RunStorageError(
        f"{place} cannot be reached ({reason}), also not after {len(WAITS) + 1} tries: check the network and the service, "
        f"{again}."
    )
