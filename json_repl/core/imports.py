"""Both sides: whose modules an import finds, ours or the user's.

The user's folder may hold a `json.py` or a `helpers.py`. Our imports must never find those, and the user's imports must
find just those. So user code gets the search path that Python would have given it (the current folder first), our own
imports use a path without that folder, and a module of ours that the user's folder has too leaves `sys.modules`.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

HOME = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # where the front door lies

# What Python itself has loaded before the first line of any script: nobody's folder can replace these.
_PYTHONS_OWN = frozenset(sys.builtin_module_names) | {
    *(
        "__main__",
        "os",
        "site",
        "io",
        "abc",
        "stat",
        "codecs",
        "encodings",
        "importlib",
        "zipimport",
        "_collections_abc",
    ),
    *("posixpath", "genericpath", "ntpath", "sitecustomize", "usercustomize", "_sitebuiltins"),
}

_change_mask, _BLOCK, _SET = _signal.pthread_sigmask, _signal.SIG_BLOCK, _signal.SIG_SETMASK
_ALL_SIGNALS = _signal.valid_signals()

_our_path: list[str] = []
_stash: dict[str, ModuleType] = {}  # ours, hidden from user code, e.g. {"json": <module 'json'>}


def users_path(path: list[str]) -> list[str]:
    """`path` as user code shall see it: the current folder first; our checkout last, but no other Python's packages."""
    rest = [entry for entry in path if entry]
    if HOME not in rest and os.path.basename(HOME) not in ("site-packages", "dist-packages"):
        rest.append(HOME)
    return ["", *rest]


def set_users_path(path: list[str]) -> None:
    """Install the search path of user code, and hide from it what its own folder replaces."""
    global _our_path
    _our_path = _without_users_folder(path)
    sys.path[:] = users_path(path)
    _hide()


def _without_users_folder(path: list[str]) -> list[str]:
    here = os.getcwd() if _cwd_exists() else None
    return [*(entry for entry in path if entry not in ("", ".", here, HOME)), HOME]


class ours:  # noqa: N801
    """``with ours():`` imports find our modules and the real standard library, whatever user code did to either.

    Signals wait until it is over: what a handler raises would leave half of a package behind, for good.
    """

    def __enter__(self) -> None:
        self._mask = _change_mask(_BLOCK, ())
        try:
            _change_mask(_BLOCK, _ALL_SIGNALS)
        except BaseException:  # a handler has raised it, with the signals blocked
            _change_mask(_SET, self._mask)
            raise
        self._theirs_path = sys.path
        self._theirs = {name: sys.modules.pop(name) for name in _replaced_by_user()}
        sys.modules.update(_stash)
        sys.path = _our_path or _without_users_folder(sys.path)

    def __exit__(self, *exc_info: object) -> None:
        sys.path = self._theirs_path
        if _our_path:
            _hide()
        sys.modules.update(self._theirs)
        _change_mask(_SET, self._mask)


def keep(module: ModuleType) -> Any:
    """A copy of a module, for code of ours that runs after user code may have spoiled the module itself."""
    copy = type(sys)(module.__name__)
    vars(copy).update(vars(module))
    return copy


def load_private(name: str, folder: str) -> ModuleType:
    """The package in `HOME/folder`, under a module name that no user's file has.

    Raises:
        Exception: whatever its import raises.
    """
    from importlib.machinery import ModuleSpec, SourceFileLoader

    if name in sys.modules:
        return sys.modules[name]
    file = os.path.join(HOME, folder, "__init__.py")
    loader = SourceFileLoader(name, file)
    spec = ModuleSpec(name, loader, origin=file, is_package=True)
    spec.submodule_search_locations = [os.path.dirname(file)]
    spec.has_location = True
    module = type(sys)(name)
    module.__spec__, module.__loader__, module.__package__ = spec, loader, name
    module.__file__, module.__path__ = file, list(spec.submodule_search_locations)
    sys.modules[name] = module
    try:
        with ours():
            loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _hide() -> None:
    for name in [name for name in sys.modules if "." not in name]:
        if name not in _PYTHONS_OWN and name not in _stash and _in_users_folder(name):
            for found in [key for key in sys.modules if key == name or key.startswith(name + ".")]:
                _stash[found] = sys.modules[found]
    for name, module in _stash.items():
        if sys.modules.get(name) is module:
            del sys.modules[name]


def _in_users_folder(name: str) -> bool:
    if _cwd_exists() and os.path.realpath(os.getcwd()) == os.path.realpath(HOME):
        return False
    return os.path.exists(name + ".py") or os.path.exists(os.path.join(name, "__init__.py"))


def _replaced_by_user() -> list[str]:
    """Names of the standard library, or ours, under which user code put something else into `sys.modules`."""
    library = os.path.dirname(os.__file__)
    found = []
    for name, module in list(sys.modules.items()):
        top = name.partition(".")[0]
        if top in _PYTHONS_OWN or (top not in sys.stdlib_module_names and top not in _stash):
            continue
        spec = getattr(module, "__spec__", None)
        origin = getattr(spec, "origin", None)
        if spec is None or (origin and origin not in ("built-in", "frozen") and not origin.startswith(library)):
            found.append(name)
    return found


def _cwd_exists() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True
