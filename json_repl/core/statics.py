"""Both sides: what can be told of any object while no code of the user's runs, by Python's own slots alone.

`type(x)` cannot lie, `x.__class__` can. A class's name, its dictionary and its bases are read by what `type` itself has
for them, not by what a metaclass says. Imported at the first look at anything.
"""

from __future__ import annotations

import sys
from abc import ABCMeta
from enum import EnumMeta
from itertools import islice
from types import (
    BuiltinFunctionType,
    FunctionType,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodType,
    ModuleType,
    WrapperDescriptorType,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

MISSING: Any = type("Missing", (), {"__repr__": lambda self: "MISSING"})()


class Kinds:
    """Some classes. Whether another is among them is no question to its metaclass, which may have its own equality."""

    def __init__(self, *kinds: Any) -> None:
        self.kinds = kinds
        self._ids = frozenset(map(id, kinds))

    def __contains__(self, kind: object) -> bool:
        return id(kind) in self._ids


_SCALARS = Kinds(int, float, bool, complex, type(None), type(...), type(NotImplemented), range)
_TEXTS = Kinds(str, bytes, bytearray)
_CONTAINERS = Kinds(list, tuple, dict, set, frozenset)
_METACLASSES = Kinds(type, ABCMeta, EnumMeta)
_METHODS = Kinds(staticmethod, classmethod)
_BRACKETS: dict[type, str] = {list: "[]", tuple: "()", dict: "{}", set: "{}", frozenset: "{}"}
# Classes of the library in whose reprs is no code of the user's: {(module, name), ...}
_QUOTABLE = {
    ("datetime", "date"),
    ("datetime", "datetime"),
    ("datetime", "timedelta"),
    ("decimal", "Decimal"),
    ("pathlib", "PosixPath"),
    ("pathlib._local", "PosixPath"),
}
_MOST_BITS = 4096  # Python refuses to print integers of more than 4300 digits
_DEEPEST = 4
_C_FUNCTIONS = Kinds(WrapperDescriptorType, MethodDescriptorType)

_type_dict: Any = vars(type)
_mro_of, _dict_of = _type_dict["__mro__"].__get__, _type_dict["__dict__"].__get__
_name_of, _module_of, _qualname_of = (_type_dict[name].__get__ for name in ("__name__", "__module__", "__qualname__"))
_vars_of_module: Any = ModuleType.__dict__["__dict__"].__get__  # type: ignore[index]
_sizeof: Any = sys.getsizeof
_modules = sys.modules


def type_name(kind: type) -> str:
    """The name of a class."""
    return str(_name_of(kind))


def type_module(kind: type) -> str:
    """Where a class comes from; nothing where that is no text."""
    module = _module_of(kind)
    return module if type(module) is str else ""


def mro(kind: type) -> tuple[type, ...]:
    """A class and all its bases."""
    found: tuple[type, ...] = _mro_of(kind)
    return found


def lookup(table: Mapping[Any, Any], key: object) -> Any:
    """`table[key]` for a key of a plain type, or MISSING. Other keys' own equality is not asked."""
    kind = type(key)
    for found, value in list(table.items() if type(table) is MappingProxyType else dict.items(table)):  # type: ignore[arg-type]
        if found is key or (type(found) is kind and found == key):
            return value
    return MISSING


def in_class(kind: type, name: str) -> Any:
    """What a class or one of its bases has under a name, unbound, or MISSING."""
    for base in mro(kind):
        found = lookup(_dict_of(base), name)
        if found is not MISSING:
            return found
    return MISSING


def own_dict(value: object) -> dict[Any, Any] | None:
    """The dictionary of an instance or of a module, as it is."""
    kind = type(value)
    if is_module(value):
        found = _vars_of_module(value)
        return found if type(found) is dict else None
    for base in mro(kind):
        getter = lookup(_dict_of(base), "__dict__")
        if type(getter) is GetSetDescriptorType and base is not type:
            found = getter.__get__(value)
            return dict.copy(found) if isinstance(found, dict) and type(found) is not dict else found
    return None


def attribute(value: object, name: str) -> Any:
    """What stands under a name in a value, its class or, of a class, its bases; MISSING if only code could tell.

    A property, and any other object of a class that has code of its own for this, comes as it stands there.
    """
    kind = type(value)
    if is_kind(value):
        found = in_class(value, name)  # type: ignore[arg-type]
        if found is not MISSING:
            return bound(found, MISSING, value) if type(found) in _METHODS else found
    own = own_dict(value)
    if own is not None:
        found = lookup(own, name)
        if found is not MISSING:
            return found
    found = in_class(kind, name)
    if type(found) is MemberDescriptorType or (type(found) is GetSetDescriptorType and _is_pythons(found)):
        try:
            return found.__get__(value)
        except Exception:  # a slot that nothing was put into
            return MISSING
    return bound(found, value, kind)


def bound(found: Any, value: object, kind: object) -> Any:
    """What an instance makes of what it finds in its class, if that is Python's own doing."""
    if type(found) is FunctionType:
        return MethodType(found, value)
    if type(found) is staticmethod:
        return found.__func__
    if type(found) is classmethod:
        return MethodType(found.__func__, kind) if type(found.__func__) is FunctionType else found.__func__
    return found.__get__(value) if type(found) in _C_FUNCTIONS and value is not MISSING else found


def _is_pythons(getter: Any) -> bool:
    return type_module(getter.__objclass__) in ("builtins", "datetime", "numpy")


def unwrapped(found: Any) -> Any:
    """The function in a staticmethod or a classmethod."""
    return found.__func__ if type(found) in _METHODS else found


def names(value: object) -> list[str]:
    """As ``dir(value)``, but what its own ``__dir__`` says."""
    kind = type(value)
    if issubclass(kind, type):
        return names_of_kind(value)  # type: ignore[arg-type]
    own = own_dict(value) or {}
    found = {name for name in list(own) if type(name) is str}
    return sorted(found) if is_module(value) else sorted(found.union(names_of_kind(kind)))


def names_of_kind(kind: type) -> list[str]:
    """What any instance of a class has."""
    return sorted({name for base in mro(kind) for name in list(_dict_of(base)) if type(name) is str})


def own_names(kind: type) -> list[str]:
    """What a class itself defines, not its bases."""
    return [name for name in list(_dict_of(kind)) if type(name) is str]


def slots(kind: type) -> list[str]:
    """The names of a class's ``__slots__``, and its bases'."""
    return [
        name
        for base in mro(kind)
        for name in own_names(base)
        if type(_dict_of(base)[name]) is MemberDescriptorType and not name.startswith("__")
    ]


def is_kind(value: object) -> bool:
    """Whether it is a class."""
    return issubclass(type(value), type)


def is_plain_class(value: Any) -> bool:
    """Whether it is a class whose metaclass is one of Python's, so that to ask it runs no code of the user's."""
    return type(value) in _METACLASSES


def is_module(value: object) -> bool:
    """Whether it is a module."""
    return issubclass(type(value), ModuleType)


def shape(value: object) -> list[int] | None:
    """How many there are: of a container, or, of an array, along each axis. None where only code could tell."""
    kind = type(value)
    if kind in _SCALARS:
        return None
    base = container_kind(value)
    if base is not None:
        return [base.__len__(value)]  # type: ignore[attr-defined]
    if kind in _TEXTS:
        return [len(value)]  # type: ignore[arg-type]
    found = _by_c(value, "shape")
    if isinstance(found, tuple) and all(type(size) is int for size in tuple.__iter__(found)):
        return list(tuple.__iter__(found))
    return None


def size(value: object) -> int | None:
    """Bytes of memory, without what it refers to; None where only code could tell."""
    if type(value) in _SCALARS or type(value) in _TEXTS or type(value) in _CONTAINERS:
        return int(_sizeof(value))
    held = _by_c(value, "nbytes")
    if type(held) is int:
        return held
    if type(in_class(type(value), "__sizeof__")) in _C_FUNCTIONS:
        try:
            return int(_sizeof(value))
        except Exception:
            return None
    return None


def _by_c(value: object, name: str) -> Any:
    """An attribute that a C type computes, as numpy's ``shape`` is."""
    if is_kind(value):
        return MISSING
    found = in_class(type(value), name)
    if type(found) is not GetSetDescriptorType:
        return MISSING
    try:
        return found.__get__(value)
    except Exception:
        return MISSING


def container_kind(value: object) -> type | None:
    """Which of Python's own containers it is, or is made from."""
    kind = type(value)
    return next((base for base in _CONTAINERS.kinds if issubclass(kind, base)), None)


def items(value: object, kind: type, start: int, most: int | None) -> list[Any]:
    """Some of what a container holds, by its base class's own methods: of a dict, pairs."""
    it = dict.items(value) if kind is dict else kind.__iter__(value)  # type: ignore[attr-defined,arg-type]
    if kind is list or kind is tuple:
        return list(islice(it, start, None if most is None else start + most))
    for _ in range(3):  # it may change its size meanwhile, in another thread
        try:
            return list(islice(it, start, None if most is None else start + most))
        except RuntimeError:
            it = iter(kind(value))
    return []


# -- texts -------------------------------------------------------------------------------------------------------------


def short(value: object, most: int = 80) -> str:
    """One line about a value, of at most `most` characters: its repr where that runs no code but Python's own."""
    text = _short(value, most, _DEEPEST)
    return text if len(text) <= most else text[: most - 3] + "..."


def _short(value: object, most: int, depth: int) -> str:
    kind = type(value)
    if kind in _TEXTS:
        cut = value[: most + 1]  # type: ignore[index]
        return repr(cut)
    if kind in _SCALARS:
        if kind is int and value.bit_length() > _MOST_BITS:  # type: ignore[attr-defined]
            return f"<int of {value.bit_length()} bits>"  # type: ignore[attr-defined]
        return repr(value) if kind is not range or _fits(value) else "<range>"
    base = container_kind(value)
    if base is not None:
        return _short_container(value, kind, base, most, depth)
    if is_kind(value):
        return f"<class {full_name(value)!r}>"  # type: ignore[arg-type]
    return _short_object(value, kind)


def _fits(span: Any) -> bool:
    return all(abs(part).bit_length() <= _MOST_BITS for part in (span.start, span.stop, span.step))


def _short_container(value: object, kind: type, base: type, most: int, depth: int) -> str:
    brackets = _BRACKETS[base]
    left, right = brackets[0], brackets[1]
    count = base.__len__(value)  # type: ignore[attr-defined]
    if not depth:
        text = f"{left}...{right}"
    else:
        parts: list[str] = []
        room = most
        for item in items(value, base, 0, min(count, most // 2 + 1)):
            if base is dict:
                part = f"{_short(item[0], most, depth - 1)}: {_short(item[1], most, depth - 1)}"
            else:
                part = _short(item, most, depth - 1)
            parts.append(part)
            room -= len(part) + 2
            if room < 0:
                break
        if base is tuple and count == 1:
            right = ",)"
        inner = ", ".join(parts) + (", ..." if len(parts) < count else "")
        text = f"{left}{inner}{right}"
    if (base is set or base is frozenset) and not count:
        text = "" if kind is not set else "set()"
    return text if kind is base and kind is not frozenset else f"{type_name(kind)}({text})"


def _short_object(value: object, kind: type) -> str:
    place = type_module(kind), type_name(kind)
    if kind is FunctionType:
        return f"<function {_qualname(value)}>"
    if kind is BuiltinFunctionType:
        return f"<built-in function {value.__name__}>"  # type: ignore[attr-defined]
    if kind is MethodType and type(value.__func__) is FunctionType:  # type: ignore[attr-defined]
        return f"<bound method {_qualname(value.__func__)}>"  # type: ignore[attr-defined]
    if is_module(value):
        name = lookup(own_dict(value) or {}, "__name__")
        return f"<module {name!r}>" if type(name) is str else "<module>"
    if place == ("datetime", "datetime") and attribute(value, "tzinfo") is not None:
        place = "", ""
    if place in _QUOTABLE and lookup(own_dict(_modules.get(place[0])) or {}, place[1]) is kind:
        return repr(value)
    extent = shape(value)
    item = in_class(kind, "item") if extent == [] else MISSING
    if type(item) is MethodDescriptorType:  # a number of numpy's
        return _short(item(value), 80, 1)
    if extent is not None:
        element = attribute(_by_c(value, "dtype"), "type")
        dtype = f" {type_name(element)}" if is_kind(element) else ""
        return f"<{full_name(kind)} {tuple(extent)}{dtype}>"
    if issubclass(kind, BaseException):
        return f"{type_name(kind)}{_short(BaseException.args.__get__(value), 60, 1)}"  # type: ignore[attr-defined]
    return f"<{full_name(kind)} object>"


def _qualname(function: Any) -> str:
    return str(function.__qualname__)  # a text, as Python sees to it


def full_name(kind: type) -> str:
    """Module and name of a class, e.g. "pandas.core.frame.DataFrame"; of Python's own, the name."""
    module, name = type_module(kind), str(_qualname_of(kind))
    return name if module in ("builtins", "") else f"{module}.{name}"
