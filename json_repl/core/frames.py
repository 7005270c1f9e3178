"""Both sides: data frames and series of pandas and polars, and tables of numpy. Asked only where the class is theirs.

Their own code runs here, none of the user's: a cell's text is made by `statics`.
"""

from __future__ import annotations

import sys

from json_repl.core import statics
from json_repl.core.statics import MISSING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LIBRARIES = {"pandas": ("DataFrame", "Series", "Index"), "polars": ("DataFrame", "Series"), "numpy": ("ndarray",)}
_MOST_COLUMNS = 100
_modules = sys.modules


def library(value: object) -> str | None:
    """Whose frame, series or array it is, e.g. "pandas"; None if it is none."""
    kind = type(value)
    name = statics.type_module(kind).partition(".")[0]
    if name not in _LIBRARIES or _find(statics.type_module(kind), statics.type_name(kind)) is not kind:
        return None
    classes = [_find(name, known) for known in _LIBRARIES[name]]
    return name if any(base is known for base in statics.mro(kind) for known in classes) else None


def _find(module: str, name: str) -> Any:
    """What a module that is loaded has; a class of the user's may only say that it comes from there."""
    found = _modules.get(module)
    table = statics.own_dict(found) if statics.is_module(found) else None
    # One that somebody has made up has no file.
    return statics.lookup(table, name) if table and type(statics.lookup(table, "__file__")) is str else MISSING


def shape(value: Any) -> list[int] | None:
    """Along each axis."""
    return [int(size) for size in value.shape]


def size(value: Any, whose: str) -> int | None:
    """Bytes that its data take; of objects in it, only the references."""
    if whose == "polars":
        return int(value.estimated_size())
    used = value.memory_usage(deep=False)
    return int(used if statics.type_name(type(value)) != "DataFrame" else used.sum())


def columns(value: Any, whose: str) -> list[tuple[Any, str]] | None:
    """Names and types of the columns, of what has any."""
    dimensions = len(value.shape)
    if whose == "numpy":
        return [(n, str(value.dtype)) for n in range(value.shape[1])] if dimensions == 2 else None
    if dimensions == 1:
        return None
    return list(zip(list(value.columns), [str(kind) for kind in value.dtypes]))


def is_table(value: Any, whose: str | None) -> bool:
    """Whether it has rows that can be shown: all but an array of other than two dimensions."""
    return whose is not None and (whose != "numpy" or len(value.shape) == 2)


def table(value: Any, whose: str, start: int, most: int) -> dict[str, object]:
    """Some rows of it: `{columns, columns_left_off, rows, index}`, each cell a text."""
    cut = list(range(start, min(start + most, value.shape[0])))
    named = columns(value, whose)
    if named is None:
        series = value[cut[0] : cut[-1] + 1] if cut else value[:0]
        if whose == "pandas" and statics.type_name(type(value)) == "Series":
            series = value.iloc[start : start + most]
        cells = [[cell] for cell in _list(series)]
        named = [(getattr(value, "name", None), str(value.dtype))]
    else:
        shown = range(min(len(named), _MOST_COLUMNS))
        rows = value.iloc[start : start + most] if whose == "pandas" else value[start : start + most]
        by_column = [_list(_column(rows, whose, n)) for n in shown]
        cells = [list(row) for row in zip(*by_column)] if by_column else [[] for _ in cut]
    labels = _list(value.index[start : start + most]) if whose == "pandas" and hasattr(value, "index") else cut
    return {
        "columns": [{"name": _text(name), "type": kind} for name, kind in named[:_MOST_COLUMNS]],
        "columns_left_off": max(0, len(named) - _MOST_COLUMNS),
        "index": [_text(label) for label in labels],
        "rows": [[statics.short(cell) for cell in row] for row in cells],
    }


def _column(rows: Any, whose: str, n: int) -> Any:
    if whose == "numpy":
        return rows[:, n]
    return rows.iloc[:, n] if whose == "pandas" else rows[:, n]


def _list(values: Any) -> list[Any]:
    return list(
        values.tolist() if hasattr(values, "tolist") else values.to_list() if hasattr(values, "to_list") else values
    )


def _text(label: object) -> str:
    return label if type(label) is str else statics.short(label)


def names(value: object) -> list[str]:
    """What a subscript takes: the names of columns, or of a structured array's fields."""
    whose = library(value)
    if whose is None:
        return []
    found = (value.dtype.names or ()) if whose == "numpy" else getattr(value, "columns", ())  # type: ignore[attr-defined]
    return [name for name in list(found) if type(name) is str]


def item(value: Any, name: object) -> Any:
    """A column of a frame, a field, or an element; MISSING if there is none."""
    try:
        whose = library(value)
        if type(name) is int and whose != "numpy" and len(value.shape) == 2:
            return value.iloc[:, name] if whose == "pandas" else value[:, name]
        return value.iloc[name] if whose == "pandas" and type(name) is int and hasattr(value, "iloc") else value[name]
    except Exception:
        return MISSING
