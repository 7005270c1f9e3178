"""Both sides: what an expression in unfinished code stands for, found without calling anything.

Names, attributes, constant subscripts and literals are looked up. Of a call only the class of its result can be known:
of a class it is called, or of what a function says that it returns.
"""

from __future__ import annotations

import _ast
import builtins
from types import FunctionType, MethodType

from json_repl.core import frames, statics
from json_repl.core.statics import MISSING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_ONLY_AST = 0x400  # ast.PyCF_ONLY_AST
_LONGEST = 10_000  # characters of an expression
_builtins = vars(builtins)
_DISPLAYS: dict[type, type] = {
    _ast.List: list,
    _ast.ListComp: list,
    _ast.Tuple: tuple,
    _ast.Dict: dict,
    _ast.DictComp: dict,
    _ast.Set: set,
    _ast.SetComp: set,
    _ast.JoinedStr: str,
    _ast.Compare: bool,
}


class Found:
    """What an expression stands for: its value, or, where that is MISSING, only its class."""

    __slots__ = ("kind", "value")

    def __init__(self, value: Any, kind: type | None = None) -> None:
        self.value = value
        self.kind = type(value) if kind is None else kind


class Evaluator:
    """Looks things up.

    Args:
        names: of a namespace, all of them plain texts.
        theirs: calls what may run code of the user's, and gives MISSING where that fails; None: it must not run.
    """

    def __init__(self, names: dict[str, Any], theirs: Callable[..., Any] | None) -> None:
        self.names = names
        self.theirs = theirs

    def find(self, source: str | None) -> Found | None:
        """What `source`, an expression, stands for; None where that cannot be known."""
        if source is None or len(source) > _LONGEST:
            return None
        try:
            tree = compile(f"({source}\n)", "<look>", "eval", _ONLY_AST, dont_inherit=True)
            return self._find(tree.body)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None

    def _find(self, node: Any) -> Found | None:
        kind = type(node)
        if kind is _ast.Constant:
            return Found(node.value)
        if kind is _ast.Name:
            return self.name(node.id)
        if kind in _DISPLAYS:
            return Found(MISSING, _DISPLAYS[kind])
        if kind is _ast.Attribute:
            owner = self._find(node.value)
            return None if owner is None else self.attribute(owner, node.attr)
        if kind is _ast.Subscript:
            owner = self._find(node.value)
            return None if owner is None else self._item(owner.value, node.slice)
        if kind is _ast.Call:
            function = self._find(node.func)
            return None if function is None else self._result(function.value)
        return None

    def name(self, name: str) -> Found | None:
        """What a name stands for."""
        found = self.names.get(name, MISSING)
        if found is MISSING:
            found = statics.lookup(_builtins, name)
        return None if found is MISSING else Found(found)

    def attribute(self, owner: Found, name: str) -> Found | None:
        """What an attribute of something stands for."""
        if owner.value is MISSING:
            found = statics.bound(statics.in_class(owner.kind, name), MISSING, owner.kind)
            return _declared(found) if _is_computed(found) else Found(found)
        found = statics.attribute(owner.value, name)
        if _is_computed(found):
            if self.theirs is None:
                return _declared(found)
            found = self.theirs(getattr, owner.value, name)
        return None if found is MISSING else Found(found)

    def _item(self, owner: Any, index: Any) -> Found | None:
        key = _constant(index)
        if owner is MISSING or key is MISSING:
            return None
        base = statics.container_kind(owner)
        found = MISSING
        if type(owner) is str and type(key) is int:
            return Found(MISSING, str)
        if frames.library(owner) is not None:
            found = frames.item(owner, key)
        elif base is dict:
            found = statics.lookup(owner, key)
        elif (base is list or base is tuple) and type(key) is int:
            count = base.__len__(owner)
            place = key + count if key < 0 else key
            found = base.__getitem__(owner, place) if 0 <= place < count else MISSING
        elif self.theirs is not None:
            found = self.theirs(lambda: owner[key])
        return None if found is MISSING else Found(found)

    def _result(self, function: Any) -> Found | None:
        """What a call gives."""
        if function is MISSING:
            return None
        if statics.is_kind(function):
            # A metaclass may have a call of its own; the type of a value is another thing than a new class.
            return Found(MISSING, function) if statics.is_plain_class(function) and function is not type else None
        return _declared(function)


def _constant(node: Any) -> Any:
    if type(node) is _ast.Constant:
        return node.value
    if type(node) is _ast.UnaryOp and type(node.op) is _ast.USub and type(node.operand) is _ast.Constant:
        value: Any = node.operand.value
        return -value if type(value) in (int, float) else MISSING
    return MISSING


def _is_computed(found: Any) -> bool:
    """Whether only code can tell what it is: nothing stands there, or a property, or the like."""
    kind = type(found)
    return found is MISSING or (
        statics.in_class(kind, "__get__") is not MISSING
        and kind is not FunctionType
        and kind is not MethodType
        and (kind is property or statics.type_module(kind) != "builtins")
    )


def _declared(found: Any) -> Found | None:
    """An instance of the class that a function, or a property's, says that it returns."""
    function: Any = found.fget if type(found) is property else found
    if type(function) is MethodType:
        function = function.__func__
    return _returned(function) if type(function) is FunctionType else None


def _returned(function: FunctionType) -> Found | None:
    said = statics.lookup(function.__annotations__, "return")
    if type(said) is str:
        said = statics.lookup(function.__globals__, said)
    return Found(MISSING, said) if statics.is_plain_class(said) else None
