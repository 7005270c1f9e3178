"""Both sides: whose modules an import finds, ours or the user's.

The user's folder may hold a `json.py` or a `helpers.py`. Our imports must never find those, and the user's imports must
find just those. So there are two search paths:

    ours    Python's library, our house, installed packages; the current folder is not in it, under no name
    user's  what Python would have given a script in the current folder, and our house last

A process begins with ours (`take_over`) and keeps it until user code runs in it (`let_user_in`); from then on what we
import late we import ``with ours()``. A module of ours that the user's path has too leaves `sys.modules` meanwhile.

The first module that either side imports: so it imports nothing that Python has not loaded yet.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import os
import sys
from _frozen_importlib import module_from_spec
from _frozen_importlib_external import PathFinder, spec_from_file_location
from _thread import get_ident

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType
    from typing import Any

HOME = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # where the front door lies

_LIBRARY = os.path.dirname(os.__file__)
_LIBRARIES = (_LIBRARY, os.path.join(_LIBRARY, "lib-dynload"))
_PACKAGES = ("site-packages", "dist-packages")
_OUR_NAMES = frozenset({"helpers", "json_repl", "json_repl_session", "subprocess_worker", "worker_manager"})

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
# But the front door, which nobody of us imports.
_WE_IMPORT = (sys.stdlib_module_names | _OUR_NAMES | {"click", "orjson", "psutil", "jedi", "parso"}) - _PYTHONS_OWN
_WE_IMPORT -= {"json_repl_session"}

_given: list[str] | None = None  # the path that Python has started with; None in somebody else's program
_change_mask, _BLOCK, _SET = _signal.pthread_sigmask, _signal.SIG_BLOCK, _signal.SIG_SETMASK
_ALL_SIGNALS = _signal.valid_signals()

_our_path: list[str] = []
_shared = True  # there is other code than ours in this process
_stash: dict[str, ModuleType] = {}  # ours, hidden from user code, e.g. {"json": <module 'json'>}
_active: ours | None = None  # the outermost ``with ours():`` that is under way
_known: dict[str, ModuleType] = {}  # those of `sys.modules` that are ours, as it takes time to find out


def take_over(path: list[str]) -> None:
    """All imports in this process are ours, until `let_user_in`. `path` is the one that Python has started with."""
    global _given, _our_path, _shared
    _given = path[:]
    script = os.path.dirname(os.path.realpath(sys.argv[0]))
    if path and os.path.realpath(path[0]) == script:  # Python put it there for the script, which user code is not
        del _given[0]
    _our_path = sys.path = our_path(path)
    _shared = False
    sys.modules.update(_stash)


def let_user_in() -> None:
    """User code runs in this process from now on: imports are the user's, but those ``with ours()``."""
    global _shared
    _shared = True
    sys.path = users_path(_given or [])
    sys.meta_path.insert(0, _UsersHook())
    _hide(sys.modules)


def our_path(path: list[str]) -> list[str]:
    """`path` as our own imports need it."""
    here = _stat(".")
    others = [
        entry
        for entry in path
        if isinstance(entry, str) and entry not in ("", HOME, *_LIBRARIES)
        # Whoever starts a session among the packages has not written them.
        if os.path.basename(entry) in _PACKAGES or _stat(entry) != here
    ]
    return [*(entry for entry in path if entry in _LIBRARIES), HOME, *others]


def users_path(path: list[str]) -> list[str]:
    """`path` as user code shall see it: the current folder first; our checkout last, but no other Python's packages."""
    rest = [entry for entry in path if entry]
    if HOME not in rest and os.path.basename(HOME) not in _PACKAGES:
        rest.append(HOME)
    return ["", *rest]


class ours:  # noqa: N801
    """``with ours():`` imports find our modules and the real standard library, whatever user code did to either.

    Signals wait until it is over: what a handler raises would leave half of a package behind, for good.
    """

    def __enter__(self) -> None:
        global _active, _our_path
        if _active is not None:
            return
        self._mask = _change_mask(_BLOCK, ())
        try:
            _change_mask(_BLOCK, _ALL_SIGNALS)
        except BaseException:  # a handler has raised it, with the signals blocked
            _change_mask(_SET, self._mask)
            raise
        if _given is None:  # that program may have changed its path
            _our_path = our_path(sys.path)
        self._theirs = {name: sys.modules.pop(name) for name in _replaced_by_user()}
        sys.modules.update(_stash)
        self._count = len(sys.modules)
        self.thread = get_ident()
        self.path, sys.path, _active = sys.path, _our_path, self

    def __exit__(self, *exc_info: object) -> None:
        global _active
        if _active is not self:
            return
        sys.path, _active = self.path, None
        if _shared:
            _hide(sys.modules if len(sys.modules) != self._count else ())
        sys.modules.update(self._theirs)
        _change_mask(_SET, self._mask)


class _UsersHook:
    """An import hook for what the path alone cannot give user code."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Part of the import system: the user's module, where Python would find ours."""
        if path is not None:
            return None
        if _active is not None:  # which is no business of the user's other threads
            return None if _active.thread == get_ident() else PathFinder.find_spec(name, _active.path)
        if name in _OUR_NAMES:
            # Python prefers any package with an __init__.py to a folder without, wherever they are on the path.
            return PathFinder.find_spec(name, [entry for entry in sys.path if entry != HOME])
        return None


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
    if name in sys.modules:
        return sys.modules[name]
    home = os.path.join(HOME, folder)
    spec: Any = spec_from_file_location(name, os.path.join(home, "__init__.py"), submodule_search_locations=[home])
    module = sys.modules[name] = module_from_spec(spec)
    try:
        with ours():
            spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _hide(names: Iterable[str]) -> None:
    """Put away those modules of ours in whose place user code gets its own: of `names`, and all that were before."""
    new = sorted(name for name in names if name.partition(".")[0] in _WE_IMPORT)  # a package before what is in it
    folders = _users_folders() if new else []
    for name in new:
        top = name.partition(".")[0]
        if top in _stash or (top == name and _is_ours(name) and any(_holds(folder, name) for folder in folders)):
            _stash[name] = sys.modules[name]
    for name, module in _stash.items():
        if sys.modules.get(name) is module:
            del sys.modules[name]


def _users_folders() -> list[str]:
    """Those of the user's path whose modules go before the standard library's."""
    path = sys.path[: sys.path.index(_LIBRARY)] if _LIBRARY in sys.path else sys.path[:1]
    home = _stat(HOME)
    folders = [entry or "." for entry in path if isinstance(entry, str) and entry not in _LIBRARIES]
    return [folder for folder in folders if os.path.isdir(folder) and _stat(folder) != home]


def _holds(folder: str, name: str) -> bool:
    module = os.path.join(folder, name)
    return os.path.exists(module + ".py") or os.path.exists(os.path.join(module, "__init__.py"))


def _replaced_by_user() -> list[str]:
    """Names that we import, under which user code put something else into `sys.modules`."""
    modules = sys.modules
    loaded = _WE_IMPORT.intersection(modules)
    tops = {name for name in loaded if _known.get(name) is not modules[name] and not _is_ours(name)}
    return [name for name in list(sys.modules) if name.partition(".")[0] in tops] if tops else []


def _is_ours(name: str) -> bool:
    """Whether a module that is loaded, no submodule, comes from where our imports look."""
    module = sys.modules[name]
    origin = getattr(getattr(module, "__spec__", None), "origin", None)
    if not isinstance(origin, str):
        return False
    folder = os.path.dirname(origin)
    if origin not in ("built-in", "frozen") and folder not in _our_path and os.path.dirname(folder) not in _our_path:
        return False
    _known[name] = module
    return True


def _stat(folder: str) -> object:
    """What tells whether two folders are the same, under whatever names; None for one that is not there."""
    try:
        found = os.stat(folder)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino
