"""Both sides: what is known of the object that the cursor stands on: what it takes, says of itself, and its source."""

from __future__ import annotations

import inspect
import linecache
import re
from types import BuiltinFunctionType, FunctionType, MethodType

from json_repl.core import signatures, sources, statics
from json_repl.core.cursor import NAME, OP, STRING, Code
from json_repl.core.evaluating import Evaluator, Found
from json_repl.core.statics import MISSING
from json_repl.core.variables import about

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LONGEST_REPR = 1000  # characters
_MOST_SOURCE = 100_000
_FUNCTIONS = statics.Kinds(FunctionType, MethodType, BuiltinFunctionType)
_NUMBERS = statics.Kinds(int, float, complex, bool, type(None))
_REST_OF_NAME = re.compile(r"\w*")


def expression_at(code: str, cursor: int) -> list[str]:
    """The expressions that may be meant, best first: the name at the cursor with what leads to it, then what is called.

    As in `text.upper(` and `text.up|per`; in `f(a, |` it is `f`.
    """
    rest = _REST_OF_NAME.match(code, cursor)
    end = rest.end() if rest is not None else cursor
    if end > cursor and (cursor == 0 or not re.match(r"\w", code[cursor - 1])) and code[cursor].isdigit():
        end = cursor
    found = Code(code[:end])
    wanted = []
    tokens = found.tokens
    if found.in_comment:
        return []
    at = len(tokens)
    if tokens and tokens[-1].kind == OP and tokens[-1].text == ".":
        at -= 1
    if found.string is None and at and tokens[at - 1].kind in (NAME, OP) and tokens[at - 1].is_value:
        wanted.append(found.value_before(at))
    for bracket in reversed(found.brackets):
        wanted.append(found.callable_before(bracket))
    if not wanted and tokens and tokens[-1].kind == STRING:
        wanted.append(found.value_before(len(tokens)))
    return [text for text in wanted if text is not None]


def look_at(code: str, cursor: int, level: int, evaluator: Evaluator) -> dict[str, object] | None:
    """What is known of it; None if nothing is found there."""
    for text in expression_at(code, cursor):
        found = evaluator.find(text)
        if found is not None:
            return _tell(text, found, level, evaluator)
    return None


def _tell(text: str, found: Found, level: int, evaluator: Evaluator) -> dict[str, object]:
    value, kind = found.value, found.kind
    known = value is not MISSING
    subject = value if known else kind
    told: dict[str, object] = {
        "name": text,
        "type": statics.type_name(kind),
        "module": statics.type_module(kind),
        "signature": _signature(text, value) if known else None,
        "docstring": _docstring(subject, evaluator),
        "repr": None,
        "shape": None,
        "file": None,
        "line": None,
        "source": None,
    }
    if known and not _is_code(value):
        of_value = about(value)
        own = evaluator.theirs(repr, value) if evaluator.theirs is not None else MISSING
        told["repr"] = own[:_LONGEST_REPR] if type(own) is str else of_value["repr"]
        told["shape"] = of_value["shape"]
    place = _place(subject)
    if place is not None:
        told["file"], told["line"] = place
        if level:
            told["source"] = _source(subject)
    return told


def _is_code(value: object) -> bool:
    return type(value) in _FUNCTIONS or statics.is_kind(value)


def _signature(text: str, value: object) -> str | None:
    found = signatures.signature(value)
    return None if found is None else f"{text.rpartition('.')[2]}{found}"


def _docstring(value: object, evaluator: Evaluator) -> str | None:
    if type(value) in _NUMBERS:
        return signatures.doc(type(value))
    found = signatures.doc(value)
    if found is None and type(value) is MethodType:
        found = _inherited(value)
    if found is None and evaluator.theirs is not None and not statics.is_kind(value):
        told = evaluator.theirs(inspect.getdoc, value)
        found = told if type(told) is str else None
    return found


def _inherited(method: Any) -> str | None:
    """That of the method of a base that it takes the place of."""
    for base in statics.mro(type(method.__self__)):
        function = statics.lookup(signatures.vars_of(base), method.__func__.__name__)
        if type(function) is FunctionType and type(function.__doc__) is str:
            return inspect.cleandoc(function.__doc__)
    return None


def _function(value: Any) -> Any:
    if type(value) is MethodType:
        value = value.__func__
    if type(value) is property:
        value = value.fget
    return value


def _place(value: Any) -> tuple[str, int | None] | None:
    """The file that defines it, and the line."""
    value = _function(value)
    if type(value) is FunctionType:
        return _real_file(value.__code__.co_filename, value.__globals__), value.__code__.co_firstlineno
    if statics.is_module(value):
        name = statics.lookup(statics.own_dict(value) or {}, "__file__")
        return (name, None) if type(name) is str else None
    if statics.is_plain_class(value):
        for base in signatures.vars_of(value).values():
            function = statics.unwrapped(base)
            if type(function) is FunctionType:
                return function.__code__.co_filename, None
        return _file_of(value)
    if statics.is_kind(value):
        return None
    kind = type(value)
    return _place(kind) if statics.is_plain_class(kind) and statics.type_module(kind) != "builtins" else None


def _real_file(name: str, module: dict[str, Any]) -> str:
    """That of a module that was frozen into Python, too."""
    found = statics.lookup(module, "__file__") if name.startswith("<frozen ") else MISSING
    return found if type(found) is str else name


def _file_of(kind: type) -> tuple[str, None] | None:
    try:
        return inspect.getfile(kind), None
    except Exception:  # it is made in C, or its module is gone
        return None


def _source(value: object) -> str | None:
    value = _function(value)
    if type(value) is not FunctionType and not statics.is_kind(value) and not statics.is_module(value):
        value = type(value)
    sources.refill()
    try:
        if type(value) is FunctionType and value.__code__.co_filename.startswith("<frozen "):
            lines = linecache.getlines(_real_file(value.__code__.co_filename, value.__globals__))
            return "".join(inspect.getblock(lines[value.__code__.co_firstlineno - 1 :])) or None
        return inspect.getsource(value)[:_MOST_SOURCE]  # type: ignore[arg-type]
    except Exception:  # there is none
        return None


_LABELS = (
    ("signature", "Signature"),
    ("type", "Type"),
    ("repr", "String form"),
    ("shape", "Shape"),
    ("file", "File"),
    ("source", "Source"),
    ("docstring", "Docstring"),
)


def as_text(told: dict[str, Any]) -> str:
    """All of it for people."""
    lines = []
    for key, label in _LABELS:
        if told[key] is not None:
            text = str(told[key])
            gap = "\n" if "\n" in text or key in ("source", "docstring") else " " * (12 - len(label))
            lines.append(f"{label}:{gap}{text}")
    return "\n".join(lines)
