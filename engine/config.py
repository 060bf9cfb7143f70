"""What an audit is made of: the options of `explain`, from the command line and from a TOML file."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationError,
)
from pydantic_core import ErrorDetails

from cache.errors import ConfigError, shown
from cache.locations import Location, Url, filesystem, located
from engine.files import ReadError, is_text, parse_problem, read_bytes


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


def _located(value: object) -> Location:
    """Tell a URL from a path, and refuse one that nothing is installed for before hours of work are done."""
    if not isinstance(value, str | Path | Url):
        raise ValueError("a path")
    place = located(value)
    if isinstance(place, Url):
        filesystem(place.text)
    return place


def _home(value: Location) -> Location:
    """Write out ``~``, which a shell leaves alone after an equals sign and in a file."""
    if isinstance(value, Url):
        return value
    return Path(os.path.expanduser(value))


def _possible(value: Location) -> Location:
    """Refuse what no directory can be called, before hours of work are done for it."""
    if isinstance(value, Url):
        return value
    try:
        os.stat(value)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise ValueError(f"a directory that can be made there ({error.strerror})") from error
    return value


def _methods(value: object) -> object:
    """Read names with parameters as a text, a list of such texts, or a table by name: ``{lime: {samples: 500}}``."""
    if isinstance(value, dict):
        return ",".join(
            f"{name}({','.join(f'{key}={_plain(given)}' for key, given in parameters.items())})"
            if isinstance(parameters, dict) and parameters
            else str(name)
            for name, parameters in value.items()
        )
    if isinstance(value, list):
        return ",".join(str(name) for name in value)
    return value


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


LocalPath = Annotated[Path, AfterValidator(_home)]
Place = Annotated[Path | Url, PlainValidator(_located), AfterValidator(_home), AfterValidator(_possible)]
Methods = Annotated[str, BeforeValidator(_methods)]
Channels = Annotated[tuple[float, ...], BeforeValidator(_numbers), Field(min_length=1, max_length=3)]
Deviations = Annotated[
    tuple[Annotated[float, Field(gt=0)], ...], BeforeValidator(_numbers), Field(min_length=1, max_length=3)
]
Names = Annotated[tuple[str, ...], BeforeValidator(_names), Field(min_length=1)]


class ExplainConfig(BaseModel):
    """The options of `python -m engine explain`; ``docs/models.md`` and ``docs/datasets.md`` explain them."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    data: str
    model: str
    out: Place
    weights: str | None = None
    checkpoint: LocalPath | None = None
    methods: Methods = "fast"
    targets: Names = ("pred", "true")
    device: str = "auto"
    precision: Literal["float32", "tf32", "bfloat16", "float16"] = "float32"
    batch_size: Literal["auto"] | Annotated[int, Field(ge=1, le=4096)] = "auto"
    image_size: Annotated[int, Field(ge=8, le=4096)] | None = None
    resize: Annotated[int, Field(ge=8, le=8192)] | None = None
    fit: Literal["crop", "squash", "pad"] | None = None
    interpolation: str | None = None
    mean: Channels | None = None
    std: Deviations | None = None
    classes: str | None = None
    class_map: LocalPath | None = None
    target_layer: str | None = None
    limit: Annotated[int, Field(ge=1)] | None = None
    data_root: str | None = None
    path_column: str | None = None
    label_column: str | None = None
    id_column: str | None = None
    label_names: bool = False
    unlabelled: bool = False
    split: str | None = None
    executor: Literal["local", "ray"] = "local"
    address: str | None = None
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
    values = {} if file is None else _read_file(file)
    values |= {key: value for key, value in options.items() if value is not None}
    for key, value in values.items():
        if isinstance(value, str | Path) and not is_text(str(value)):
            raise ConfigError(
                f"{_option(key)} {str(value)!r} is not valid text: rename it without odd bytes."
            )
    try:
        config = ExplainConfig(**values)
    except ValidationError as error:
        raise ConfigError(_sentence(error, values)) from error
    if config.address is not None and config.executor != "ray":
        raise ConfigError(f"--address {config.address} names a Ray cluster: say --executor ray with it.")
    return config


def _read_file(file: Path) -> dict[str, Any]:
    """Return the options of a TOML file by name (raises ConfigError)."""
    try:
        values = tomllib.loads(read_bytes(os.path.expanduser(file)).decode("utf-8-sig"))
    except ReadError as error:
        if error.kind == "empty":
            return {}
        reason = "does not exist" if error.kind == "gone" else f"cannot be used ({error.message.rstrip('.')})"
        raise ConfigError(
            f"The configuration file {file} {reason}: check the path given with --config."
        ) from error
    except (ValueError, RecursionError) as error:  # no UTF-8, no TOML, or numbers of thousands of digits
        raise ConfigError(
            f"The configuration file {file} cannot be read as TOML: {parse_problem(error)}."
        ) from error
    return {key.replace("-", "_"): value for key, value in values.items()}


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


def _sentence(error: ValidationError, values: dict[str, Any]) -> str:
    """Say everything that is wrong with the options, each of them once."""
    problems: list[str] = []
    wanted: dict[str, list[str]] = {}
    for problem in error.errors():
        name = str(problem["loc"][0])
        if problem["type"] == "missing":
            problems.append(f"{_option(name)} is missing")
        elif problem["type"] == "extra_forbidden":
            known = ", ".join(field.replace("_", "-") for field in ExplainConfig.model_fields)
            problems.append(
                f"{name if name.isidentifier() else shown(name)} is not an option; there are {known}"
            )
        else:
            wanted.setdefault(name, []).append(_wanted(problem))
    problems += [
        f"{_option(name)} {_given(values.get(name))} is not possible: it should be {' or '.join(dict.fromkeys(said))}"
        for name, said in wanted.items()
    ]
    return "; ".join(problems) + "."


def _given(value: object) -> str:
    if isinstance(value, str) and value.isdigit() and len(value) < 20:
        return value
    return shown(str(value) if isinstance(value, Path | Url) else value)


def _wanted(problem: ErrorDetails) -> str:
    """Return what pydantic wanted, to stand after "it should be"; a union says it once for every type it takes."""
    limits = problem.get("ctx", {})
    match problem["type"]:
        case "path_type":
            return "a path"
        case "int_parsing_size":
            return "a smaller number"
        case "too_short":
            return f"at least {limits['min_length']} value(s)"
        case "too_long":
            return f"at most {limits['max_length']} value(s)"
    said = problem["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    return said.partition(", unable to")[0]
