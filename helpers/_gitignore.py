"""Child side: which files git would ignore, by gitignore(5) and by what git's dir.c makes of it.

Read are the .gitignore files from the top of the repository down, and .git/info/exclude. Not read are the user's global
list (core.excludesFile) and the index, so that a file which is tracked in spite of a rule counts as ignored.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import NamedTuple

from ._glob import translate

# A line without the spaces at its end, unless escaped; it does not match one that ends in a lone backslash.
_TRIMMED = re.compile(r"((?:\\.|[^\\])*?) *", re.DOTALL)


class Rule(NamedTuple):
    """One line of a .gitignore file."""

    matches: Callable[[str], object]
    wanted: bool  # "!name": takes back what an earlier rule ignores
    folders_only: bool  # "name/"
    by_name: bool  # without another slash: holds for this name at any depth


class Rules:
    """What holds in one folder: the rules written there, before those of the folders above."""

    def __init__(self, folder: str, rules: list[Rule], above: Rules | None = None) -> None:
        self._start = len(_bytewise(os.path.join(folder, "")))
        self._rules = rules[::-1]
        self._above = above

    def entering(self, folder: str) -> Rules:
        """The rules for what is in `folder`, a folder in the one these rules are for."""
        above = _repository_rules(folder) if os.path.lexists(os.path.join(folder, ".git")) else self
        own = os.path.join(folder, ".gitignore")
        rules = [] if os.path.islink(own) else _read(own)  # git does not follow such a link either
        return Rules(folder, rules, above) if rules else above

    def ignores(self, path: str, is_folder: bool) -> bool:
        """Whether `path`, absolute and in the folder that these rules are for, is ignored. Links are files."""
        whole = _bytewise(path)
        name = whole.rpartition("/")[2]
        level: Rules | None = self
        while level:
            inside = whole[level._start :]
            for rule in level._rules:
                if (is_folder or not rule.folders_only) and rule.matches(name if rule.by_name else inside):
                    return not rule.wanted
            level = level._above
        return False


def rules_above(folder: str) -> Rules:
    """The rules for `folder`, an absolute path without links, from the folders around it in its repository."""
    top = repository(folder) or folder
    around = []
    while folder != top:
        folder = os.path.dirname(folder)
        around.append(folder)
    rules = Rules(top, [])
    for step in reversed(around):
        rules = rules.entering(step)
    return rules


def repository(folder: str) -> str | None:
    """The top of the git repository that `folder`, an absolute path, is in; None if it is in none."""
    while not os.path.lexists(os.path.join(folder, ".git")):
        if folder == os.path.dirname(folder):
            return None
        folder = os.path.dirname(folder)
    return folder


def _repository_rules(top: str) -> Rules:
    git = os.path.join(top, ".git")
    if os.path.isfile(git):  # a linked worktree or a submodule: "gitdir: <folder>"
        git = os.path.join(top, _content(git).partition(":")[2].strip())
        git = os.path.join(git, _content(os.path.join(git, "commondir")).strip())
    return Rules(top, _read(os.path.join(git, "info", "exclude")))


def _read(path: str) -> list[Rule]:
    rules = map(_rule, _content(path).removeprefix("\xef\xbb\xbf").split("\n"))
    return [rule for rule in rules if rule]


def _rule(line: str) -> Rule | None:
    line = line.removesuffix("\r")
    trimmed = _TRIMMED.fullmatch(line)
    glob = trimmed[1] if trimmed else line
    wanted = glob.startswith("!")
    glob = glob.removeprefix("!")
    folders_only = glob.endswith("/")
    glob = glob.removesuffix("/")
    if not glob or line.startswith("#"):
        return None
    matches = re.compile(translate(glob.removeprefix("/")), re.DOTALL).fullmatch
    return Rule(matches, wanted, folders_only, by_name="/" not in glob)


def _content(path: str) -> str:
    """The bytes of a file, one character each; nothing if it is not there."""
    if not os.path.isfile(path):  # also keeps away from a named pipe, which would block
        return ""
    try:
        with open(path, encoding="latin-1", newline="") as file:
            return file.read()
    except OSError:
        return ""


def _bytewise(path: str) -> str:
    """One character per byte: git's ``?`` and ``[]`` match bytes, not characters."""
    return os.fsencode(path).decode("latin-1")
