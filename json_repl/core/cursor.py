"""Both sides: where in a piece of code the cursor stands. The code before it may be broken, and mostly is unfinished.

code before the cursor --scan--> tokens, the open brackets, and whether a string or a comment is open at its end
"""

from __future__ import annotations

import keyword
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

NAME, NUMBER, STRING, OP = "name", "number", "string", "op"
_TOKEN = re.compile(
    r"""
      (?P<space>[ \t\f]+|\\\r?\n)
    | (?P<comment>\#[^\r\n]*)
    | (?P<newline>\r?\n|\r)
    | (?P<string>(?:[rR][bBfFtT]?|[bBfFtT][rR]?|[uU])?(?:\"{3}|'{3}|"|'))
    | (?P<number>(?:\d|\.\d)(?:[eE][+-]\d|[\w.])*)
    | (?P<name>[^\W\d]\w*)
    | (?P<op>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_PAIRS = {")": "(", "]": "[", "}": "{"}
# A line that begins with one of these begins a statement, whatever bracket an unfinished line before it has left open.
_STATEMENTS = frozenset({"import", "def", "class", "return", "while", "with", "try", "raise", "del", "global", "pass"})
_VALUES = frozenset({"None", "True", "False"})


class Token:
    """One token: its kind, its text, where it starts, and, of a closing bracket, which token opens it."""

    __slots__ = ("kind", "opener", "start", "text")

    def __init__(self, kind: str, text: str, start: int) -> None:
        self.kind, self.text, self.start = kind, text, start
        self.opener: int | None = None

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.start + len(self.text)

    @property
    def is_value(self) -> bool:
        """It can end an expression that a dot, a bracket or a parenthesis follows."""
        if self.kind == NAME:
            return not keyword.iskeyword(self.text) or self.text in _VALUES
        return self.kind in (NUMBER, STRING) or self.text in _PAIRS


class Code:
    """Code up to the cursor.

    Attributes:
        tokens: of the statement that the cursor stands in, without spaces and comments.
        brackets: indexes of the tokens that open a bracket which is not closed, outermost first.
        in_comment: the cursor stands in a comment.
        string: what the string begins with that the cursor stands in, e.g. `rb"`, or None.
        string_start: where its first character stands.
    """

    def __init__(self, text: str, start: int = 0) -> None:
        self.text = text
        self.tokens: list[Token] = []
        self.brackets: list[int] = []
        self.in_comment = False
        self.string: str | None = None
        self.string_start = 0
        self._scan(start)

    def _scan(self, at: int) -> None:
        text = self.text
        while at < len(text):
            match = _TOKEN.match(text, at)
            assert match is not None  # whatever it is, it is an operator
            kind, token, at = str(match.lastgroup), match.group(), match.end()
            if kind == "string":
                end = self._end_of_string(token, at)
                if end is None:
                    self._open_string(token, at)
                    return
                self.tokens.append(Token(STRING, text[match.start() : end], match.start()))
                at = end
            elif kind == "newline":
                if not self.brackets or self._begins_statement(at):
                    self._end_statement()
            elif kind == "comment":
                self.in_comment = at == len(text)
            elif kind != "space":
                self._add(Token(kind, token, match.start()))

    def _begins_statement(self, at: int) -> bool:
        word = re.compile(r"[ \t]*([a-z]+)\b").match(self.text, at)
        return word is not None and word.group(1) in _STATEMENTS

    def _end_statement(self) -> None:
        self.tokens.clear()
        self.brackets.clear()

    def _add(self, token: Token) -> None:
        if token.text in ("(", "[", "{"):
            self.brackets.append(len(self.tokens))
        elif token.text in _PAIRS:
            if self.brackets and self.tokens[self.brackets[-1]].text == _PAIRS[token.text]:
                token.opener = self.brackets.pop()
        elif token.text == ";" and not self.brackets:
            self._end_statement()
            return
        self.tokens.append(token)

    def _end_of_string(self, opening: str, at: int) -> int | None:
        """Where a string ends whose first character stands at `at`; None: the cursor stands in it."""
        quote = opening.lstrip("rRbBfFtTuU")
        while at < len(self.text):
            character = self.text[at]
            if character == "\\":
                at += 2
            elif self.text.startswith(quote, at):
                return at + len(quote)
            elif character in "\r\n" and len(quote) == 1:
                return at  # it is not closed on its line
            else:
                at += 1
        return None

    def _open_string(self, opening: str, at: int) -> None:
        field = None
        if any(letter in opening for letter in "fFtT"):
            field = _open_field(self.text, at)
        if field is not None:  # code again
            self.tokens.clear()
            self.brackets.clear()
            self._scan(field)
        else:
            self.string, self.string_start = opening, at

    # -- what stands before a token ----------------------------------------------------------------------------------

    def start_of_value(self, end: int) -> int | None:
        """The first token of the expression that ends before token `end`, as `a.b[0]` in `x = a.b[0].`; None: none."""
        i = end - 1
        while i >= 0 and self.tokens[i].is_value:
            token = self.tokens[i]
            if token.text in _PAIRS:
                if token.opener is None:
                    return None
                i = token.opener
                if i > 0 and self.tokens[i].text != "{" and self._continues(i):
                    i -= 1
                    continue
                return i
            if token.kind == NAME and i >= 2 and self.tokens[i - 1].text == ".":
                i -= 2
                continue
            return i
        return None

    def _continues(self, i: int) -> bool:
        return self.tokens[i - 1].is_value and self.tokens[i - 1].kind != NUMBER

    def value_before(self, end: int) -> str | None:
        """The text of that expression."""
        start = self.start_of_value(end)
        return None if start is None else self.text[self.tokens[start].start : self.tokens[end - 1].end]

    def callable_before(self, bracket: int) -> str | None:
        """What is called by the parenthesis that token `bracket` opens, e.g. "a.f"; None: nothing is."""
        if self.tokens[bracket].text != "(" or not bracket or not self.tokens[bracket - 1].is_value:
            return None
        if any(token.text in ("def", "class") for token in self.tokens[max(0, bracket - 2) : bracket]):
            return None
        return self.value_before(bracket)

    def arguments(self, bracket: int) -> Iterator[list[Token]]:
        """The tokens of each argument that stands behind an opening parenthesis; the last one is not finished."""
        found: list[Token] = []
        depth = 0
        for token in self.tokens[bracket + 1 :]:
            depth += (token.text in ("(", "[", "{")) - (token.text in _PAIRS)
            if token.text == "," and not depth:
                yield found
                found = []
            else:
                found.append(token)
        yield found


def _open_field(text: str, at: int) -> int | None:
    """Where the expression starts that stands open in an f-string, as `x.` in ``f"{x.``; None: there is none."""
    start = None
    depth = 0
    while at < len(text):
        character = text[at]
        if not depth and text[at : at + 2] in ("{{", "}}"):
            at += 1
        elif character == "{":
            depth += 1
            start = at + 1 if depth == 1 else start
        elif character == "}" and depth:
            depth -= 1
        at += 1
    return start if depth else None
