"""What a request prints, by whatever way, is in its answer: all of it, in order, as valid text."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator

import pytest
from harness import Session, Shared

PRINTF = "import ctypes; C = ctypes.CDLL(None); C.printf(b'%s', {0!r}.encode()); C.fflush(None)"

WAYS = {
    "print": "print({0!r}, end='')",
    "sys.stdout.write": "import sys; sys.stdout.write({0!r}); None",
    "sys.stdout.buffer": "import sys; sys.stdout.buffer.write({0!r}.encode()); None",
    "sys.__stdout__": "import sys; sys.__stdout__.write({0!r}); None",
    "os.write": "import os; os.write(1, {0!r}.encode()); None",
    "a duplicate of fd 1": "import os; d = os.dup(1); os.write(d, {0!r}.encode()); os.close(d)",
    "a file over fd 1": "import os\nwith open(1, 'w', closefd=False) as f: f.write({0!r}); None",
    "/dev/stdout": "with open('/dev/stdout', 'w') as f: f.write({0!r}); None",
    "/proc/self/fd/1": "with open('/proc/self/fd/1', 'w') as f: f.write({0!r}); None",
    "os.system": "import os, shlex; os.system('printf %s ' + shlex.quote({0!r})); None",
    "a child": "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(%r, end=str())' % {0!r}]); None",
    "a child's child": "import os, shlex; os.system('sh -c \"sh -c \\'printf %s {0}\\'\"'); None",
    "C code": PRINTF + "; None",
    "a forked child": (
        "import os\npid = os.fork()\nif not pid:\n    print({0!r}, end=''); os._exit(0)\nos.waitpid(pid, 0); None"
    ),
    "a thread": (
        "from threading import Thread\nthread = Thread(target=lambda: print({0!r}, end=''))\n"
        "thread.start()\nthread.join()"
    ),
    "a task": "import asyncio\nasync def t(): print({0!r}, end='')\nawait asyncio.create_task(t())",
    "a finalizer": "class D:\n    def __del__(self): print({0!r}, end='')\nD(); None",
}


@pytest.fixture(scope="module", params=["local", "worker"])
def shared(request: pytest.FixtureRequest) -> Iterator[Shared]:
    """One session of each backend for all cheap cases."""
    shared = Shared(request.param)
    yield shared
    shared.end()


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_each_way_of_printing_is_in_the_answer_of_its_request(shared: Shared, way: str) -> None:
    answer = shared.run(way.format("words"))
    assert (answer["status"], answer["stdout"], answer["stderr"]) == ("ok", "words", "")


@pytest.mark.parametrize(
    "way",
    [
        "import sys; print({0!r}, file=sys.stderr, end='')",
        "import os; os.write(2, {0!r}.encode()); None",
        "import os; os.system('printf %s {0} >&2'); None",
        "import sys; sys.stderr.buffer.write({0!r}.encode()); None",
        "with open('/dev/stderr', 'w') as f: f.write({0!r}); None",
    ],
)
def test_stderr_is_kept_apart_from_stdout(shared: Shared, way: str) -> None:
    answer = shared.run(way.format("words"))
    assert (answer["stdout"], answer["stderr"]) == ("", "words")


def test_all_ways_of_printing_keep_their_order(shared: Shared) -> None:
    quick = [way for name, way in WAYS.items() if name not in ("a child", "a child's child")]
    words = [f"word{number}." for number in range(3 * len(quick))]
    code = "\n".join(quick[number % len(quick)].format(word) for number, word in enumerate(words))
    assert shared.run(code)["stdout"] == "".join(words)


def test_writes_to_the_stream_and_to_its_fd_keep_their_order_however_many(shared: Shared) -> None:
    code = """
        import os, sys
        for n in range(0, 60_000, 3):
            os.write(1, b"%d\\n" % n)
            print(n + 1)
            sys.stdout.buffer.write(b"%d\\n" % (n + 2))
        """
    assert shared.run(code)["stdout"].split() == [str(n) for n in range(60_000)]


def test_text_on_stderr_stands_before_the_traceback(shared: Shared) -> None:
    answer = shared.run("import os, sys\nprint('one', file=sys.stderr)\nos.write(2, b'two')\nraise ValueError('three')")
    assert answer["stderr"].startswith("one\ntwo\nTraceback (most recent call last):\n")
    assert answer["stderr"].endswith("ValueError: three\n")


BIG = {
    "print": "print('x' * {0}, end='')",
    "many prints": "for n in range({0} // 100): print('x' * 99)",
    "os.write": "import os\nleft = {0}\nwhile left: left -= os.write(1, b'x' * left)",
    "a child": "import os; os.system('head -c {0} /dev/zero | tr \"\\\\0\" x'); None",
    "C code that holds the interpreter": """
        import ctypes
        C = ctypes.PyDLL(None)
        left, data = {0}, b"x" * {0}
        while left: left -= C.write(1, data, min(left, {1}))
        """,
    "the result": "'x' * ({0} - 2)",
    "an exception": "raise ValueError('x' * {0})",
}


@pytest.mark.parametrize("size", [70_000, 200_000, 5_000_000])
@pytest.mark.parametrize("name", BIG)
def test_large_output_is_complete(shared: Shared, name: str, size: int) -> None:
    # In local nobody can empty the pipe of 256 KiB while C code holds the interpreter's lock.
    if "holds" in name and size > 200_000 and shared.backend == "local":
        pytest.skip("only a worker takes as much from code that holds the interpreter's lock")
    answer = shared.run(textwrap.dedent(BIG[name].format(size, size)), max_output_bytes=size)
    if name == "the result":
        assert len(answer["result"]) == size
    elif name == "an exception":
        assert answer["error"]["evalue"] == "x" * size
    else:
        assert len(answer["stdout"]) == size
        assert answer["late_output"] == ""


def test_a_string_of_50_megabytes_is_complete(shared: Shared) -> None:
    answer = shared.run("print('é' * 25_000_000, end='')", max_output_bytes=50_000_000)
    assert len(answer["stdout"]) == 25_000_000


def test_100_000_lines_are_complete_and_in_order(shared: Shared) -> None:
    answer = shared.run("for n in range(100_000): print(n)")
    assert answer["stdout"].split() == [str(n) for n in range(100_000)]


BYTES = {
    "no UTF-8": (b"a\xff\xfeb\n", "a��b\n"),
    "a cut character": (b"\xc3", "�"),
    "NUL": (b"a\0b", "a\0b"),
    "control characters": (b"\x1b[31m\x07\x7f\r", "\x1b[31m\x07\x7f\r"),
    "CRLF": (b"a\r\nb\r", "a\r\nb\r"),
    "JSON": (b'"}\n{"id": 1}\n', '"}\n{"id": 1}\n'),
    "a surrogate as UTF-8": (b"\xed\xa0\x80", "���"),
    "an overlong NUL": (b"\xc0\x80", "��"),
    "all bytes": (bytes(range(256)), bytes(range(256)).decode("utf-8", "replace")),
}


@pytest.mark.parametrize(("data", "text"), BYTES.values(), ids=BYTES.keys())
@pytest.mark.parametrize("way", ["os.write(1, {0!r})", "sys.stdout.buffer.write({0!r})"])
def test_any_bytes_become_valid_text(shared: Shared, way: str, data: bytes, text: str) -> None:
    assert shared.run(f"import os, sys\n{way.format(data)}; None")["stdout"] == text


def test_a_character_cut_in_two_writes_is_whole(shared: Shared) -> None:
    assert shared.run("import os; os.write(1, b'\\xc3'); os.write(1, b'\\xa9'); None")["stdout"] == "é"
    assert (
        shared.run("import sys\nfor byte in '🐍é'.encode(): sys.stdout.buffer.write(bytes([byte]))")["stdout"] == "🐍é"
    )


def test_a_lone_surrogate_is_printed_as_its_escape(shared: Shared) -> None:
    assert shared.run("print('a' + chr(0xdc80) + 'b')")["stdout"] == "a\\udc80b\n"


def test_an_answer_is_one_line_of_strict_json(session: Session) -> None:
    code = "print('\\u2028\\u2029\\x85\\x0b' + chr(0xd800)); '\\u2028' + chr(0xdfff)"
    session.send({"code": code})
    while b'"status"' not in (line := session.read_line()):
        pass
    text = line.decode("utf-8")
    assert json.loads(text)["status"] == "ok"
    assert "\\ud8" not in text.replace("\\\\ud8", "") and "\\udf" not in text.replace("\\\\udf", "")


STREAMS = {
    "reconfigured to another encoding": ("sys.stdout.reconfigure(encoding='latin-1'); print('é')", "�\n"),
    "reconfigured to buffer": ("sys.stdout.reconfigure(write_through=False, line_buffering=False); print('x')", "x\n"),
    "reconfigured to CRLF": ("sys.stdout.reconfigure(newline='\\r\\n'); print('x')", "x\r\n"),
    "wrapped anew": ("sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding='utf-8'); print('é')", "é\n"),
    "wrapped in a codec": ("sys.stdout = codecs.getwriter('utf-8')(sys.stdout.buffer); print('é')", "é\n"),
    "opened over its fd": ("sys.stdout = os.fdopen(os.dup(1), 'w'); print('x')", "x\n"),
    "a buffer over its fd": ("sys.stdout = io.TextIOWrapper(open(1, 'wb', closefd=False)); print('x')", "x\n"),
    "a StringIO": ("sys.stdout = io.StringIO(); print('lost'); sys.stdout = sys.__stdout__; print('x')", "x\n"),
    "redirected for a while": (
        "with contextlib.redirect_stdout(io.StringIO()) as f: print('in')\nprint(f.getvalue() + 'out')",
        "in\nout\n",
    ),
    "None": ("sys.stdout = None; print('nowhere')", ""),
    "closed": ("sys.stdout.close(); sys.__stdout__.write('x'); None", "x"),
    "sent elsewhere and back": (
        "kept = os.dup(1); null = os.open(os.devnull, os.O_WRONLY); os.dup2(null, 1); os.system('echo no')\n"
        "os.dup2(kept, 1); os.close(kept); os.close(null); os.system('echo x'); None",
        "x\n",
    ),
    "stderr into stdout": ("os.dup2(1, 2); os.write(2, b'x'); None", "x"),
    "fd 1 closed": ("os.close(1); print('x')", "x\n"),
    "fd 1 a file": ("os.dup2(os.open(os.devnull, os.O_WRONLY), 1); os.write(1, b'no'); print('x')", "x\n"),
    "fd 1 not blocking": ("os.set_blocking(1, False); print('x' * 300_000, end='')", "x" * 300_000),
}


@pytest.mark.parametrize(("code", "out"), STREAMS.values(), ids=STREAMS.keys())
def test_streams_that_user_code_changes_lose_nothing(session: Session, code: str, out: str) -> None:
    answer = session.run(f"import codecs, contextlib, io, os, sys\nfirst = 41\n{code}")
    assert (answer["status"], answer["stdout"]) == ("ok", out), answer["stderr"]
    assert session.value("first + 1") == "42"
    session.run("sys.stdout = sys.__stdout__; sys.stdout.reconfigure(encoding='utf-8', newline='\\n')")
    assert session.run("print('é')")["stdout"] == "é\n"


def test_the_streams_look_like_those_of_a_script(shared: Shared) -> None:
    code = "import sys; [s.fileno() for s in (sys.stdout, sys.stderr)], sys.stdout.encoding, sys.stdout.isatty()"
    assert shared.value(code) == "([1, 2], 'utf-8', False)"
    assert (
        shared.value("import sys; sys.stdin.read(), sys.stdin.readline(), __import__('os').read(0, 5)")
        == "('', '', b'')"
    )
    assert (
        shared.value("import sys; sys.stdout.writable(), sys.stdout.readable(), sys.stdin.readable()")
        == "(True, False, True)"
    )


def test_output_of_a_request_that_fails_or_exits_is_there(shared: Shared) -> None:
    for code in ("1 / 0", "raise SystemExit", "raise KeyboardInterrupt", "exit()"):
        assert shared.run(f"print('before', end='')\n{code}")["stdout"] == "before"


def test_output_up_to_the_time_limit_is_there(shared: Shared) -> None:
    code = "import os\nprint('one')\nos.write(1, b'two\\n')\nos.system('echo three')\nwhile True: pass"
    answer = shared.run(code, timeout=0.3)
    assert (answer["reason"], answer["stdout"]) == ("timeout", "one\ntwo\nthree\n")


@pytest.mark.parametrize("end", ["os.abort()", "os._exit(3)", "os.kill(os.getpid(), 11)", "os.kill(os.getpid(), 15)"])
@pytest.mark.parametrize("size", [10, 300_000])
def test_output_up_to_a_crash_is_there(worker: Session, end: str, size: int) -> None:
    code = f"""
import os, sys
print("a" * {size}, end="")
os.write(1, b"b" * 10)
os.system("echo c")
print("d", end="")
sys.stderr.write("e")
{end}
"""
    worker.run("first = 1")
    answer = worker.run(code, retries=0)
    assert answer["reason"] == "crash"
    assert answer["stdout"] == "a" * size + "b" * 10 + "c\nd"
    assert answer["stderr"].startswith("e")
    assert worker.value("1 + 1") == "2"
