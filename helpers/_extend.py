"""Child side: the user's own helper modules (the setting JSON_REPL_HELPERS)."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable
from types import ModuleType

_added: dict[str, str] = {}  # helper -> the module it came from, e.g. {"greet": "~/tools.py"}


def add_modules(names: str | Iterable[str]) -> list[str]:
    """Make the public functions of modules helpers, and return what went wrong, a sentence for each problem.

    names: paths of .py files or names that `import` finds; a string holds several, separated as PATH is.
    A module's public names are its __all__, or else the functions defined in it whose name has no leading underscore.
    A module that fails to load adds nothing, and a name that is already taken stays what it is. Adding a file again
    reads it again.
    """
    several = names.split(os.pathsep) if isinstance(names, str) else names
    return [problem for name in several if name for problem in _add(name)]


def _add(name: str) -> list[str]:
    try:
        module = _load(name)
        helpers = {public: getattr(module, public) for public in _public(module)}
    except (Exception, SystemExit) as error:  # whatever a user's module does, the session goes on
        reason = str(error).partition("\n")[0]
        return [f"the helper module {name!r} could not be loaded: {type(error).__name__}: {reason}"]
    return [problem for helper, value in helpers.items() for problem in _offer(helper, value, name)]


def _offer(helper: str, value: object, origin: str) -> list[str]:
    package = sys.modules[__package__]
    own = _added.get(helper) == origin
    if not own and (helper in package.__all__ or helper in vars(package)):
        taken_by = f"{_added[helper]!r}" if helper in _added else "the built-in helpers"
        return [f"{helper!r} of the helper module {origin!r} was left out: the name is taken by {taken_by}"]
    if not own:
        package.__all__.append(helper)
    _added[helper] = origin
    setattr(package, helper, value)
    return []


def _load(name: str) -> ModuleType:
    if not name.endswith(".py"):
        return importlib.import_module(name)
    path = os.path.abspath(os.path.expanduser(name))
    # A name that the user's own `import` does not find, so that neither disturbs the other.
    inner_name = f"{__package__}.added_{os.path.basename(path)[:-3]}"
    spec = importlib.util.spec_from_file_location(inner_name, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[inner_name] = module  # before it runs: dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def _public(module: ModuleType) -> list[str]:
    if hasattr(module, "__all__"):
        return list(module.__all__)
    return [name for name, value in vars(module).items() if not name.startswith("_") and _defined_in(module, value)]


def _defined_in(module: ModuleType, value: object) -> bool:
    # Not by FunctionType, which a function with a decorator such as functools.cache no longer is.
    is_function = callable(value) and not isinstance(value, type)
    return is_function and getattr(value, "__module__", None) == module.__name__
