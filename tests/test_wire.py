"""The two dialects of the wire: JSON-RPC 2.0 to the letter, and bare lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from harness import Shared


@pytest.fixture(scope="module", params=["local", "worker"])
def shared(request: pytest.FixtureRequest) -> Iterator[Shared]:
    """One session of each backend for all cases."""
    shared = Shared(request.param)
    yield shared
    shared.end()


def answers(shared: Shared, text: str | bytes) -> list[Any]:
    """What the lines of `text` are answered."""
    data = text.encode() if isinstance(text, str) else text
    return [json.loads(line) for line in shared.exchange(data.rstrip(b"\n") + b"\n")]


def answer(shared: Shared, text: str | bytes) -> Any:
    """The one answer to a line."""
    (only,) = answers(shared, text)
    return only


def outline(value: Any) -> Any:
    """An answer, or a batch of them, without what is ours to word: (id, the error's code, or the result's value)."""
    if isinstance(value, list):
        return [outline(item) for item in value]
    assert value["jsonrpc"] == "2.0" and set(value) in ({"jsonrpc", "id", "result"}, {"jsonrpc", "id", "error"})
    if "error" in value:
        return (value["id"], value["error"]["code"])
    return (value["id"], value["result"]["result"])


# -- the examples of the specification's section 7, with `execute` in the place of its made-up methods ----------------

SECTION_7 = {
    "positional parameters": (
        '{"jsonrpc": "2.0", "method": "execute", "params": ["42 - 23"], "id": 1}',
        [(1, "19")],
    ),
    "positional parameters in another order": (
        '{"jsonrpc": "2.0", "method": "execute", "params": ["23 - 42", 10], "id": 2}',
        [(2, "-19")],
    ),
    "named parameters": (
        '{"jsonrpc": "2.0", "method": "execute", "params": {"code": "42 - 23", "timeout": 10}, "id": 3}',
        [(3, "19")],
    ),
    "named parameters in another order": (
        '{"jsonrpc": "2.0", "method": "execute", "params": {"timeout": 10, "code": "42 - 23"}, "id": 4}',
        [(4, "19")],
    ),
    "a notification": ('{"jsonrpc": "2.0", "method": "execute", "params": ["1+1"]}', []),
    "a notification of a method that does not exist": ('{"jsonrpc": "2.0", "method": "foobar"}', []),
    "a method that does not exist": ('{"jsonrpc": "2.0", "method": "foobar", "id": "1"}', [("1", -32601)]),
    "invalid JSON": ('{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', [(None, -32700)]),
    "an invalid request": ('{"jsonrpc": "2.0", "method": 1, "params": "bar"}', [(None, -32600)]),
    "a batch that is invalid JSON": (
        '[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},{"jsonrpc": "2.0", "method"]',
        [(None, -32700)],
    ),
    "an empty batch": ("[]", [(None, -32600)]),
    "an invalid batch that is not empty": ("[1]", [[(None, -32600)]]),
    "an invalid batch": ("[1,2,3]", [[(None, -32600)] * 3]),
    "a batch of all sorts": (
        '[{"jsonrpc": "2.0", "method": "execute", "params": ["1+2+4"], "id": "1"},'
        '{"jsonrpc": "2.0", "method": "execute", "params": ["7"]},'
        '{"jsonrpc": "2.0", "method": "execute", "params": ["42-23"], "id": "2"},'
        '{"foo": "boo"},'
        '{"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},'
        '{"jsonrpc": "2.0", "method": "execute", "params": {"code": "[\'hello\', 5]"}, "id": "9"}]',
        [[("1", "7"), ("2", "19"), (None, -32600), ("5", -32601), ("9", "['hello', 5]")]],
    ),
    "a batch of notifications": (
        '[{"jsonrpc": "2.0", "method": "execute", "params": ["1"]},'
        '{"jsonrpc": "2.0", "method": "execute", "params": ["7"]}]',
        [],
    ),
}


@pytest.mark.parametrize(("text", "expected"), SECTION_7.values(), ids=SECTION_7.keys())
def test_the_examples_of_the_specification_are_answered_as_it_says(shared: Shared, text: str, expected: Any) -> None:
    assert [outline(item) for item in answers(shared, text)] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"jsonrpc":"2.0","method":"execute","params":["1"],"id":null}', (None, "1")),
        ('{"jsonrpc":"2.0","method":"execute","params":{"code":"1","bogus":1},"id":"a"}', ("a", -32602)),
        (
            '{"jsonrpc":"2.0","method":"execute","params":["1",1,false,true,"f",1,null,"queue","default",9],"id":1}',
            (1, -32602),
        ),
        ('{"jsonrpc":"2.0","method":"execute","id":1}', (1, -32602)),
        ('{"jsonrpc":"2.0","method":"execute","params":"1","id":1}', (1, -32600)),
        ('{"jsonrpc":"1.0","method":"execute","params":["1"],"id":1}', (1, -32600)),
        ('{"jsonrpc":2.0,"method":"execute","params":["1"],"id":1}', (1, -32600)),
        ('{"jsonrpc":null,"method":"execute","params":["1"],"id":1}', (1, -32600)),
        ('{"jsonrpc":"2.0","id":1}', (1, -32600)),
        ('{"jsonrpc":"2.0","method":null,"id":1}', (1, -32600)),
        ('{"jsonrpc":"2.0","method":"","id":1}', (1, -32601)),
        ('{"jsonrpc":"2.0","method":"__init__","id":1}', (1, -32601)),
        ('{"jsonrpc":"2.0","method":"execute","params":["1"],"id":1,"more":{"x":[]}}', (1, "1")),
        ('{"jsonrpc":"2.0","method":"repl/execute","params":["5"],"id":1}', (1, "5")),
        ('{"jsonrpc":"2.0","method":"repl/","id":1}', (1, -32601)),
        ('{"jsonrpc":"2.0","method":"execute","params":["1"],"params":["2"],"id":1}', (1, "2")),
        ('{"jsonrpc":"2.0","method":"execute","params":{"code":"1","session_id":"nobody"},"id":1}', (1, -32011)),
        ('{"id":1,"params":["\\u0031+1"],"method":"\\u0065xecute","jsonrpc":"2.0"}', (1, "2")),
    ],
)
def test_a_json_rpc_request_is_answered_in_its_own_form(shared: Shared, text: str, expected: Any) -> None:
    assert outline(answer(shared, text)) == expected


@pytest.mark.parametrize(
    "text", ['{"jsonrpc":"2.0","method":"execute","params":{"bogus":1}}', '{"jsonrpc":"2.0","method":"ping"}']
)
def test_a_notification_is_never_answered(shared: Shared, text: str) -> None:
    assert answers(shared, text) == []


def test_a_notification_is_carried_out(shared: Shared) -> None:
    text = '{"jsonrpc":"2.0","method":"execute","params":["noted = 7"]}\n{"code":"noted"}'
    assert answer(shared, text)["result"] == "7"


# -- ids --------------------------------------------------------------------------------------------------------------

NUMBERS = [
    "0",
    "-0",
    "-1",
    "1.0",
    "1.50",
    "-0.0",
    "1e2",
    "1E+2",
    "1E400",
    "0.1e-7",
    "9007199254740993",
    "9" * 30,
    "-" + "9" * 4300,
    "7" * 5000,
]


@pytest.mark.parametrize("dialect", ['"jsonrpc":"2.0",', ""], ids=["jsonrpc", "bare"])
@pytest.mark.parametrize("id", NUMBERS, ids=lambda text: text[:12])
def test_a_number_for_an_id_comes_back_as_it_was_written(shared: Shared, id: str, dialect: str) -> None:
    (line,) = shared.exchange(f'{{{dialect}"id":{id},"method":"ping"}}\n'.encode())
    assert re.search(rb'"id":([^,}]*)', line).group(1).decode() == id  # type: ignore[union-attr]


@pytest.mark.parametrize("dialect", ['"jsonrpc":"2.0",', ""], ids=["jsonrpc", "bare"])
@pytest.mark.parametrize(
    "id",
    ["", "1", "null", "\x00", "\n", '"\\', "ключ \u2028", "\U0001f40d", "\ud800", "\udfff\ud800", "x" * 100_000],
    ids=lambda text: ascii(text)[:12],
)
def test_a_text_for_an_id_comes_back_as_the_same_text(shared: Shared, id: str, dialect: str) -> None:
    assert answer(shared, f'{{{dialect}"id":{json.dumps(id)},"method":"ping"}}')["id"] == id


def test_an_error_carries_the_id_too(shared: Shared) -> None:
    (line,) = shared.exchange(b'{"jsonrpc":"2.0","id":1.50,"method":"nope"}\n')
    assert b'"id":1.50,' in line


@pytest.mark.parametrize("id", ["true", "false", "[]", "[1]", "{}"])
@pytest.mark.parametrize("dialect", ['"jsonrpc":"2.0",', ""], ids=["jsonrpc", "bare"])
def test_what_cannot_be_an_id_is_refused(shared: Shared, id: str, dialect: str) -> None:
    refused = answer(shared, f'{{{dialect}"id":{id},"method":"ping"}}')
    assert (refused["id"], refused["error"]["code"]) == (None, -32600)


@pytest.mark.parametrize(
    ("params", "code"), [('"code":"1","timeout":5', None), ('"code":5', -32602), ('"code":"1","timeout":"5"', -32602)]
)
def test_an_id_of_thousands_of_digits_changes_nothing_for_the_params(
    shared: Shared, params: str, code: int | None
) -> None:
    (line,) = shared.exchange(f'{{"id":{"7" * 5000},{params}}}\n'.encode())
    got = json.loads(line, parse_int=lambda digits: int(digits[:100]))
    assert (got["error"] or {}).get("code") == code


# -- bare lines -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "id", "result"),
    [
        ('{"code":"40+2"}', ..., "42"),
        ('{"code":"40+2","id":1}', 1, "42"),
        ('{"code":"40+2","id":null}', None, "42"),
        ('{"method":"execute","code":"40+2"}', ..., "42"),
        ('{"method":"repl/execute","code":"40+2","id":"a"}', "a", "42"),
        ('{"method":"execute","params":{"code":"40+2"},"id":"a"}', "a", "42"),
        ('{"method":"execute","params":["40+2"],"id":"a"}', "a", "42"),
        ('{"method":"execute","timeout":9,"params":{"code":"40+2"}}', ..., "42"),
        (' \t{"code":"40+2"} \r', ..., "42"),
    ],
)
def test_a_bare_request_is_answered_by_its_bare_result(shared: Shared, text: str, id: Any, result: str) -> None:
    got = answer(shared, text)
    assert (got.get("id", ...), got["result"], got["status"]) == (id, result, "ok")
    assert "jsonrpc" not in got


@pytest.mark.parametrize(
    ("text", "id", "code"),
    [
        ('{"method":"nope"}', None, -32601),
        ('{"method":"nope","id":"a"}', "a", -32601),
        ('{"code":5,"id":2}', 2, -32602),
        ('{"code":"1","id":2,"bogus":1}', 2, -32602),
        ('{"method":"ping","code":"1"}', None, -32602),
        ('{"method":5,"id":1}', 1, -32600),
        ('{"code":"1","params":5,"id":1}', 1, -32600),
    ],
)
def test_a_bare_request_that_is_wrong_is_answered_by_a_bare_error(
    shared: Shared, text: str, id: Any, code: int
) -> None:
    got = answer(shared, text)
    assert set(got) == {"id", "error"}
    assert (got["id"], got["error"]["code"]) == (id, code)


@pytest.mark.parametrize("text", ["{}", '{"foo":"boo"}', '{"id":null}'])
def test_an_object_that_is_no_request_of_either_dialect_is_answered_as_json_rpc(shared: Shared, text: str) -> None:
    assert outline(answer(shared, text)) == (None, -32600)


def test_a_bare_request_without_an_id_is_answered_even_in_a_batch(shared: Shared) -> None:
    batch = answer(shared, '[{"code":"1"},{"jsonrpc":"2.0","method":"execute","params":["2"]},{"code":"3","id":3}]')
    assert [(item.get("id", ...), item["result"]) for item in batch] == [(..., "1"), (3, "3")]


# -- batches ----------------------------------------------------------------------------------------------------------


def test_a_batch_runs_in_order_and_is_answered_in_order_on_one_line(shared: Shared) -> None:
    requests = [{"id": n, "code": "steps = [0]" if n == 0 else f"steps.append({n}); steps[-2:]"} for n in range(50)]
    requests[25] = {"id": 25, "method": "ping"}
    batch = answer(shared, json.dumps(requests))
    assert [item["id"] for item in batch] == list(range(50))
    assert batch[24]["result"] == "[23, 24]" and batch[26]["result"] == "[24, 26]" and batch[25]["pong"] is True


def test_what_fails_in_a_batch_leaves_the_rest_alone(shared: Shared) -> None:
    batch = answer(shared, '[{"code":"1/0","id":1},{"id":2,"method":"nope"},null,[],{"code":"5","id":3}]')
    assert [item["id"] for item in batch] == [1, 2, None, None, 3]
    assert batch[0]["error"]["ename"] == "ZeroDivisionError" and batch[4]["result"] == "5"


def test_a_batch_of_ten_thousand_is_answered_whole(shared: Shared) -> None:
    batch = answer(shared, json.dumps([{"id": n, "method": "ping"} for n in range(10_000)]))
    assert [item["id"] for item in batch] == list(range(10_000))


# -- answers ----------------------------------------------------------------------------------------------------------

PRINTED = {
    "the ready token": "print('__READY__')",
    "an answer": 'print(\'{"jsonrpc":"2.0","id":"after","result":{}}\')',
    "every byte": "import sys; sys.stdout.buffer.write(bytes(range(256)))",
    "every byte by fd": "import os; os.write(1, bytes(range(256))); os.write(2, bytes(range(256)))",
    "every byte of a child": "import os, sys; os.system(\"printf '\\\\000\\\\377\\\\n\\\\200' | tee /dev/stderr\")",
    "lone surrogates": "import sys; print('\\ud800 \\udfff'); print('\\ud800', file=sys.stderr)",
    "line ends": "print('\\n\\r\\n\\x85\\u2028\\u2029', end='')",
    "controls": "print(''.join(map(chr, range(32))), '\\x7f\\x1b[31m')",
    "half a character": "import os; os.write(1, b'\\xe2\\x82')",
    "beyond the first plane": "'\\U0001f40d' + chr(0x10ffff)",
    "a lone surrogate in a repr": "type('R', (), {'__repr__': lambda self: '\\ud800'})()",
    "a lone surrogate in an error": "raise ValueError('\\ud800')",
    "a lone surrogate in an error's name": "raise type('E\\udc80', (Exception,), {})",
    "a lone surrogate in a SyntaxError": "exec('\\ud800')",
    "not a number": "float('nan'), float('inf'), -float('inf')",
    "a NUL": "'\\0'.__class__('a\\0b'), print('a\\0b')",
}


@pytest.mark.parametrize("code", PRINTED.values(), ids=PRINTED.keys())
def test_answers_are_strict_json_in_utf_8_whatever_code_prints_and_returns(shared: Shared, code: str) -> None:
    (line,) = shared.exchange(json.dumps({"id": 1, "code": code}).encode() + b"\n")
    assert orjson.loads(line)["id"] == 1
    line.decode("utf-8").encode("utf-8")


def test_a_lone_surrogate_in_a_file_name_or_in_a_variables_name_leaves_the_answer_strict(shared: Shared) -> None:
    requests = [
        {"code": "1/0", "filename": "a\ud800"},
        {"code": "globals()['\\ud800'] = 1"},
        {"method": "variables"},
        {"code": "del globals()['\\ud800']"},
    ]
    lines = shared.exchange(b"".join(json.dumps(request).encode() + b"\n" for request in requests))
    assert len([orjson.loads(line) for line in lines]) == 4
