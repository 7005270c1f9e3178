"""Child side: what code in a session finds ready, as ``h`` and as ``helpers``.

Plain functions that return values and raise errors in plain words; ``help(h.read)`` explains one, ``dir(h)`` lists all.
Paths are str or os.PathLike, ``~`` is expanded. Functions that change a file return how much: bytes, lines or places.
Lines are counted from 1, and ranges include both ends.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

# Helper -> the file it lives in, which is read at first use. The files' names are private, so that a user's own
# helper may be called ``git`` or ``search``: importing a submodule sets an attribute of its name here.
_HOME = {
    "read": "_files",
    "write": "_files",
    "append": "_files",
    "exists": "_files",
    "list_files": "_files",
    "view": "_files",
    "replace": "_files",
    "insert": "_files",
    "json_read": "_files",
    "json_write": "_files",
    "tree": "_tree",
    "search_files": "_search",
    "search_code": "_search",
    "parse": "_source",
    "find_function": "_source",
    "find_class": "_source",
    "run": "_command",
    "CommandError": "_command",
    "git_status": "_git",
    "git_diff": "_git",
    "git_log": "_git",
    "git_add": "_git",
    "git_commit": "_git",
    "add_modules": "_extend",
}

__all__ = list(_HOME)


def __getattr__(name: str) -> "Any":
    if name not in _HOME:
        message = f"there is no helper {name!r}: dir(h) lists them"
        raise AttributeError(message, name=name, obj=sys.modules[__name__])
    home = f"{__name__}.{_HOME[name]}"
    __import__(home)
    value = globals()[name] = getattr(sys.modules[home], name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
