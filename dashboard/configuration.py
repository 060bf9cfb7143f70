"""What a dashboard is told by whoever runs it: who may look and who may review, and where reviews are kept.

The file is TOML: the one that ``--config`` or ``GAZELAKE_CONFIG`` names, or ``gazelake.toml`` beside the runs. Without a
file everybody who reaches the dashboard may do everything, which is why it listens to this machine only.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from cache.errors import ConfigError, shown
from cache.locations import Location, Url
from cache.run import is_run

CONFIG_VARIABLE = "GAZELAKE_CONFIG"
CONFIG_NAME = "gazelake.toml"
MAX_BYTES = 1 << 20
MAX_PEOPLE = 10_000
Role = Literal["viewer", "reviewer"]
_KNOWN = {"access": {"viewers", "reviewers", "provider"}, "reviews": {"folder"}}
_PERSON = re.compile(r"(\*|[^\s@*,;<>]+)@[^\s@*,;<>]+")


@dataclass(frozen=True)
class Access:
    """Who may do what, by e-mail address; ``*@example.org`` is everybody there.

    Attributes:
        viewers: May look.
        reviewers: May look and review.
        provider: Which ``[auth.NAME]`` of Streamlit's secrets signs people in; empty for ``[auth]`` itself.
    """

    viewers: tuple[str, ...] = ()
    reviewers: tuple[str, ...] = ()
    provider: str = ""

    def role(self, email: str) -> Role | None:
        """Return what somebody may do; None for nothing."""
        address = email.strip().casefold()
        forms = {address, f"*@{address.rpartition('@')[2]}"}
        # Without a part on either side of the @ it is no address, whatever the lists hold.
        if not _PERSON.fullmatch(address) or address.startswith("*"):
            return None
        if forms & set(self.reviewers):
            return "reviewer"
        return "viewer" if forms & set(self.viewers) else None


@dataclass(frozen=True)
class Configuration:
    """What the file says.

    Attributes:
        path: The file; None where there is none.
        access: Who may do what; None where nobody signs in.
        reviews: The folder for the reviews of all runs; None where each run keeps its own.
    """

    path: Path | None = None
    access: Access | None = None
    reviews: Path | None = None


def configuration_path(runs: Location) -> Path | None:
    """Return the file that configures a dashboard over a folder of runs; None without one."""
    named = os.environ.get(CONFIG_VARIABLE)
    if named:
        return Path(named)
    if isinstance(runs, Url):
        return None  # who may look is said on the machine that shows, not in the bucket that is shown
    # A run that is served by itself may come from anywhere: what lies within it does not say who may look.
    beside = (runs.absolute().parent if is_run(runs) else runs) / CONFIG_NAME
    return beside if os.path.lexists(beside) else None


def read_configuration(path: Path) -> Configuration:
    """Read and check a configuration file.

    Raises:
        ConfigError: It is missing, no TOML, or says something that is not understood: nothing is guessed about access.
    """
    data = _toml(path)
    for name, table in data.items():
        if name not in _KNOWN:
            raise ConfigError(
                f"{path} has {shown(name)}, which is not known: it may hold [access] and [reviews]."
            )
        if not isinstance(table, dict):
            raise ConfigError(f"{name} in {path} is not a table: write [{name}] on a line of its own.")
        for key in table:
            if key not in _KNOWN[name]:
                listed = ", ".join(sorted(_KNOWN[name]))
                raise ConfigError(
                    f"[{name}] in {path} has {shown(key)}, which is not known: it may hold {listed}."
                )
    access = _access(path, data["access"]) if "access" in data else None
    return Configuration(path, access, _folder(path, data.get("reviews", {})))


def _toml(path: Path) -> dict[str, Any]:
    try:
        if os.stat(path).st_size > MAX_BYTES:
            raise ConfigError(f"{path} is larger than a configuration is: name another file with --config.")
        return tomllib.loads(path.read_text("utf-8-sig"))
    except OSError as error:
        reason = error.strerror or "unreadable"
        raise ConfigError(
            f"The configuration {path} cannot be read ({reason}): name another with --config."
        ) from error
    except (ValueError, RecursionError) as error:
        where = " ".join(str(error).split())
        raise ConfigError(f"The configuration {path} is no TOML ({where}): correct it.") from error


def _access(path: Path, table: Mapping[str, Any]) -> Access:
    viewers, reviewers = (_people(path, name, table.get(name, [])) for name in ("viewers", "reviewers"))
    if not viewers and not reviewers:
        raise ConfigError(f"[access] in {path} names nobody: give viewers or reviewers.")
    provider = table.get("provider", "")
    if not isinstance(provider, str):
        raise ConfigError(
            f"provider in {path} is the name of an [auth.NAME] in the secrets: write it in quotes."
        )
    return Access(viewers, reviewers, provider)


def _people(path: Path, name: str, listed: object) -> tuple[str, ...]:
    if not isinstance(listed, list) or len(listed) > MAX_PEOPLE:
        raise ConfigError(
            f'{name} in {path} is a list of e-mail addresses: write {name} = ["ann@example.org"].'
        )
    for one in listed:
        if not isinstance(one, str) or not _PERSON.fullmatch(one.strip()):
            raise ConfigError(
                f"{shown(one)} among the {name} in {path} is no e-mail address: write ann@example.org, or "
                "*@example.org for everybody there."
            )
    return tuple(sorted({one.strip().casefold() for one in listed}))


def _folder(path: Path, table: Mapping[str, Any]) -> Path | None:
    if "folder" not in table:
        return None
    folder = table["folder"]
    if not isinstance(folder, str) or not folder.strip():
        raise ConfigError(f'folder in {path} is the folder for reviews: write folder = "reviews".')
    found = (path.absolute().parent / Path(folder).expanduser()).absolute()
    if not found.is_dir():
        raise ConfigError(
            f"The folder for reviews that {path} names, {found}, is not there: make it, or name another."
        )
    return found
