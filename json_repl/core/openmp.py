"""Child side: GNU OpenMP in a process that forks. Imported when a session has threads that are not Python's.

Its library (libgomp, as scikit-learn uses it) keeps a pool of threads for the next parallel region. A copy made by fork
has the pool and none of its threads, and waits for them for ever. So the pool is ended before the fork; it comes back
by itself. Other OpenMP libraries see to that themselves.
"""

from __future__ import annotations

import os
import sys

from json_repl.core.imports import ours

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HARD = 2  # omp_pause_hard of OpenMP 5.0, section 3.2.44

_libraries: dict[str, Any] = {}  # by their paths
_modules = 0  # that were imported when the libraries were looked for last


def pause() -> None:
    """End the pools of all libgomp that are loaded."""
    global _modules
    if len(sys.modules) != _modules:
        _modules = len(sys.modules)
        _find()
    for library in _libraries.values():
        library.omp_pause_resource_all(_HARD)


def _find() -> None:
    with open("/proc/self/maps") as maps:
        paths = {line.split(maxsplit=5)[5].rstrip("\n") for line in maps if "libgomp" in line}
    for path in paths - _libraries.keys():
        with ours():
            import ctypes
        library = ctypes.CDLL(path, os.RTLD_NOLOAD | os.RTLD_NOW)
        if hasattr(library, "omp_pause_resource_all"):  # GCC 9 or newer
            _libraries[path] = library
