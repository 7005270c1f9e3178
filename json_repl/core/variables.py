"""Both sides: what the method `variables` tells: a page of the namespace's names, or one value and what is in it.

The list runs no code of the user's. A value may be shown by its own `__repr__`, in a copy of the session that is thrown
away (`theirs`).
"""

from __future__ import annotations

import fnmatch
from itertools import filterfalse, islice

from json_repl.core import frames, statics
from json_repl.core.statics import MISSING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    Theirs = Callable[..., Any]

_MOST_TEXT = 10_000  # characters of the repr of one value
_LONGEST_KEY = 200
_STEPS = statics.Kinds(str, int)


def page(
    names: dict[str, object], hidden: set[str], offset: int, limit: int | None, match: str | None, type: str | None
) -> dict[str, object]:
    """Some of the names but the hidden ones, with what is known of each.

    Args:
        match: a part of the names, or a pattern with `*`, `?` or `[`.
        type: the name of their type, or such a pattern.
    """
    found: Iterable[str] = filterfalse(hidden.__contains__, names)
    count = len(names) - len(hidden)
    if match or type:
        if match:
            fits = _filter(match, whole=False)
            found = [name for name in found if fits(name)]
        if type:
            fits_type = _filter(type, whole=True)
            found = [name for name in found if _has_type(names[name], fits_type)]
        found = list(found)
        count = len(found)
    end = count if limit is None else min(offset + limit, count)
    return {
        "variables": [{"name": name, **about(names[name])} for name in islice(found, offset, max(end, offset))],
        "count": count,
        "next_offset": end if end < count else None,
    }


def _filter(pattern: str, *, whole: bool) -> Callable[[str], bool]:
    if any(sign in pattern for sign in "*?["):
        return lambda text: fnmatch.fnmatchcase(text, pattern)
    return (lambda text: text == pattern) if whole else (lambda text: pattern in text)


def _has_type(value: object, fits: Callable[[str], bool]) -> bool:
    kind = type(value)
    return fits(statics.type_name(kind)) or fits(statics.full_name(kind))


def about(value: object) -> dict[str, object]:
    """Type, size, shape and a short text of one value."""
    kind = type(value)
    told: dict[str, object] = {"type": statics.type_name(kind), "module": statics.type_module(kind)}
    try:
        whose = None if told["module"] == "builtins" else frames.library(value)
        if whose in ("pandas", "polars"):
            extent = frames.shape(value)
            size = frames.size(value, whose or "")
            text = f"<{statics.full_name(kind)} {tuple(extent or ())}>"
        else:
            extent, size, text = statics.shape(value), statics.size(value), statics.short(value)
    except Exception:  # a frame that is broken inside, or a container that changes all the time
        extent, size, text = None, None, f"<{statics.full_name(kind)} object>"
    return {**told, "repr": text, "size_bytes": size, "shape": extent}


# -- one of them -------------------------------------------------------------------------------------------------------


def detail(
    value: object, name: str, path: list[Any], offset: int, limit: int, theirs: Theirs | None
) -> dict[str, object] | None:
    """One value, and some of what is in it; None if there is none at the end of `path`.

    Args:
        path: how to get to it from a variable: keys, indexes, names of attributes.
        theirs: calls what may run code of the user's, and gives MISSING where that fails; None: it must not run.
    """
    for step in path:
        value = _step(value, step, theirs)
        if value is MISSING:
            return None
    told: dict[str, object] = {"name": name, "path": path, **about(value)}
    whose = frames.library(value)
    text = theirs(repr, value) if theirs is not None else MISSING
    if type(text) is str:
        told["repr"] = text if len(text) <= _MOST_TEXT else text[:_MOST_TEXT] + "..."
    elif whose in (None, "numpy"):
        told["repr"] = statics.short(value, _MOST_TEXT)
    rows: dict[str, object] = {}
    children: list[tuple[str | int, str, object]] = []
    if whose is not None and frames.is_table(value, whose):
        rows = frames.table(value, whose, offset, limit)
        count = value.shape[0]  # type: ignore[attr-defined]
    else:
        count, children = _children(value, offset, limit)
    end = offset + limit
    return {
        **told,
        "children": [{"step": step, "kind": kind, **about(child)} for step, kind, child in children],
        "count": count,
        "next_offset": end if end < count else None,
        "table": rows or None,
    }


def _children(value: object, offset: int, limit: int) -> tuple[int, list[tuple[str | int, str, object]]]:
    """What is in a value, by the steps that lead there: items, elements, then attributes that it has of its own."""
    found: list[tuple[str | int, str, object]] = []
    base = statics.container_kind(value)
    count = 0
    if base is not None:
        count = base.__len__(value)  # type: ignore[attr-defined]
        for place, child in enumerate(statics.items(value, base, offset, limit), offset):
            found.append((_key(child[0]), "item", child[1]) if base is dict else (place, "item", child))
    elif frames.library(value) == "numpy" and value.shape:  # type: ignore[attr-defined]
        count = value.shape[0]  # type: ignore[attr-defined]
        found = [(n, "item", value[n]) for n in range(offset, min(offset + limit, count))]  # type: ignore[index]
    attributes = _attributes(value)
    start = max(0, offset - count)
    found += [(name, "attribute", child) for name, child in attributes[start : start + limit - len(found)]]
    return count + len(attributes), found


def _attributes(value: object) -> list[tuple[str, object]]:
    """What an object holds under names of its own, or a class or a module defines; not what is computed."""
    kind = type(value)
    own = statics.own_dict(value)
    if statics.is_kind(value):
        own = {name: statics.attribute(value, name) for name in statics.own_names(value)}  # type: ignore[arg-type]
    found = {name: child for name, child in (own or {}).items() if type(name) is str}
    for name in statics.slots(kind):
        child = statics.attribute(value, name)
        if child is not MISSING:
            found.setdefault(name, child)
    hidden = statics.is_kind(value) or statics.is_module(value)
    return [(name, child) for name, child in found.items() if not (hidden and name.startswith("__"))]


def _key(key: object) -> str | int:
    return key if type(key) in _STEPS else statics.short(key, _LONGEST_KEY)  # type: ignore[return-value]


def _step(value: object, step: str | int, theirs: Theirs | None) -> Any:
    base = statics.container_kind(value)
    found = MISSING
    if frames.library(value) is not None:
        found = frames.item(value, step)
    elif base is dict:
        found = statics.lookup(value, step)  # type: ignore[arg-type]
        if found is MISSING and type(step) is str:
            pairs = statics.items(value, dict, 0, None)
            found = next((child for key, child in pairs if type(key) is not str and _key(key) == step), MISSING)
    elif base is not None and type(step) is int and step >= 0:
        found = next(iter(statics.items(value, base, step, 1)), MISSING)
    if found is MISSING and type(step) is str:
        found = statics.attribute(value, step)
        if found is MISSING or (type(found) is property and not statics.is_kind(value)):
            found = theirs(getattr, value, step) if theirs is not None else MISSING
    return found
