"""Child side: finding files by name, and lines by regular expression."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from ._found import Found
from ._glob import translate
from ._paths import StrPath, expand, folder
from ._tree import start_rules, walk

# As much as git looks at to tell a binary file by its zero bytes.
_HEAD = 8000
_SHOWN = 200


class Match(NamedTuple):
    """One line that was found: its file, its number from 1, and its text without line end."""

    path: str
    line: int
    text: str

    def __repr__(self) -> str:
        text = self.text if len(self.text) <= _SHOWN else self.text[:_SHOWN] + "..."
        return f"{self.path}:{self.line}: {text}"


def search_files(
    pattern: str, path: StrPath = ".", ignored: bool = False, max_results: int | None = 1000
) -> Found[str]:
    """Return the paths of the files below a folder whose name matches a glob such as "*.py" or "test_?.txt".

    A pattern with a slash is compared with the whole path from `path` on, and "**" crosses folders: "src/**/*.py".
    What .gitignore excludes is left out unless `ignored`; links are not followed. max_results: None for all; the
    list's `truncated` says if there were more. Raises FileNotFoundError or NotADirectoryError.
    """
    return Found((found for found, _ in matching(pattern, path, ignored)), max_results)


def search_code(
    pattern: str,
    path: StrPath = ".",
    files: str = "*",
    *,
    ignore_case: bool = False,
    ignored: bool = False,
    max_results: int | None = 200,
) -> Found[Match]:
    """Return the lines that a regular expression matches, as Match(path, line, text), in one file or below a folder.

    files: a glob as in `search_files`. Binary files, links, what cannot be read and, unless `ignored`, what .gitignore
    excludes are left out. max_results: None for all; the list's `truncated` says if there were more.
    Raises ValueError if `pattern` is no regular expression, FileNotFoundError if there is no `path`.
    """
    try:
        finds = re.compile(pattern, re.IGNORECASE if ignore_case else 0).search
    except re.error as error:
        reason = f"{pattern!r} is no regular expression: {error}"
        raise ValueError(f"{reason}; re.escape(text) makes one for plain text") from None
    candidates = code_files(path, files, ignored)
    found = (Match(file, number, text) for file in candidates for number, text in _lines(file) if finds(text))
    return Found(found, max_results)


def code_files(path: StrPath, files: str, ignored: bool = False) -> Iterator[str]:
    """The one file that `path` is, or the regular files below it whose name matches."""
    if os.path.isfile(expand(path)):
        return iter([expand(path)])
    return (found for found, entry in matching(files, path, ignored) if entry.is_file(follow_symlinks=False))


def matching(pattern: str, path: StrPath, ignored: bool) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Every file below `path` that a glob matches: its path, beginning with `path`, and its entry."""
    top = os.path.realpath(folder(path))
    shown = os.path.normpath(expand(path))
    prefix = "" if shown == "." else os.path.join(shown, "")
    wanted = re.compile(translate(pattern), re.DOTALL).fullmatch
    whole = "/" in pattern
    below = walk(top, start_rules(top, ignored))
    return ((prefix + inside, entry) for inside, entry in below if wanted(inside if whole else entry.name))


def _lines(file: str) -> Iterator[tuple[int, str]]:
    """The numbered lines of a text file; nothing of a binary one, or of one that cannot be read."""
    try:
        with open(file, "rb") as opened:
            if b"\0" in opened.read(_HEAD):
                return
            opened.seek(0)
            for number, line in enumerate(opened, 1):
                yield number, line.decode("utf-8", "replace").rstrip("\r\n")
    except OSError:
        return
