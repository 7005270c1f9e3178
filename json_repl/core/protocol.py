"""Parent side: JSON lines. A line in, requests out; a result or an error in, a line out.

Two dialects, told apart per line: JSON-RPC 2.0, and bare objects such as ``{"code": "1+1"}``.
"""

from __future__ import annotations

import json

from json_repl.core.errors import InvalidRequest, LimitExceeded, ParseError, RpcError
from json_repl.core.outcome import safe_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

JSONRPC, BARE = "2.0", "bare"
_JSONDecodeError = json.JSONDecodeError
_MOST_DIGITS = 4000  # Python's int() takes 4300
_METHOD_PREFIX = "repl/"
_FORMS = 'a request is {"code": "..."} or {"jsonrpc": "2.0", "id": 1, "method": "...", "params": {...}}'


class Number(float):
    """A JSON number that Python would write otherwise, with the text that it had: an id is echoed to the letter."""

    text: str

    def __new__(cls, text: str) -> Number:
        number = super().__new__(cls, text)
        number.text = text
        return number


class Request:
    """One request. `id` is its JSON text, or None where it has none."""

    __slots__ = ("answer", "dialect", "id", "method", "params", "reserves")

    def __init__(self, dialect: str, id: bytes | None, method: str, params: Any) -> None:
        self.dialect = dialect
        self.id = id
        self.method = method
        self.params: Any = params  # a dict by name, or a list by position
        self.answer: Callable[[bytes | None], None] = _nowhere  # takes its line, or None; called exactly once
        self.reserves: str | None = None  # the id of a session that is to be made

    def succeed(self, result: dict[str, object]) -> None:
        """Answer with a result."""
        self.answer(self._line(b'"result":', encode(result), bare=True))

    def fail(self, error: RpcError) -> None:
        """Answer with an error."""
        self.answer(self._line(b'"error":', encode(error.to_wire()), bare=False))

    def _line(self, key: bytes, body: bytes, *, bare: bool) -> bytes | None:
        if self.dialect == JSONRPC:
            return None if self.id is None else b'{"jsonrpc":"2.0","id":' + self.id + b"," + key + body + b"}"
        if not bare:
            return b'{"id":' + (self.id or b"null") + b"," + key + body + b"}"
        if self.id is None:
            return body
        return b'{"id":' + self.id + (b"," if body != b"{}" else b"") + body[1:]


def _nowhere(line: bytes | None) -> None:
    raise AssertionError("a request was answered that nobody has sent")


class Refused:
    """What came in a request's place and is none."""

    def __init__(self, error: RpcError, id: bytes = b"null", dialect: str = JSONRPC) -> None:
        self.request = Request(dialect, id, "", {})
        self.error = error


def parse(line: bytes) -> tuple[bool, list[Request | Refused]]:
    """The requests of a line, and whether they came as a batch. What is wrong with them comes in their place."""
    try:
        value = _decode(line.decode().removeprefix("\ufeff"))
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        return False, [Refused(ParseError(_why_not_json(error)))]
    if not isinstance(value, list):
        return False, [_request(value)]
    if not value:
        return False, [Refused(InvalidRequest(f"an empty batch asks for nothing; {_FORMS}."))]
    return True, [_request(item) for item in value]


def notification(method: str, params: dict[str, object]) -> bytes:
    """A line that answers nothing."""
    return b'{"jsonrpc":"2.0","method":' + encode(method) + b',"params":' + encode(params) + b"}"


def encode(value: object) -> bytes:
    """JSON text, always valid UTF-8."""
    try:
        return _dumps(value)
    except (TypeError, UnicodeEncodeError):  # lone surrogates, integers of more than 64 bits
        return _json_dumps(_encodable(value))


def encode_exactly(value: object) -> bytes:
    """JSON text that keeps even lone surrogates, for a request or an id as it came."""
    return _encode_ascii(value).encode()


def encode_with(dumps: Callable[[object], bytes]) -> None:
    """Encode with `dumps` from now on, such as orjson's; where it refuses a value with TypeError, as before."""
    global _dumps
    _dumps = dumps


def _json_dumps(value: object) -> bytes:
    return _encode(value).encode()


def _encodable(value: Any) -> Any:
    if isinstance(value, dict):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_encodable(item) for item in value]
    return safe_text(value) if isinstance(value, str) else value


# Objects of our own, as user code may spoil the module.
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode
_encode_ascii = json.JSONEncoder().encode
_dumps: Callable[[object], bytes] = _json_dumps


def _refuse_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


_reader = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=Number)


def _integer(text: str) -> int | Number:
    return Number(text) if text == "-0" or len(text) > _MOST_DIGITS else int(text)


_exact_reader = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=Number, parse_int=_integer)


def _decode(text: str) -> Any:
    text = text.strip(" \t\r\n")
    try:
        value, end = (_exact_reader if "-0" in text else _reader).raw_decode(text)
    except _JSONDecodeError:
        raise
    except ValueError:  # more digits than int() takes
        value, end = _exact_reader.raw_decode(text)
    if end != len(text):
        raise _JSONDecodeError("Extra data", text, end)
    return value


def _why_not_json(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"the line is not UTF-8 (byte {error.start}); send one JSON object per line, in UTF-8."
    if isinstance(error, RecursionError):
        return "the line is nested too deeply; send one flat JSON object per line."
    if isinstance(error, _JSONDecodeError):
        return f"the line is not JSON: {error.msg} at character {error.pos + 1}; {_FORMS}, on one line."
    return f"the line is not JSON: {error}; {_FORMS}, on one line."


def _request(value: Any) -> Request | Refused:
    if not isinstance(value, dict):
        return Refused(InvalidRequest(f"a JSON {_kind(value)} is no request; {_FORMS}."))
    bare = "jsonrpc" not in value and ("code" in value or "method" in value)
    id = id_text(value.get("id")) if "id" in value else None
    dialect = BARE if bare else JSONRPC

    def refuse(text: str) -> Refused:
        return Refused(InvalidRequest(text), id or b"null", dialect)

    if "id" in value and id is None:
        return Refused(InvalidRequest("an id is a string, a number or null."), b"null", dialect)
    if not bare and value.get("jsonrpc", "2.0") != "2.0":
        return refuse('"jsonrpc" must be the string "2.0"; leave it out to send a bare request.')
    method = value.get("method", "execute" if bare and "code" in value else None)
    if type(method) is not str:
        return refuse(f"the request names no method; {_FORMS}.")
    params = value.get("params", {})
    if type(params) not in (dict, list):
        return refuse('"params" must be an object or an array.')
    if bare:
        rest = {key: item for key, item in value.items() if key not in ("id", "method", "params")}
        params = {**rest, **params} if type(params) is dict else params
    return Request(dialect, id, method.removeprefix(_METHOD_PREFIX), params)


def id_text(id: Any) -> bytes | None:
    """An id as it stood in its line; None if it is no string, number or null."""
    if isinstance(id, Number):
        return id.text.encode()
    if type(id) is int:
        return str(id).encode()
    if id is None or type(id) is str:
        return encode_exactly(id)
    return None


def _kind(value: object) -> str:
    if value is None or isinstance(value, bool):
        return "constant"
    return "string" if isinstance(value, str) else "number"


class LineReader:
    """Cuts bytes into lines, of at most `longest` bytes each."""

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._parts: list[bytes] = []  # of the line that has no end yet
        self._size = 0
        self._skipping = False

    def feed(self, data: bytes) -> list[bytes | LimitExceeded]:
        """The lines that are complete now; in the place of one that is too long, the error that says so."""
        lines: list[bytes | LimitExceeded] = []
        *complete, rest = data.split(b"\n")
        for part in complete:
            lines += self._add(part)
            if not self._skipping:
                lines.append(b"".join(self._parts))
            self._parts, self._size, self._skipping = [], 0, False
        lines += self._add(rest)
        return lines

    def end(self) -> list[bytes | LimitExceeded]:
        """The last line, if it had no newline."""
        return self.feed(b"\n") if self._size or self._skipping else []

    def _add(self, part: bytes) -> list[bytes | LimitExceeded]:
        self._size += len(part)
        if self._skipping:
            return []
        if self._size <= self._longest:
            self._parts.append(part)
            return []
        self._parts, self._skipping = [], True
        return [LimitExceeded(f"the line is longer than {self._longest} bytes and was skipped (JSON_REPL_MAX_LINE).")]
