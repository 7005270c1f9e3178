"""Child side: walking a tree of folders without what git ignores."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice

from ._gitignore import Rules, rules_above
from ._paths import StrPath, expand, folder


def tree(path: StrPath = ".", depth: int = 3, ignored: bool = False, max_entries: int = 500) -> str:
    """Return a drawing of the folders and files below `path`; made for print().

    depth: how many levels; a folder that is not gone into ends in "/ ...". max_entries: how many lines at most; a last
    line says if it was cut. ignored: also show what .gitignore excludes.
    Raises FileNotFoundError or NotADirectoryError.
    """
    top = os.path.realpath(folder(path))
    lines = _branches(top, start_rules(top, ignored), depth, "")
    drawn = [expand(path).rstrip("/") + "/", *islice(lines, max_entries)]
    if any(True for _ in lines):
        drawn.append(f"(cut after {max_entries}: give a larger max_entries, or a folder further down)")
    return "\n".join(drawn)


def start_rules(top: str, ignored: bool) -> Rules | None:
    """The rules to begin a walk at `top` with; None walks through everything."""
    return None if ignored else rules_above(top)


def walk(top: str, rules: Rules | None, prefix: str = "") -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield every file below `top`, an absolute path: its path from there, and its entry. Links are not followed."""
    rules = rules and rules.entering(top)
    for entry in _entries(top, rules):
        if entry.is_dir(follow_symlinks=False):
            yield from walk(entry.path, rules, f"{prefix}{entry.name}/")
        else:
            yield prefix + entry.name, entry


def _entries(top: str, rules: Rules | None) -> list[os.DirEntry[str]]:
    """What is in one folder and wanted, by name. A folder that cannot be read, or is gone by now, counts as empty."""
    try:
        with os.scandir(top) as scan:
            entries = sorted((entry for entry in scan if entry.name != ".git"), key=lambda entry: entry.name)
    except OSError:
        return []
    if not rules:
        return entries
    return [entry for entry in entries if not rules.ignores(entry.path, entry.is_dir(follow_symlinks=False))]


def _branches(top: str, rules: Rules | None, depth: int, indent: str) -> Iterator[str]:
    rules = rules and rules.entering(top)
    entries = _entries(top, rules)
    for entry in entries:
        stem, below = ("└── ", "    ") if entry is entries[-1] else ("├── ", "│   ")
        if entry.is_symlink():
            yield f"{indent}{stem}{entry.name} -> {os.readlink(entry.path)}"
        elif not entry.is_dir():
            yield indent + stem + entry.name
        elif depth > 1:
            yield f"{indent}{stem}{entry.name}/"
            yield from _branches(entry.path, rules, depth - 1, indent + below)
        else:
            yield f"{indent}{stem}{entry.name}/ ..."
