"""Child side: the daily git commands, with values for answers.

`path` is a folder of the repository, the current one by default. Where it is a file, the answer is about that file
only. All paths in answers, and those given to `git_add`, are relative to that folder.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from ._command import CommandError, run
from ._found import Found
from ._gitignore import repository
from ._paths import StrPath, expand, missing

_GIT = ("git", "--no-pager", "--literal-pathspecs", "-c", "color.ui=false", "-c", "core.quotePath=false")


class Status(NamedTuple):
    """The state of a work tree; `branch` is None where HEAD is detached. A file may be both staged and unstaged."""

    branch: str | None
    staged: list[str]
    unstaged: list[str]
    untracked: list[str]
    conflicted: list[str]

    @property
    def clean(self) -> bool:
        """Whether there is nothing to commit or to resolve, and no untracked file."""
        return not any(self[1:])

    def __repr__(self) -> str:
        lists = zip(self._fields[1:], self[1:], strict=True)
        lines = [f"{kind}: {', '.join(paths)}" for kind, paths in lists if paths] or ["clean"]
        return "\n".join([f"branch {self.branch}" if self.branch else "detached HEAD", *lines])


class Commit(NamedTuple):
    """One commit; `date` is when it was written, as ISO 8601 with the author's time zone."""

    hash: str
    author: str
    date: str
    subject: str

    def __repr__(self) -> str:
        return f"{self.hash[:10]} {self.date} {self.author}: {self.subject}"


def git_status(path: StrPath = ".") -> Status:
    """Return Status(branch, staged, unstaged, untracked, conflicted), the last four lists of paths.

    A renamed file is its old and its new path. Raises CommandError where there is no repository.
    """
    prefix = _git(path, "rev-parse", "--show-prefix").rstrip("\n")
    options = ("--porcelain=v2", "--branch", "-z", "--no-renames", "--untracked-files=all")
    status = Status(None, [], [], [], [])
    for record in _git(path, "status", *options, about=True).split("\0"):
        kind, _, rest = record.partition(" ")
        if kind == "1":
            state, file = rest[:2], os.path.relpath(rest.split(" ", 7)[7], prefix or ".")
            status.staged.extend([file] * (state[0] != "."))
            status.unstaged.extend([file] * (state[1] != "."))
        elif kind == "u":
            status.conflicted.append(os.path.relpath(rest.split(" ", 9)[9], prefix or "."))
        elif kind == "?":
            status.untracked.append(os.path.relpath(rest, prefix or "."))
        elif rest.startswith("branch.head ") and rest != "branch.head (detached)":
            status = status._replace(branch=rest.removeprefix("branch.head "))
    return status


def git_diff(path: StrPath = ".", staged: bool = False) -> str:
    """Return, as text, what was changed and not staged; or with `staged`, what the next commit would change.

    Raises CommandError where there is no repository.
    """
    return _git(path, "diff", "--no-ext-diff", *["--cached"] * staged, about=True)


def git_log(n: int = 10, path: StrPath = ".") -> Found[Commit]:
    """Return the last `n` commits, newest first, as Commit(hash, author, date, subject).

    Raises CommandError where there is no repository, or no commit yet.
    """
    options = ("-z", "--pretty=format:%H%x00%an%x00%aI%x00%s", "--no-show-signature")
    log = _git(path, "log", f"-{n:d}", *options, about=True)
    fields = iter(log.split("\0")) if log else iter(())
    return Found(map(Commit._make, zip(*[fields] * 4, strict=True)))


def git_add(paths: StrPath | list[StrPath], path: StrPath = ".") -> Status:
    """Stage files or folders as they are, deleted ones too, and return the new git_status.

    paths: one or several, without wildcards. Raises CommandError if one does not exist or is ignored.
    """
    several = paths if isinstance(paths, list) else [paths]
    _git(path, "add", "--", *map(expand, several))
    return git_status(path)


def git_commit(message: str, path: StrPath = ".") -> Commit:
    """Commit what is staged, and return the new Commit.

    Raises CommandError if nothing is staged, the message is empty, or a hook refuses.
    """
    _git(path, "commit", "--quiet", "--file=-", input=message)
    return git_log(1, path)[0]


def _git(path: StrPath, command: str, *arguments: str, about: bool = False, input: str = "") -> str:
    """The output of one git command; with `about`, limited to `path` if that is a file."""
    where = expand(path)
    if not os.path.exists(where):
        raise missing(where)
    limit = []
    if not os.path.isdir(where):
        where, name = os.path.split(where)
        limit = ["--", name] if about else []
    where = where or "."
    result = run([*_GIT, command, *arguments, *limit], cwd=where, env={"GIT_TERMINAL_PROMPT": "0"}, input=input)
    if result.ok:
        return result.stdout
    if repository(os.path.realpath(where)) is None:
        raise CommandError(f"{os.path.abspath(where)!r} is in no git repository: `git init` makes one", result)
    reason = " ".join((result.stderr.strip() or result.stdout.strip() or result.summary()).split())
    raise CommandError(f"git {command}: {reason}", result)
