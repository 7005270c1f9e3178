"""Both sides: answers of the methods that look around: `complete`, `inspect`, `is_complete`, `variables`.

In the live process they run no code of the user's. In a copy that is thrown away they may (`free`): then attributes are
asked for, objects show themselves, and jedi helps, where it is installed.
"""

from __future__ import annotations

from _json import encode_basestring_ascii
from itertools import repeat
from operator import is_

from json_repl.core import variables
from json_repl.core.imports import ours
from json_repl.core.statics import MISSING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from json_repl.core.interpreter import Interpreter

_MOST_ROWS = 1000


def answer(interpreter: Interpreter, what: str, free: bool, params: dict[str, Any]) -> str:
    """The answer of a method, as JSON."""
    return _to_json(_LOOKS[what](interpreter, _caller(interpreter) if free else None, **params))


def _caller(interpreter: Interpreter) -> Callable[..., Any]:
    """What calls code that may be the user's; MISSING if it fails."""

    def call(function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return interpreter.interruptible(0, lambda was_hit: function(*arguments))
        except BaseException:
            return MISSING

    return call


def _names(interpreter: Interpreter) -> dict[str, Any]:
    """The namespace in a form that holds only names: to look one up asks no key of user code's own making."""
    names = interpreter.namespace
    if all(map(is_, map(type, names), repeat(str))):
        return names
    return {name: value for name, value in list(names.items()) if type(name) is str}


def _complete(interpreter: Interpreter, theirs: Any, code: str, cursor: int, patience: float) -> dict[str, object]:
    with ours():
        from json_repl.core import completion
        from json_repl.core.evaluating import Evaluator

    names = _names(interpreter)
    completer = completion.Completer(code[:cursor], Evaluator(names, theirs))
    found = completer.matches()
    if theirs is not None and not completer.knows_all:
        with ours():
            from json_repl.core import with_jedi
        found = completion.in_order(_join(found, with_jedi.matches(code, cursor, names, patience)))
    shown = found[: completion.MOST]
    start, end = completer.start, cursor
    types = [{"text": match.text, "type": match.kind, "start": start, "end": end, "signature": ""} for match in shown]
    for match, told in zip(shown[: completion.MOST_SIGNATURES], types):
        told["signature"] = match.signature()
    return {
        "matches": [match.text for match in shown],
        "cursor_start": start,
        "cursor_end": end,
        "metadata": {"_jupyter_types_experimental": types},
        "left_off": len(found) - len(shown),
    }


def _join(own: list[Any], further: list[Any]) -> list[Any]:
    """Ours, and what jedi knows beyond it; of what both have, what jedi calls it."""
    by_text = {match.text: match for match in own}
    for match in further:
        found = by_text.setdefault(match.text, match)
        if match.kind not in ("<unknown>", "statement", "instance"):
            found.kind = match.kind
    return list(by_text.values())


def _inspect(interpreter: Interpreter, theirs: Any, code: str, cursor: int, level: int) -> dict[str, object]:
    with ours():
        from json_repl.core import inspection
        from json_repl.core.evaluating import Evaluator

    told = inspection.look_at(code, cursor, level, Evaluator(_names(interpreter), theirs))
    if told is None:
        return {"found": False, "data": {}, "metadata": {}}
    return {"found": True, "data": {"text/plain": inspection.as_text(told)}, "metadata": told}


def _is_complete(interpreter: Interpreter, theirs: Any, code: str) -> dict[str, object]:
    with ours():
        from json_repl.core import completeness

    status, indent = completeness.status(code, interpreter.flags)
    return {"status": status, "indent": indent}


def _variables(interpreter: Interpreter, theirs: Any, **wanted: Any) -> dict[str, object]:
    names = _names(interpreter)
    hidden = {name for name in interpreter.hidden if name in names and not interpreter.is_changed(name, names[name])}
    return variables.page(names, hidden, **wanted)


def _variable(
    interpreter: Interpreter, theirs: Any, name: str, path: list[Any], offset: int, limit: int | None
) -> dict[str, object] | None:
    names = _names(interpreter)
    if name not in names:
        return None
    most = _MOST_ROWS if limit is None else min(limit, _MOST_ROWS)
    return variables.detail(names[name], name, path, offset, most, theirs)


_LOOKS: dict[str, Callable[..., dict[str, object] | None]] = {
    "complete": _complete,
    "inspect": _inspect,
    "is_complete": _is_complete,
    "variables": _variables,
    "variable": _variable,
}


def _to_json(value: Any) -> str:
    # The json module costs some milliseconds where nobody has imported it, and user code may have spoiled it.
    kind = type(value)
    if value is None or kind is bool:
        return {None: "null", True: "true", False: "false"}[value]
    if kind is int:
        return str(value)
    if kind is str:
        return encode_basestring_ascii(value)
    if kind is dict:
        return "{" + ",".join(f"{encode_basestring_ascii(key)}:{_to_json(item)}" for key, item in value.items()) + "}"
    if kind in (list, tuple):
        return "[" + ",".join(map(_to_json, value)) + "]"
    raise TypeError(f"no JSON for {kind}")
