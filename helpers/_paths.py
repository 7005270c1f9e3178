"""Child side: what every helper does with a path that it is given."""

from __future__ import annotations

import os

StrPath = str | os.PathLike[str]


def expand(path: StrPath) -> str:
    """The path as str, with ``~`` replaced by the home folder."""
    return os.path.expanduser(os.fspath(path))


def missing(path: str) -> FileNotFoundError:
    """The error for a path that leads nowhere; it names the folder that a relative path was looked for in."""
    return FileNotFoundError(f"{path!r} does not exist (the current folder is {os.getcwd()})")


def folder(path: StrPath) -> str:
    """The expanded path of an existing folder."""
    found = expand(path)
    if os.path.isdir(found):
        return found
    if os.path.exists(found):
        raise NotADirectoryError(f"{found!r} is a file: give a folder")
    raise missing(found)
