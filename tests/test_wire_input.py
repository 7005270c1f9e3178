"""Input of every kind and size: each bad line is answered once, by the right error, and the session lives."""

from __future__ import annotations

import codecs
import json
import random
from collections.abc import Callable, Iterator
from threading import Thread

import pytest
from harness import Session, Shared


@pytest.fixture(scope="module", params=["local", "worker"])
def shared(request: pytest.FixtureRequest) -> Iterator[Shared]:
    """One session of each backend for all cases."""
    shared = Shared(request.param)
    yield shared
    shared.end()


def is_helpful(message: str) -> bool:
    """One sentence for people: short, on one line, no traceback."""
    one_line = "\n" not in message and len(message) < 300
    return one_line and message.endswith(".") and "Traceback" not in message and "Error(" not in message


NOT_JSON = {
    "nonsense": b"print(1)",
    "Python": b"{'code': '1'}",
    "a dangling brace": b'{"code": "1"',
    "one brace too many": b'{"code": "1"}}',
    "two requests on a line": b'{"code": "1"} {"code": "2"}',
    "a comma at the end": b'{"code": "1",}',
    "a comment": b'{"code": "1"} // one',
    "a bare name": b'{code: "1"}',
    "a string that does not end": b'{"code": "1',
    "a tab in a string": b'{"code": "\t1"}',
    "an escape that does not exist": b'{"code": "\\x41"}',
    "half an escape": b'{"code": "\\u00"}',
    "NaN": b'{"code": "1", "timeout": NaN}',
    "Infinity": b'{"id": Infinity, "code": "1"}',
    "-Infinity": b'{"id": -Infinity, "code": "1"}',
    "a leading zero": b'{"id": 01, "code": "1"}',
    "a plus": b'{"id": +1, "code": "1"}',
    "a point without digits": b'{"id": 1., "code": "1"}',
    "hexadecimal": b'{"id": 0x1, "code": "1"}',
    "digits of another script": '{"id": \u0661, "code": "1"}'.encode(),
    "a byte that is no UTF-8": b'{"code": "\xff"}',
    "half a character": b'{"code": "\xe2\x82"}',
    "an overlong character": b'{"code": "\xc0\xaf"}',
    "a surrogate in UTF-8": b'{"code": "\xed\xa0\x80"}',
    "Latin-1": '{"code": "é"}'.encode("latin-1"),
    "UTF-16": '{"code": "1"}'.encode("utf-16-be"),
    "UTF-16 with its mark": codecs.BOM_UTF16_BE + '{"code": "1"}'.encode("utf-16-be"),
    "UTF-32": '{"code": "1"}'.encode("utf-32-be"),
    "NULs": b"\0\0\0\0",
    "a mark of order and nothing else": codecs.BOM_UTF8,
    "a mark of order in the middle": b'{"code":' + codecs.BOM_UTF8 + b'"1"}',
    "a vertical tab": b"\x0b",
    "a form feed": b"\x0c",
    "a space that JSON does not know": "\u00a0{}".encode(),
    "a hundred thousand brackets": b"[" * 100_000,
    "closed brackets": b"[" * 100_000 + b"]" * 100_000,
    "brackets and braces": b'[{"":' * 50_000,
    "deep params": b'{"code":"1","params":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
    "a gigabyte's worth of a header": b"Content-Length: 1000000000\r",
    "an HTTP request": b"POST / HTTP/1.1\r",
}
NO_REQUEST = {
    "a number": b"5",
    "a number of thousands of digits": b"9" * 5000,
    "a fraction": b"-1.5e3",
    "a string": b'"execute"',
    "true": b"true",
    "null": b"null",
    "an empty batch": b" [ ] ",
    "an empty object": b"{}",
    "no method": b'{"jsonrpc": "2.0", "id": null}',
    "a list for a method": b'{"method": ["execute"]}',
    "a string for params": b'{"method": "ping", "params": "x"}',
}


@pytest.mark.parametrize("line", NOT_JSON.values(), ids=NOT_JSON.keys())
def test_a_line_that_is_not_json_is_answered_once_by_a_parse_error(shared: Shared, line: bytes) -> None:
    (answer,) = map(json.loads, shared.exchange(line + b"\n"))
    assert (answer["jsonrpc"], answer["id"], answer["error"]["code"]) == ("2.0", None, -32700)
    assert is_helpful(answer["error"]["message"])


@pytest.mark.parametrize("line", NO_REQUEST.values(), ids=NO_REQUEST.keys())
def test_json_that_is_no_request_is_answered_once_by_an_error(shared: Shared, line: bytes) -> None:
    (answer,) = map(json.loads, shared.exchange(line + b"\n"))
    assert (answer["id"], answer["error"]["code"]) == (None, -32600)
    assert is_helpful(answer["error"]["message"])


@pytest.mark.parametrize("blank", [b"", b"\r", b"  ", b"\t \r"])
def test_blank_lines_are_no_requests(shared: Shared, blank: bytes) -> None:
    assert shared.exchange((blank + b"\n") * 100) == []


@pytest.mark.parametrize(
    "line",
    [
        b'{"code":"40+2"}\r\n',
        codecs.BOM_UTF8 + b'{"code":"40+2"}\n',
        b'\t {"code" : "40+2" }  \n',
        b'{"code":"\\u0034\\u0030+2"}\n',
    ],
    ids=["CRLF", "a mark of order", "blanks", "escapes"],
)
def test_what_editors_and_shells_add_to_a_line_does_no_harm(shared: Shared, line: bytes) -> None:
    (answer,) = map(json.loads, shared.exchange(line))
    assert answer["result"] == "42"


def test_thousands_of_bad_lines_in_a_row_are_each_answered(shared: Shared) -> None:
    kinds = [b"nonsense", b"[", b"\xff", b'{"method":"nope"}', b"5", b'{"code":5}', b"[1]", b'{"jsonrpc":"2.0","id":1}']
    lines = [random.Random(1).choice(kinds) for _ in range(5000)]
    answers = [json.loads(line) for line in shared.exchange(b"\n".join(lines) + b"\n")]
    assert len(answers) == 5000
    assert all("error" in (answer[0] if isinstance(answer, list) else answer) for answer in answers)


def test_bad_lines_between_good_ones_disturb_none(shared: Shared) -> None:
    data = b"".join(b'{"id":%d,"code":"%d * 2"}\n\xff{\n\n[[[\n' % (n, n) for n in range(200))
    answers = [json.loads(line) for line in shared.exchange(data)]
    assert [answer["result"] for answer in answers if "result" in answer] == [str(n * 2) for n in range(200)]
    assert len([answer for answer in answers if answer.get("error")]) == 400


@pytest.mark.parametrize("seed", range(2))
def test_requests_are_the_same_however_their_bytes_are_cut_and_joined(session: Session, seed: int) -> None:
    dice = random.Random(seed)
    data = "".join(
        json.dumps({"id": n, "code": f"'é🐍' * {n}"}, ensure_ascii=bool(n % 2)) + "\r\n" * (n % 3 == 0) + "\n"
        for n in range(150)
    ).encode()
    cuts = sorted(dice.sample(range(len(data)), 300))
    pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)])]
    Thread(target=lambda: [session.write(piece) for piece in pieces], daemon=True).start()
    for n in range(150):
        answer = session.read()
        assert (answer["id"], answer["result"]) == (n, repr("é🐍" * n))


def test_one_byte_at_a_time_makes_a_request_too(session: Session) -> None:
    for byte in b'{"id":1,"code":"40+2"}\n':
        session.write(bytes([byte]))
    assert session.read()["result"] == "42"


def test_the_last_line_needs_no_newline(session: Session) -> None:
    session.write(b'{"id":1,"code":"1"}\n{"id":2,"code":"40+2"}')
    answers, stderr, status = session.finish()
    assert [answer["result"] for answer in answers] == ["1", "42"]
    assert (stderr, status) == ("", 0)


def test_half_a_request_at_the_end_is_answered_by_an_error(session: Session) -> None:
    session.write(b'{"id":1,"code":"1"}\n{"id":2,"co')
    answers, _, status = session.finish()
    assert [answer["id"] for answer in answers if "error" not in answer or not answer["error"]] == [1]
    assert [answer["error"]["code"] for answer in answers if answer["error"]] == [-32700]
    assert status == 0


def test_a_line_of_100_mb_is_taken(session: Session) -> None:
    text = b"0123456789" * 10_000_000
    Thread(target=session.write, args=(b'{"id":1,"code":"x = \'' + text + b"'; len(x)\"}\n",), daemon=True).start()
    assert session.read(120)["result"] == str(len(text))
    assert session.value("x[-3:]") == "'789'"


@pytest.mark.parametrize("excess", [1, 10_000_000])
def test_a_line_past_the_bound_is_skipped_with_one_error(
    start: Callable[..., Session], backend: str, excess: int
) -> None:
    session = start(backend, env={"JSON_REPL_MAX_LINE": "1000"})
    request = b'{"id":1,"code":"40+2"}'
    longest = request + b" " * (1000 - len(request))
    too_long = longest + b" " * excess
    data = longest + b"\n" + too_long + b"\n" + longest + b"\n" + too_long
    Thread(target=lambda: (session.write(data), session.close_stdin()), daemon=True).start()
    answers = list(iter(session.read, None))
    codes = sorted(answer["error"]["code"] if answer["error"] else 0 for answer in answers)
    assert codes == [-32013, -32013, 0, 0]
    for answer in answers:
        if answer["error"]:
            assert is_helpful(answer["error"]["message"]) and "1000" in answer["error"]["message"]
            assert answer["id"] is None
    assert session.wait() == 0


def test_an_answer_of_50_mb_arrives_whole(shared: Shared) -> None:
    (line,) = shared.exchange(b'{"code":"print(\'x\' * 50_000_000)","max_output_bytes":60000000}\n')
    assert json.loads(line)["stdout"] == "x" * 50_000_000 + "\n"


def test_a_burst_larger_than_every_pipe_is_answered_in_order(session: Session) -> None:
    requests = b"".join(b'{"id":%d,"code":"%d"}\n' % (n, n) for n in range(1500))
    Thread(target=session.write, args=(requests,), daemon=True).start()
    assert [session.read()["result"] for _ in range(1500)] == [str(n) for n in range(1500)]
