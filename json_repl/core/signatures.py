"""Both sides: what a callable takes, and what it says of itself, without a call. No code of the user's runs."""

from __future__ import annotations

import functools
import inspect
from types import (
    BuiltinFunctionType,
    FunctionType,
    MethodDescriptorType,
    MethodType,
    MethodWrapperType,
    WrapperDescriptorType,
)

from json_repl.core import statics
from json_repl.core.statics import MISSING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_IN_C = statics.Kinds(BuiltinFunctionType, MethodDescriptorType, MethodWrapperType, WrapperDescriptorType)
_NO_SIGNATURE = statics.Kinds(inspect.Signature, type(MISSING))
_MOST_WRAPPED = 20
_LONGEST_DEFAULT = 40
_Signature = inspect.Signature


class _Shown:
    """Stands for a default or an annotation, whose own repr may be user code."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _function_of(value: object) -> Any:
    """The function behind a callable, or MISSING, and how many of its first parameters are given already."""
    kind = type(value)
    if kind is MethodType:
        return value.__func__, 1  # type: ignore[attr-defined]
    if kind is FunctionType or kind in _IN_C:
        return value, 0
    if statics.is_kind(value):
        for name in ("__new__", "__init__"):
            found = statics.unwrapped(statics.in_class(value, name))  # type: ignore[arg-type]
            if type(found) is FunctionType:
                return found, 1
        is_plain = statics.is_plain_class(value) and statics.in_class(value, "__signature__") is MISSING  # type: ignore[arg-type]
        return (value, 0) if is_plain else (MISSING, 0)
    found = statics.in_class(kind, "__call__")
    return (found, 1) if type(found) is FunctionType else (MISSING, 0)


def signature(value: object) -> Any:
    """The `inspect.Signature` of a callable, with defaults and annotations as texts; None where it is not known."""
    if type(value) is functools.partial:
        return _rest_of(value)
    function, given = _function_of(value)
    for _ in range(_MOST_WRAPPED):
        own = statics.own_dict(function) if type(function) is FunctionType else None
        wrapped = statics.lookup(own, "__wrapped__") if own else MISSING
        if type(wrapped) is not FunctionType:
            break
        function = wrapped
    if function is MISSING or (own and type(statics.lookup(own, "__signature__")) not in _NO_SIGNATURE):
        return None
    try:
        found = _Signature.from_callable(function, follow_wrapped=False)
    except Exception:  # C code that says nothing of its parameters
        return None
    parameters = list(found.parameters.values())[given:]
    return _Signature([_plain(parameter) for parameter in parameters], return_annotation=_plain_note(found))


def _rest_of(partial: Any) -> Any:
    if type(partial.func) is functools.partial:  # which Python makes one of, unless it is made otherwise
        return None
    found = signature(partial.func)
    if found is None:
        return None
    return found.replace(parameters=[*found.parameters.values()][len(partial.args) :])


def _plain(parameter: Any) -> Any:
    default, note = parameter.default, parameter.annotation
    return parameter.replace(
        default=default if default is parameter.empty else _Shown(statics.short(default, _LONGEST_DEFAULT)),
        annotation=note if note is parameter.empty else _Shown(annotation(note)),
    )


def _plain_note(found: Any) -> Any:
    note = found.return_annotation
    return note if note is _Signature.empty else _Shown(annotation(note))


def annotation(note: object) -> str:
    """As it was written, nearly."""
    if type(note) is str:
        return note
    if statics.is_kind(note):
        return statics.full_name(note).removeprefix("__main__.")  # type: ignore[arg-type]
    if statics.type_module(type(note)) in ("types", "typing"):
        try:
            return repr(note).replace("typing.", "")
        except Exception:
            pass
    return statics.short(note, _LONGEST_DEFAULT)


def keywords(value: object) -> list[str]:
    """The names of arguments that a callable takes by name."""
    found = signature(value)
    if found is None:
        return []
    return [parameter.name for parameter in found.parameters.values() if parameter.kind in (1, 3)]


def doc(value: object) -> str | None:
    """The docstring of a function, a class or a module; of anything else, that of its class."""
    found: Any = MISSING
    if type(value) is FunctionType or type(value) in _IN_C:
        found = value.__doc__
    elif type(value) is MethodType:
        return doc(value.__func__)
    elif type(value) is property:
        found = value.__doc__ if type(value.__doc__) is str else doc(value.fget)
    elif statics.is_module(value):
        found = statics.lookup(statics.own_dict(value) or {}, "__doc__")
    else:
        kind: Any = value if statics.is_kind(value) else type(value)
        found = statics.lookup(vars_of(kind), "__doc__")
        if type(found) is not str and statics.type_module(kind) == "builtins":
            found = type.__dict__["__doc__"].__get__(kind)
    return inspect.cleandoc(found) if type(found) is str else None


def vars_of(kind: type) -> Any:
    """The dictionary of a class."""
    return type.__dict__["__dict__"].__get__(kind)
