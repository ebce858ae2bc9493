"""Loading a configuration: YAML, then `key=value` overrides, then validation with readable errors.

A shipped configuration is given by name: `nano_align` is `configs/nano_align.yaml`. The value of an override is YAML:
`run.max_steps=100`, `train.mining=false`, `data.sources=[{path: a.jsonl}]`. A number in a key is an index into a list:
`data.sources.0.repeat=2`.

A file may begin with `extends: NAME`: a file next to it, or a shipped configuration. It then holds only the changes:
mappings are merged, any other value replaces the former one.
"""

from __future__ import annotations

import difflib
import importlib.resources
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from mgem_agent.errors import InputError
from mgem_agent.recipes.train.config import TrainConfig
from mgem_agent.user_files import read_user_file

__all__ = ["launch_file", "launch_files", "load_config", "load_settings", "read_settings", "shipped_configs"]

MAX_CONFIG_BYTES = 1_000_000
_PACKAGE = "mgem_agent.recipes.train"
_Settings = TypeVar("_Settings", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """YAML that reads `1e-3` as a number, not as a string."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+0123456789."),
)


def shipped_configs(package: str = _PACKAGE) -> tuple[str, ...]:
    """Return the names of the shipped configurations, sorted.

    Args:
        package: The package whose folder `configs` has them.
    """
    return _shipped("configs", package)


def launch_files() -> tuple[str, ...]:
    """Return the names of the shipped configurations of accelerate, sorted."""
    return _shipped("accelerate")


def launch_file(name: str) -> str:
    """Return the text of a shipped configuration of accelerate.

    Args:
        name: One of `launch_files()`.

    Raises:
        InputError: If there is no such file.
    """
    if name not in launch_files():
        raise InputError(
            f"There is no configuration of accelerate named {name!r}. Give one of: {', '.join(launch_files())}."
        )
    return (importlib.resources.files(_PACKAGE) / "accelerate" / f"{name}.yaml").read_text("utf-8")


def _shipped(folder: str, package: str = _PACKAGE) -> tuple[str, ...]:
    """Return the names of the YAML files in a folder of a package, sorted."""
    files = (importlib.resources.files(package) / folder).iterdir()
    return tuple(sorted(file.name.removesuffix(".yaml") for file in files if file.name.endswith(".yaml")))


def load_config(source: str | Path, overrides: Sequence[str] = ()) -> TrainConfig:
    """Read and validate a configuration.

    Args:
        source: A YAML file, or the name of a shipped configuration.
        overrides: `key=value` words with dotted keys.

    Raises:
        InputError: If the file cannot be read, or a key or value is not valid; the message names the nearest key.
    """
    return load_settings(TrainConfig, source, overrides)


def load_settings(
    kind: type[_Settings], source: str | Path, overrides: Sequence[str] = (), *, package: str = _PACKAGE
) -> _Settings:
    """Read and validate a configuration of any kind.

    Args:
        kind: The kind.
        source: A YAML file, or the name of a shipped configuration.
        overrides: `key=value` words with dotted keys.
        package: The package whose folder `configs` has the shipped ones.

    Raises:
        InputError: If the file cannot be read, or a key or value is not valid; the message names the nearest key.
    """
    settings = read_settings(source, package=package)
    for word in overrides:
        _override(settings, word)
    try:
        return kind.model_validate(settings)
    except ValidationError as error:
        details = error.errors()
        places = [detail["loc"] for detail in details]
        inner = [
            detail
            for detail in details
            if not any(place != detail["loc"] and place[: len(detail["loc"])] == detail["loc"] for place in places)
        ]  # report the wrong item of a list, not the list again
        lines = "\n".join(f"  {_explain(detail, kind)}" for detail in inner)
        raise InputError(f"The configuration {str(source)!r} is not valid:\n{lines}") from error


def read_settings(source: str | Path, *, package: str = _PACKAGE) -> dict[str, Any]:
    """Read a configuration as plain values, without validation, with those that it extends.

    Args:
        source: A YAML file, or the name of a shipped configuration.
        package: The package whose folder `configs` has the shipped ones.

    Raises:
        InputError: If the file cannot be read, is not a mapping, or extends itself.
    """
    chain = [_read_file(source, package)]
    seen = {str(source)}
    while (extended := chain[-1].pop("extends", None)) is not None:
        source = _extended(extended, source, package)
        if str(source) in seen:
            raise InputError(f"The configuration {str(source)!r} extends itself. Remove one `extends` of the circle.")
        seen.add(str(source))
        chain.append(_read_file(source, package))
    settings: dict[str, Any] = {}
    for layer in reversed(chain):
        settings = _merged(settings, layer)
    return settings


def _extended(name: Any, source: str | Path, package: str) -> str | Path:
    """Return the configuration that another one extends: a file next to it, or a shipped one."""
    if not isinstance(name, str):
        raise InputError(f"`extends` in {str(source)!r} is the name of one configuration, got {name!r:.80}.")
    beside = Path(source).parent / name
    return beside if str(source) not in shipped_configs(package) and beside.is_file() else name


def _merged(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with changes; mappings are merged."""
    found = dict(settings)
    for key, value in changes.items():
        before = found.get(key)
        found[key] = _merged(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return found


def _read_file(source: str | Path, package: str) -> dict[str, Any]:
    shipped = shipped_configs(package)
    if str(source) in shipped:
        text = (importlib.resources.files(package) / "configs" / f"{source}.yaml").read_text("utf-8")
    else:
        try:
            text = read_user_file(Path(source), "The configuration", max_bytes=MAX_CONFIG_BYTES)
        except FileNotFoundError as error:
            raise InputError(
                f"The configuration {str(source)!r} cannot be read: {error}. Give a YAML file, or one of: "
                f"{', '.join(shipped)}."
            ) from error
    try:
        settings = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise InputError(f"The configuration {str(source)!r} is not YAML: {error}") from error
    if not isinstance(settings, dict):
        raise InputError(f"The configuration {str(source)!r} must be a mapping of keys, got {settings!r:.80}.")
    return settings


def _override(settings: dict[str, Any], word: str) -> None:
    key, sign, text = word.partition("=")
    if not sign or not key:
        raise InputError(f"An override is key=value, got {word!r}. Example: run.max_steps=100")
    try:
        value = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise InputError(f"The value of {key!r} is not YAML: {text!r}.") from error
    *way, last = key.split(".")
    place: Any = settings
    for depth, name in enumerate(way):
        if isinstance(place, list):
            place = place[_position(place, name, key)]
        else:
            if place.get(name) is None:
                place[name] = {}
            place = place[name]
        if not isinstance(place, (dict, list)):
            raise InputError(f"{key!r} goes into {'.'.join(way[: depth + 1])!r}, which is {place!r} and has no keys.")
    if isinstance(place, list):
        place[_position(place, last, key)] = value
    else:
        place[last] = value


def _position(place: list[Any], name: str, key: str) -> int:
    if not name.isdigit() or int(name) >= len(place):
        raise InputError(f"{key!r} needs a position of 0 to {len(place) - 1} where it has {name!r}.")
    return int(name)


def _explain(detail: Mapping[str, Any], kind: type[BaseModel]) -> str:
    """Describe one error: the key, its value, and what is allowed or which key was probably meant."""
    key = ".".join(map(str, detail["loc"]))
    if detail["type"] == "extra_forbidden":
        known = list(_keys(kind))
        plain = ".".join(str(part) for part in detail["loc"] if not isinstance(part, int))
        near = difflib.get_close_matches(plain, known, n=1, cutoff=0.0)
        name = plain.rpartition(".")[2]
        same_name = [other for other in known if other.rpartition(".")[2] == name]
        return f"{key}={detail['input']!r}: there is no such key. The nearest is {(same_name or near)[0]!r}."
    if detail["type"] == "missing":
        return f"{key}: this key is missing. Add it, or give {key}=VALUE."
    if detail["type"] == "value_error":
        return f"{key or 'the run'} {detail['msg'].removeprefix('Value error, ')}."
    return f"{key}={detail['input']!r}: {detail['msg']}."


def _keys(section: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Yield every dotted key of a configuration, without list indices."""
    for name, field in section.model_fields.items():
        yield f"{prefix}{name}"
        for inner in _sections(field.annotation):
            yield from _keys(inner, f"{prefix}{name}.")


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _sections(argument)
