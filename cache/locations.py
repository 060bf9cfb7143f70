"""Where things lie: a local path, or the URL of an object store that fsspec knows."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeAlias

from cache.errors import ConfigError

LOCAL_SCHEMES = ("file", "local")
PACKAGES = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs"}
"""Packages that fsspec needs for a scheme; none of them is installed with Gazelake."""


def is_url(location: str) -> bool:
    """Tell an fsspec URL (``s3://…``, ``memory://…``, ``file://…``) from a local path."""
    scheme, separator, _ = location.partition("://")
    return bool(separator) and scheme.replace("+", "").replace("-", "").isalnum()


@dataclass(frozen=True, order=True)
class Url:
    """The URL of a folder in an object store; as much of a path as runs need, and none by mistake.

    It has no ``__fspath__``, since `pathlib.Path` would make one slash of the two.
    """

    text: str

    def __str__(self) -> str:
        """Return the URL."""
        return self.text

    def __truediv__(self, name: str) -> Url:
        """Return what lies below."""
        return Url(f"{self.text}/{name}")

    @property
    def scheme(self) -> str:
        """What stands before ``://``."""
        return self.text.partition("://")[0]

    @property
    def name(self) -> str:
        """The last part: what a run is called."""
        return self.text.rpartition("/")[2]

    @property
    def parent(self) -> Url:
        """The folder that holds it; a bucket is in none but itself."""
        above = self.text.rpartition("/")[0]
        return self if above.endswith(("/", ":")) else Url(above)

    def with_name(self, name: str) -> Url:
        """Return what is called otherwise in the same folder."""
        return self.parent / name

    def absolute(self) -> Url:
        """Return itself, as a path would its absolute form."""
        return self

    def resolve(self) -> Url:
        """Return itself, as a path would what its links lead to."""
        return self


Location: TypeAlias = Path | Url


def located(place: str | os.PathLike[str] | Url) -> Location:
    """Read a local path or a URL; ``file://`` is a path."""
    if isinstance(place, Url):
        return place
    text = os.fspath(place)
    if not is_url(text):
        return Path(text)
    scheme, _, path = text.partition("://")
    return Path(path) if scheme in LOCAL_SCHEMES else Url(f"{scheme}://{path.strip('/')}")


@lru_cache(maxsize=64)
def _filesystem(protocol: str) -> Any:
    import fsspec

    # What a listing said a moment ago is no answer to what lies there now.
    return fsspec.filesystem(protocol, use_listings_cache=False)


def filesystem(url: str) -> tuple[Any, str]:
    """Return the fsspec filesystem of a URL and the path within it.

    Raises:
        ConfigError: The protocol needs a package that is not installed, or does not exist.
    """
    scheme = url.partition("://")[0]
    try:
        fs = _filesystem(scheme)
    except ImportError as error:
        needed = PACKAGES.get(scheme, "")
        install = f"install it with `pip install {needed}`" if needed else str(error)
        raise ConfigError(
            f"{url} needs {f'the package {needed}' if needed else 'a package'}, which is not installed: {install}."
        ) from error
    except ValueError as error:
        raise ConfigError(
            f"{url} begins with {scheme}://, which is not known: give a path or a URL such as s3://bucket/run."
        ) from error
    return fs, str(fs._strip_protocol(url))
