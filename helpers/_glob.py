"""Child side: glob patterns with the meaning that git gives them."""

from __future__ import annotations

import re

NEVER = "(?!)"

_CLASSES = {
    "alnum": "a-zA-Z0-9",
    "alpha": "a-zA-Z",
    "blank": r" \t",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r" \t\n\r",
    "upper": "A-Z",
    "xdigit": "a-fA-F0-9",
}
# What stands between brackets: [:class:], or one character, or a range of them; any end may be escaped.
_ITEM = re.compile(r"\[:([^\]]*):\]|(?:\\(.)|([^\\]))(?:-(?:\\(.)|([^\]\\])))?", re.DOTALL)
_TOKEN = re.compile(r"(?P<stars>\*+)|(?P<one>\?)|(?P<set>\[)|\\(?P<escaped>.)|(?P<plain>[^\\])", re.DOTALL)


def translate(glob: str) -> str:
    """The regular expression, for fullmatch and with re.DOTALL, that a glob stands for.

    ``*`` and ``?`` stop at a slash, ``**`` between slashes does not. A malformed glob matches nothing, as in git.
    """
    parts, at = [], 0
    while at < len(glob):
        token = _TOKEN.match(glob, at)
        if not token:  # a backslash at the end
            return NEVER
        if token["set"]:
            part, at = _bracket(glob, token.end())
        elif token["stars"]:
            part, at = _stars(glob, at, token.end())
        else:
            part, at = "[^/]" if token["one"] else re.escape(token["escaped"] or token["plain"]), token.end()
        parts.append(part)
    return "".join(parts)


def _stars(glob: str, start: int, end: int) -> tuple[str, int]:
    """The expression for a run of stars, and where to go on."""
    # git compares a prefix without special characters first and matches only the rest, so that in "a**/b" too the
    # stars stand at the beginning.
    begins = glob[start - 1 : start] in ("", "/") or not re.search(r"[*?[\\]", glob[:start])
    if end - start == 1 or not begins or not re.match(r"$|\\?/", glob[end:]):
        return "[^/]*", end
    if glob[end : end + 1] == "/":
        return "(?:.*/)?", end + 1
    return ".*", end


def _bracket(glob: str, at: int) -> tuple[str, int]:
    """The expression for the set whose bracket opened before `at`, and where to go on."""
    negated = glob[at : at + 1] in ("!", "^")
    at += negated
    first, members = at, []
    while at == first or glob[at : at + 1] != "]":
        item = _ITEM.match(glob, at)
        if not item or item[1] not in (None, *_CLASSES):
            return NEVER, len(glob)
        members.append(_CLASSES[item[1]] if item[1] is not None else _characters(item))
        at = item.end()
    body = "".join(members)
    if negated:
        return f"[^/{body}]", at + 1
    return f"(?!/)[{body}]" if body else NEVER, at + 1


def _characters(item: re.Match[str]) -> str:
    low = item[2] or item[3]
    high = item[4] or item[5] or low
    return f"{re.escape(low)}-{re.escape(high)}" if low <= high else ""
