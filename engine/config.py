"""What an audit is made of: the options of `explain`, from the command line and from a TOML file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from cache.errors import ConfigError


def _numbers(value: object) -> object:
    """Read ``0.5`` and ``0.485,0.456,0.406``."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(","))
    if isinstance(value, int | float):
        return (value,)
    return value


def _names(value: object) -> object:
    """Read ``pred,true``."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


Channels = Annotated[tuple[float, ...], BeforeValidator(_numbers), Field(min_length=1, max_length=3)]
Deviations = Annotated[
    tuple[Annotated[float, Field(gt=0)], ...], BeforeValidator(_numbers), Field(min_length=1, max_length=3)
]
Names = Annotated[tuple[str, ...], BeforeValidator(_names), Field(min_length=1)]


class ExplainConfig(BaseModel):
    """The options of `python -m engine explain`; ``docs/models.md`` and ``docs/datasets.md`` explain them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str
    model: str
    out: Path
    weights: str | None = None
    checkpoint: Path | None = None
    methods: str = "fast"
    targets: Names = ("pred", "true")
    device: str = "auto"
    batch_size: Literal["auto"] | Annotated[int, Field(ge=1, le=4096)] = "auto"
    image_size: Annotated[int, Field(ge=8, le=4096)] | None = None
    resize: Annotated[int, Field(ge=8, le=8192)] | None = None
    fit: Literal["crop", "squash", "pad"] | None = None
    interpolation: str | None = None
    mean: Channels | None = None
    std: Deviations | None = None
    classes: str | None = None
    class_map: Path | None = None
    target_layer: str | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    data_root: str | None = None
    path_column: str | None = None
    label_column: str | None = None
    id_column: str | None = None
    label_names: bool = False
    unlabelled: bool = False
    split: str | None = None
    executor: Literal["local"] = "local"
    workers: Annotated[int, Field(ge=1, le=256)] | None = None
    publish_every: Annotated[float, Field(gt=0)] = 30.0
    name: str | None = None


def read_config(options: dict[str, Any], file: Path | None = None) -> ExplainConfig:
    """Combine the command line with a configuration file; what was typed wins.

    Args:
        options: Options by name; None means that it was not given.
        file: A TOML file with the same names as keys.

    Raises:
        ConfigError: The file cannot be read, or an option is unknown, missing or has a wrong value.
    """
    values: dict[str, Any] = {}
    if file is not None:
        try:
            values = tomllib.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise ConfigError(
                f"The configuration file {file} does not exist: check the path given with --config."
            ) from error
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"The configuration file {file} cannot be read as TOML: {error}.") from error
        values = {key.replace("-", "_"): value for key, value in values.items()}
    for key, value in options.items():
        if isinstance(value, str | Path) and not _is_text(str(value)):
            raise ConfigError(
                f"--{key.replace('_', '-')} {str(value)!r} is not valid text: rename it without odd bytes."
            )
    values |= {key: value for key, value in options.items() if value is not None}
    try:
        return ExplainConfig(**values)
    except ValidationError as error:
        raise ConfigError(_sentence(error, values)) from error


def _is_text(value: str) -> bool:
    """Tell whether a text can be written down; file names may hold bytes that are no characters."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _sentence(error: ValidationError, values: dict[str, Any]) -> str:
    problems = []
    for problem in error.errors():
        name = str(problem["loc"][0])
        option = "--" + name.replace("_", "-")
        if problem["type"] == "missing":
            problems.append(f"{option} is missing")
        elif problem["type"] == "extra_forbidden":
            known = ", ".join(field.replace("_", "-") for field in ExplainConfig.model_fields)
            problems.append(f"{name} is not an option; there are {known}")
        else:
            said = problem["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
            problems.append(f"{option} {values.get(name)!r} is not possible: it should be {said}")
    return "; ".join(dict.fromkeys(problems)) + "."
