"""Both sides: what the name, key or path can become that stands before the cursor.

in a string:           keys of what is subscripted, else names of files
in an import:          modules, and the names in them
behind a dot:          attributes
else:                  keyword arguments of what is called, the namespace's names, builtins, keywords
"""

from __future__ import annotations

import builtins
import keyword
import os
import re
from types import BuiltinFunctionType, FunctionType, MethodDescriptorType, MethodType, WrapperDescriptorType

from json_repl.core import frames, modules, signatures, statics
from json_repl.core.cursor import NAME, Code
from json_repl.core.evaluating import Evaluator, Found
from json_repl.core.statics import MISSING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

MOST = 1000  # matches of an answer
MOST_SIGNATURES = 50  # matches that are told with what they take
_MOST_FILES = 10_000  # looked at in a folder
_FUNCTIONS = statics.Kinds(FunctionType, MethodType, BuiltinFunctionType, MethodDescriptorType, WrapperDescriptorType)
_KEYS = statics.Kinds(str, bytes, int, float, bool, tuple)
_WORD = re.compile(r"\b[^\W\d]\w*")
_builtins = vars(builtins)


class Match:
    """One of the texts that fit.

    Args:
        kind: "function", "class", "module", "instance", "property", "keyword", "param", "path" or "key".
        value: what it stands for, if that is known.
        is_own: it is one of the user's own names, which go before those that there always are.
    """

    __slots__ = ("is_own", "kind", "text", "value")

    def __init__(self, text: str, kind: str = "", value: Any = MISSING, *, is_own: bool = False) -> None:
        self.text = text
        self.value = value
        self.kind = kind or _kind_of(value)
        self.is_own = is_own

    def signature(self) -> str:
        """What it takes, if it is a function that says so."""
        found = signatures.signature(self.value) if self.kind == "function" and self.value is not MISSING else None
        return "" if found is None else str(found)


def _kind_of(value: Any) -> str:
    if type(value) in _FUNCTIONS:
        return "function"
    if statics.is_kind(value):
        return "class"
    if statics.is_module(value):
        return "module"
    return "property" if type(value) is property else "instance"


class Completer:
    """Completes the code before the cursor.

    Attributes:
        start: where what the matches replace begins.
        knows_all: nobody else can know more of what fits.
    """

    def __init__(self, before: str, evaluator: Evaluator) -> None:
        self._code = Code(before)
        self._evaluator = evaluator
        self._before = before
        self.start = len(before)
        self.knows_all = True

    def matches(self) -> list[Match]:
        """All that fit, those with an underscore in front last."""
        if self._code.in_comment:
            return []
        found = self._in_string() if self._code.string is not None else self._in_code()
        unique = {match.text: match for match in found}  # of two of one name the later, which hides the other
        return in_order([*unique.values()])

    # -- code --------------------------------------------------------------------------------------------------------

    def _in_code(self) -> Iterable[Match]:
        tokens = self._code.tokens
        prefix = ""
        end = len(tokens)
        if tokens and tokens[-1].kind == NAME and tokens[-1].end == len(self._before):
            prefix = tokens[-1].text
            end -= 1
        elif tokens and tokens[-1].kind not in (NAME, "op") and tokens[-1].end == len(self._before):
            return []  # right behind a number or a string
        self.start = len(self._before) - len(prefix)
        words = [token.text for token in tokens[:end]]
        if words[:1] in (["import"], ["from"]):
            return _fitting(prefix, (Match(name, kind) for name, kind in modules.importable(words)))
        if words and words[-1] == ".":
            return self._attributes(prefix, end - 1)
        if words and words[-1] in ("def", "class", "as"):
            return []
        if words and words[-1] == "[" and not prefix:
            return [Match(text, "key") for text in self._literal_keys(end - 1)]
        self.knows_all = self._knows_names(prefix)
        return [*self._arguments(prefix), *self._names(prefix)]

    def _knows_names(self, prefix: str) -> bool:
        """Whether the code makes no names of its own, as those of a function's parameters that is being written."""
        words = set(_WORD.findall(self._before)) - {prefix}
        return all(word in self._evaluator.names or word in _builtins or keyword.iskeyword(word) for word in words)

    def _attributes(self, prefix: str, end: int) -> Iterable[Match]:
        owner = self._evaluator.find(self._code.value_before(end))
        self.knows_all = owner is not None and owner.value is not MISSING
        if owner is None:
            return []
        shows_private = prefix.startswith("_")
        fitting = [name for name in self._names_in(owner) if name.startswith(prefix) and name.isidentifier()]
        if not shows_private:
            fitting = [name for name in fitting if not name.startswith("__")]
        return [Match(name, value=self._peek(owner, name)) for name in fitting]

    def _names_in(self, owner: Found) -> list[str]:
        if owner.value is MISSING:
            return statics.names_of_kind(owner.kind)
        theirs = self._evaluator.theirs
        found = theirs(lambda: [name for name in dir(owner.value) if type(name) is str]) if theirs else MISSING
        return statics.names(owner.value) if found is MISSING else found

    def _peek(self, owner: Found, name: str) -> Any:
        if owner.value is MISSING:
            return statics.in_class(owner.kind, name)
        return statics.attribute(owner.value, name)

    def _arguments(self, prefix: str) -> Iterable[Match]:
        code = self._code
        if not code.brackets:
            return []
        bracket = code.brackets[-1]
        function = self._evaluator.find(code.callable_before(bracket))
        self.knows_all = self.knows_all and function is not None
        if function is None or function.value is MISSING:
            return []
        *before, last = code.arguments(bracket)
        if len(last) > bool(prefix):  # within a value
            return []
        given = {argument[0].text for argument in before if len(argument) > 1 and argument[1].text == "="}
        names = [name for name in signatures.keywords(function.value) if name not in given]
        return [Match(f"{name}=", "param") for name in names if name.startswith(prefix)]

    def _names(self, prefix: str) -> Iterable[Match]:
        shows_private = prefix.startswith("_")
        for table in (_builtins, self._evaluator.names):
            for name in [name for name in list(table) if type(name) is str and name.startswith(prefix)]:
                if name.isidentifier() and (shows_private or not name.startswith("_")):
                    yield Match(name, value=table.get(name), is_own=table is not _builtins)
        for word in (*keyword.kwlist, *getattr(keyword, "softkwlist", ())):
            if prefix and word.startswith(prefix) and word != "_":
                yield Match(word, "keyword")

    # -- strings -----------------------------------------------------------------------------------------------------

    def _in_string(self) -> Iterable[Match]:
        code = self._code
        text = self._before[code.string_start :]
        opening = str(code.string)
        quote = opening.lstrip("rRbBuUfF")
        is_raw = "r" in opening.lower()
        self.start = code.string_start
        tokens = code.tokens
        if tokens and tokens[-1].text == "[":
            is_bytes = "b" in opening.lower()
            kind: type = bytes if is_bytes else str
            keys = [key for key in self._keys(len(tokens) - 1) if type(key) is kind]
            if keys:
                inner = [_within(key, quote, raw=is_raw) for key in keys]
                return [Match(key, "key") for key in inner if key.startswith(text)]
        if "\n" in text or len(text) > 1000:
            return []
        return self._files(text, quote, raw=is_raw)

    def _files(self, text: str, quote: str, *, raw: bool) -> Iterable[Match]:
        folder, _, prefix = text.rpartition("/")
        folder = folder + "/" if "/" in text else ""
        self.start += len(folder)
        place = os.path.expanduser(folder if raw else _unescaped(folder)) or "."
        found = []
        try:
            with os.scandir(place) as entries:
                for _, entry in zip(range(_MOST_FILES), entries):
                    name = _within(entry.name, quote, raw=raw)
                    if name.startswith(prefix) and (prefix or not name.startswith(".")):
                        found.append(Match(name + "/" if _is_folder(entry) else name, "path"))
        except (OSError, ValueError):
            pass
        return found

    # -- keys --------------------------------------------------------------------------------------------------------

    def _keys(self, bracket: int) -> list[Any]:
        """What the value takes that stands before an opening bracket; only keys of plain types."""
        found = self._evaluator.find(self._code.value_before(bracket))
        if found is None or found.value is MISSING:
            return []
        value = found.value
        if statics.container_kind(value) is dict:
            return [key for key in list(dict.keys(value)) if type(key) in _KEYS]
        names: list[Any] = frames.names(value)
        theirs = self._evaluator.theirs
        if not names and theirs is not None:
            # What IPython asks objects for.
            told = theirs(lambda: list(value._ipython_key_completions_()))
            names = [name for name in ([] if told is MISSING else told) if type(name) in _KEYS]
        return names

    def _literal_keys(self, bracket: int) -> list[str]:
        if self._code.start_of_value(bracket) is None:
            return []
        return [statics.short(key, 1000) for key in self._keys(bracket)[:MOST]]


def _fitting(prefix: str, matches: Iterable[Match]) -> list[Match]:
    return [match for match in matches if match.text.startswith(prefix)]


def in_order(matches: list[Match]) -> list[Match]:
    """Arguments first, private names last."""
    return sorted(matches, key=_rank)


def _rank(match: Match) -> tuple[bool, int, bool, str]:
    underscores = match.text.startswith("_") + match.text.startswith("__")
    return match.kind != "param", underscores, not match.is_own, match.text


def _within(key: Any, quote: str, *, raw: bool) -> str:
    """A key, or the name of a file, as it is written between such quotes."""
    text = repr(key)[2:-1] if type(key) is bytes else key
    if raw or type(key) is bytes:
        return str(text)
    escaped = "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)
    escaped = text.replace("\\", "\\\\") if text.isprintable() else escaped
    return escaped.replace(quote[0], "\\" + quote[0])


def _unescaped(text: str) -> str:
    return text.replace("\\\\", "\\").replace("\\'", "'").replace('\\"', '"')


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
