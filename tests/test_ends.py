"""How a session ends: by the end of stdin, by signals, by readers that go away; and files that are closed or full."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from time import monotonic
from typing import Any

import pytest
from harness import BOUND, FRONT_DOOR, Session, wait_until

Start = Callable[..., Session]
STUBBORN = """
while True:
    try:
        while True: pass
    except KeyboardInterrupt:
        pass
"""


def make_busy(session: Session, mark: Path, code: str = "import time; time.sleep(600)") -> None:
    """Have the session in the middle of a request."""
    session.run("kept = 41")
    session.send({"id": "busy", "code": f"open({str(mark)!r}, 'w').close()\n{code}"})
    wait_until(mark.exists)


def full_pipe() -> tuple[int, int]:
    """A pipe into which nothing more goes."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    try:
        while True:
            os.write(write, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(write, True)
    return read, write


# -- the end of stdin -------------------------------------------------------------------------------------------------


def test_all_that_was_sent_is_answered_after_the_end_of_stdin(session: Session) -> None:
    session.send({"id": 0, "code": "import time; time.sleep(0.1); x = 0"})
    session.send(*({"id": n, "code": "x += 1; x"} for n in range(1, 200)))
    answers, stderr, status = session.finish()
    assert [answer["id"] for answer in answers] == list(range(200))
    assert (answers[-1]["result"], stderr, status) == ("199", "", 0)


def test_an_empty_stdin_ends_the_session(session: Session) -> None:
    assert session.finish() == ([], "", 0)


@pytest.mark.parametrize("kind", ["file", "null device", "closed", "socket", "not blocking"])
def test_stdin_may_be_of_any_kind(start: Start, backend: str, tmp_path: Path, kind: str) -> None:
    requests = b'{"id":1,"code":"x = 40"}\n' + b'{"id":2,"code":"x + 2"}\n'
    (tmp_path / "requests").write_bytes(requests)
    expected = ["None", "42"]
    if kind == "file":
        stdin: Any = open(tmp_path / "requests", "rb")
    elif kind == "null device":
        stdin, expected = open(os.devnull, "rb"), []
    elif kind == "socket":
        stdin, mine = socket.socketpair()
        mine.sendall(requests)
        mine.shutdown(socket.SHUT_WR)
    else:
        read, write = os.pipe()
        os.set_blocking(read, kind != "not blocking")
        os.write(write, requests)
        os.close(write)
        stdin = open(read, "rb", buffering=0)
    command = [sys.executable, str(FRONT_DOOR)]
    if kind == "closed":
        command, expected = ["sh", "-c", 'exec "$@" <&-', "sh", *command], []
    session = start(backend, stdin=stdin, command=command)
    answers = list(iter(session.read, None))
    assert [str(answer["result"]) for answer in answers] == expected
    assert session.wait() == 0
    stdin.close()


def test_a_session_that_reads_a_file_leaves_user_code_no_byte_of_it(start: Start, backend: str, tmp_path: Path) -> None:
    code = "import os, sys; os.read(0, 100), sys.stdin.read(), os.popen('cat').read()"
    lines = [json.dumps({"code": code}), json.dumps({"code": "40 + 2"})]
    (tmp_path / "requests").write_text("\n".join(lines))
    with open(tmp_path / "requests", "rb") as stdin:
        session = start(backend, stdin=stdin)
        assert [session.read()["result"], session.read()["result"]] == ["(b'', '', '')", "42"]


# -- stdout -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "code", ["import time; time.sleep(600)", "while True: pass", STUBBORN], ids=["call", "loop", "stubborn"]
)
def test_a_reader_that_goes_while_code_runs_ends_code_and_session(session: Session, tmp_path: Path, code: str) -> None:
    make_busy(session, tmp_path / "mark", code)
    assert session.process.stdout is not None
    session.process.stdout.close()
    session.wait()


def test_a_reader_that_goes_while_nothing_runs_ends_the_session(session: Session) -> None:
    session.run("1")
    assert session.process.stdout is not None
    session.process.stdout.close()
    session.wait()


def test_a_reader_that_goes_in_the_middle_of_an_answer_ends_the_session(session: Session) -> None:
    assert session.process.stdout is not None
    session.send(*({"code": "'x' * 5_000_000"} for _ in range(3)))
    os.read(session.process.stdout.fileno(), 100_000)
    session.process.stdout.close()
    session.wait()


def test_stdout_closed_from_the_start_ends_the_session(start: Start, backend: str) -> None:
    session = start(backend, command=["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, str(FRONT_DOOR)])
    session.send({"code": "1"})
    session.close_stdin()
    session.wait()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_answers_that_cannot_be_written_are_told_by_stderr_and_exit_status(start: Start, backend: str) -> None:
    with open("/dev/full", "wb") as full:
        session = start(backend, stdout=full, env={"JSON_REPL_READY": "off"})
        session.send({"code": "1"})
        session.close_stdin()
        assert session.wait() not in (0, None)
        assert session.process.stderr is not None and b"No space left" in session.process.stderr.read()


def test_answers_go_into_a_file_whole(start: Start, backend: str, tmp_path: Path) -> None:
    with open(tmp_path / "answers", "wb") as stdout:
        session = start(backend, stdout=stdout, env={"JSON_REPL_READY": "off"})
    session.send(*({"id": n, "code": f"'x' * {n}"} for n in range(500)))
    session.close_stdin()
    assert session.wait() == 0
    answers = [json.loads(line) for line in (tmp_path / "answers").read_text().splitlines()]
    assert [answer["result"] for answer in answers] == [repr("x" * n) for n in range(500)]


def test_a_stdout_that_somebody_has_made_non_blocking_loses_nothing(start: Start, backend: str) -> None:
    read, write = os.pipe()
    os.set_blocking(write, False)
    session = start(backend, stdout=write, env={"JSON_REPL_READY": "off"})
    os.close(write)
    session.send({"id": 1, "code": "'x' * 30_000_000", "max_output_bytes": 40_000_000}, {"id": 2, "code": "40 + 2"})
    session.process.stdout = open(read, "rb", buffering=0)
    assert [len(session.read(BOUND)["result"]), session.read()["result"]] == [30_000_002, "42"]


def test_a_slow_reader_gets_every_answer(session: Session) -> None:
    requests = b"".join(b'{"id":%d,"code":"\'x\' * 2000"}\n' % n for n in range(600))
    writer = Thread(target=session.write, args=(requests,), daemon=True)
    writer.start()
    writer.join(BOUND)  # all of them are in the pipe, and the answers are far more than the other pipe takes
    assert not writer.is_alive()
    assert [session.read()["id"] for _ in range(600)] == list(range(600))


# -- stderr -----------------------------------------------------------------------------------------------------------


def test_a_stderr_that_is_full_and_never_read_blocks_nothing(start: Start, backend: str) -> None:
    read, write = full_pipe()
    session = start(backend, stderr=write, env={"DEBUG_REPL": "1", "JSON_REPL_PYTHON": sys.executable})
    code = "import os, sys; os.system('echo a >&2'); print('b', file=sys.stderr); os.write(2, b'c\\n')"
    assert session.run(code)["stderr"] == "a\nb\nc\n"
    if backend == "worker":
        session.run("import os; os.abort()")
        assert session.ask("status")["log_lines_dropped"] > 0
    assert session.value("40 + 2") == "42"
    session.close_stdin()
    assert session.wait() == 0
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("wrong", [["--bogus"], ["--timeout", "x"], []], ids=["option", "value", "variable"])
def test_a_mistake_in_the_settings_ends_the_start_though_nobody_reads_of_it(wrong: list[str]) -> None:
    read, write = full_pipe()
    env = {**os.environ, **({} if wrong else {"JSON_REPL_TIMEOUT": "x"})}
    process = subprocess.Popen(
        [sys.executable, str(FRONT_DOOR), *wrong], stdin=subprocess.DEVNULL, stderr=write, env=env
    )
    try:
        assert process.wait(BOUND / 3) == 2
    finally:
        process.kill()
        process.wait()
        os.close(read)
        os.close(write)


def test_a_closed_stderr_changes_nothing(start: Start, backend: str) -> None:
    session = start(backend, command=["sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, str(FRONT_DOOR)])
    answer = session.run("import sys, os; print('a', file=sys.stderr); os.write(2, b'b\\n'); 42")
    assert (answer["result"], answer["stderr"]) == ("42", "a\nb\n")
    session.close_stdin()
    assert session.wait() == 0


def test_with_all_three_files_closed_it_ends(start: Start, backend: str) -> None:
    session = start(backend, command=["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, str(FRONT_DOOR)])
    session.wait()


# -- signals ----------------------------------------------------------------------------------------------------------


def test_sigint_interrupts_what_runs_and_the_session_lives(session: Session, tmp_path: Path) -> None:
    make_busy(session, tmp_path / "mark")
    session.process.send_signal(signal.SIGINT)
    answer = session.read()
    assert (answer["id"], answer["reason"]) == ("busy", "interrupted")
    assert session.value("kept + 1") == "42"


def test_sigint_to_an_idle_session_changes_nothing(session: Session) -> None:
    session.run("kept = 41")
    for _ in range(20):
        session.process.send_signal(signal.SIGINT)
        assert session.ask("ping") == {"pong": True}
    answer = session.run("kept + 1")
    assert (answer["result"], answer["session_state"]["state"]) == ("42", "kept")
    assert session.finish() == ([], "", 0)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP], ids=lambda signum: signum.name)
@pytest.mark.parametrize(
    "code", [None, "while True: pass", "import ctypes; ctypes.PyDLL(None).sleep(600)"], ids=["idle", "python", "c"]
)
def test_a_signal_to_end_ends_the_session_and_all_it_has_started(
    session: Session, tmp_path: Path, signum: signal.Signals, code: str | None
) -> None:
    if code is None:
        # In local, what code has started belongs to the session's own process, which takes nothing with it.
        session.run("import subprocess; p = subprocess.Popen(['sleep', '600'])" if session.backend == "worker" else "1")
    elif session.backend == "local" and "ctypes" in code:
        session.run("")  # a C call that holds the interpreter's lock sees no signal in its own process
    else:
        make_busy(session, tmp_path / "mark", code)
    session.process.send_signal(signum)
    assert session.wait() == -signum


def test_a_session_under_nohup_outlives_its_terminal(start: Start, backend: str) -> None:
    session = start(backend, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN) and None)
    session.run("x = 41")
    session.process.send_signal(signal.SIGHUP)
    assert session.value("x + 1") == "42"


def test_a_session_that_is_killed_leaves_no_worker(worker: Session, tmp_path: Path) -> None:
    make_busy(worker, tmp_path / "mark", "import ctypes; ctypes.PyDLL(None).sleep(600)")
    worker.process.kill()
    assert worker.wait() == -signal.SIGKILL


# -- a terminal -------------------------------------------------------------------------------------------------------


class Terminal:
    """A session on a terminal of its own."""

    def __init__(self, backend: str, stderr: int) -> None:
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.dup2(stderr, 2)
            os.environ["USE_SUBPROCESS_WORKER"] = str(int(backend == "worker"))
            os.execv(sys.executable, [sys.executable, str(FRONT_DOOR)])
        self.seen = b""

    def type(self, text: bytes) -> None:
        os.write(self.fd, text)

    def wait_for(self, text: bytes) -> bytes:
        """Read until `text` has come; returns what came up to its end."""
        deadline = monotonic() + BOUND
        while text not in self.seen:
            assert select.select([self.fd], [], [], max(0, deadline - monotonic()))[0], self.seen
            self.seen += os.read(self.fd, 65536)
        before, _, self.seen = self.seen.partition(text)
        return before + text

    def status(self) -> int:
        """Its exit status."""
        return os.waitstatus_to_exitcode(wait_until(lambda: self._ended())[1])

    def _ended(self) -> Any:
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return (pid, status) if pid else None


@pytest.fixture
def terminal(backend: str) -> Iterator[tuple[Terminal, int]]:
    """A session on a terminal, and the end of the pipe that is its stderr."""
    read, write = os.pipe()
    terminal = Terminal(backend, write)
    os.close(write)
    yield terminal, read
    os.close(terminal.fd)
    os.close(read)


def test_on_a_terminal_it_says_on_stderr_what_it_expects(terminal: tuple[Terminal, int]) -> None:
    session, stderr = terminal
    session.wait_for(b"__READY__")
    assert select.select([stderr], [], [], BOUND)[0]
    hint = os.read(stderr, 4096)
    assert b"JSON" in hint and b'{"code"' in hint and hint.count(b"\n") == 1
    session.type(b'{"code": "40+2"}\n')
    session.wait_for(b'"result":"42"')
    session.type(b"\x04")
    assert session.status() == 0


def test_control_c_interrupts_what_runs_and_ends_a_session_that_is_idle(
    terminal: tuple[Terminal, int], tmp_path: Path
) -> None:
    session, _ = terminal
    mark = tmp_path / "mark"
    session.wait_for(b"__READY__")
    session.type(b'{"code": "1"}\n')
    session.wait_for(b'"history_size":1')
    code = f"open({str(mark)!r}, 'w').close()\nimport time; time.sleep(600)"
    session.type(json.dumps({"code": code}).encode() + b"\n")
    wait_until(mark.exists)
    session.type(b"\x03")
    session.wait_for(b'"reason":"interrupted"')
    session.wait_for(b'"history_size":2')
    session.type(b'{"code": "40+2"}\n')
    session.wait_for(b'"result":"42"')
    session.wait_for(b'Z"}')
    session.type(b"\x03")
    assert session.status() == 130


def test_no_hint_where_nobody_looks(session: Session) -> None:
    session.run("1")
    assert session.finish()[1] == ""
