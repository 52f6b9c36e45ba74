"""Frozen dataclasses from nested mappings and back, with every fault named by its full path."""

import dataclasses
import difflib
import typing
from collections.abc import Mapping
from typing import Any, Literal

from ar_net_jax.errors import UserError


def require(condition: bool, path: str, message: str) -> None:
    """Raises UserError for the field at `path` unless the condition holds."""
    if not condition:
        raise UserError(f"config.{path}: {message}")


def build(cls: type, values: Mapping[str, Any], path: str = "") -> Any:
    """Builds a dataclass, and the dataclasses in its fields, from a mapping.

    Args:
        cls: the dataclass; its fields' types are str, int, float, bool, Literal, tuples of one
            type, mappings of one type, and dataclasses. Where the type of a mapping's values has
            a method `of_name(key, path)`, that gives the class of each.
        values: field name -> value; missing fields take their defaults.
        path: where in the whole config this is.

    Raises:
        UserError: an unknown field, or a value of the wrong type.
    """
    return cls(**convert_fields(cls, values, path))


def convert_fields(cls: type, values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """The values of a dataclass's fields, checked and converted; args and errors as there."""
    hints = check_names(cls, values, path)
    where = f"{path}." if path else ""
    return {key: _convert(hints[key], values[key], f"{where}{key}") for key in values}


def check_names(cls: type, values: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """The types of a dataclass's fields, by name.

    Raises:
        UserError: `values` has a key that is no field; suggests a near one.
    """
    hints = typing.get_type_hints(cls)
    for key in values:
        if key not in hints:
            close = difflib.get_close_matches(str(key), hints, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(hints)}"
            where = f"{path}.{key}" if path else key
            raise UserError(f"config.{where}: unknown field; {hint}")
    return hints


def to_plain(value: Any) -> Any:
    """A dataclass as nested dictionaries and lists that JSON can hold."""
    if dataclasses.is_dataclass(value):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {k: to_plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(v) for v in value]
    return value


def _convert(hint: Any, value: Any, path: str) -> Any:
    """Checks `value` against a type hint; the only conversions are int -> float, list -> tuple."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        require(_is_mapping(value), path, f"must be a group of fields, got {value!r}")
        return build(hint, value, path)
    if origin is Literal:
        choices = ", ".join(repr(a) for a in args)
        require(value in args, path, f"must be one of {choices}, got {value!r}")
        return value
    if origin is tuple:
        require(isinstance(value, tuple | list), path, f"must be a tuple, got {value!r}")
        return tuple(_convert(args[0], v, f"{path}[{i}]") for i, v in enumerate(value))
    if origin is not None and issubclass(origin, Mapping):
        require(_is_mapping(value), path, f"must be a group of fields, got {value!r}")
        return {k: _convert(_class_of(args[1], k, path), value[k], f"{path}.{k}") for k in value}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    ok = isinstance(value, hint) and not (hint is int and isinstance(value, bool))
    require(ok, path, f"must be {hint.__name__}, got {value!r}")
    return value


def _class_of(hint: Any, key: str, path: str) -> Any:
    """The type of a mapping's value; where the key decides the class, `hint.of_name` tells it."""
    choose = getattr(hint, "of_name", None)
    return hint if choose is None else choose(key, f"{path}.{key}")


def _is_mapping(value: Any) -> bool:
    return hasattr(value, "keys") and hasattr(value, "__getitem__")
