"""In which fields two configs differ."""

from collections.abc import Iterator, Mapping
from typing import Any


def differences(was: Any, is_now: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """The fields in which two configs differ, each with both values; None where one lacks it.

    Args:
        was: a config as JSON holds it, or a group of its fields.
        is_now: another.
        path: of the group, put before the names.

    >>> list(differences({"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1, "b": {"c": 4}}))
    [('b.c', 2, 4), ('b.d', 3, None)]
    """
    if isinstance(was, Mapping) and isinstance(is_now, Mapping):
        for name in sorted({*was, *is_now}):
            inner = f"{path}.{name}" if path else name
            yield from differences(was.get(name), is_now.get(name), inner)
    elif was != is_now:
        yield path, was, is_now
