"""Rows B and C: the worker is taken away while code runs, or the code itself ends it; and a worker that dies idle."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import Lasting, Session, wait_until

Start = Callable[..., Session]
NO_SNAPSHOTS = {"JSON_REPL_SNAPSHOTS": "off"}


class Runs:
    """Counts how often code runs, by a file to which each run adds the number of its process."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def code(self, until: int) -> str:
        """Code that waits in all runs but the `until`th."""
        return (
            f"import os, time\nprint('begun', flush=True)\nopen({str(self._file)!r}, 'a').write('%d ' % os.getpid())\n"
            f"if len(open({str(self._file)!r}).read().split()) < {until}: time.sleep(600)\n'done'"
        )

    def pids(self) -> list[int]:
        """Of the processes in which it ran, in order."""
        return [int(word) for word in self._file.read_text().split()] if self._file.exists() else []

    def kill_next(self, signum: int) -> None:
        """Wait until it runs once more, and kill that."""
        before = len(self.killed)
        wait_until(lambda: len(self.pids()) > before)
        self.killed.append(self.pids()[-1])
        os.kill(self.killed[-1], signum)

    @property
    def killed(self) -> list[int]:
        """Those that `kill_next` has killed."""
        return self.__dict__.setdefault("_killed", [])  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def lasting_worker() -> Iterator[Lasting]:
    lasting = Lasting("worker")
    yield lasting
    lasting.end()


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "runs")


# -- B: taken away -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("times", [1, 3])
def test_code_whose_worker_is_taken_away_runs_again_and_the_answer_counts_it(
    worker: Session, runs: Runs, name: str, times: int
) -> None:
    worker.send({"code": runs.code(until=times + 1)})
    for _ in range(times):
        runs.kill_next(signal.Signals[name])
    answer = worker.read()
    assert (answer["status"], answer["result"], answer["attempts"]) == ("ok", "'done'", times + 1)
    assert (answer["stdout"], answer["backend"], answer["fallback"]) == ("begun\n", "worker", None)
    assert len(set(runs.pids())) == times + 1
    assert worker.value("6 * 7") == "42"


@pytest.mark.parametrize(("retries", "expected"), [(None, 4), (0, 1), (1, 2), (99, 4)])
def test_code_whose_worker_is_always_taken_away_runs_at_most_four_times_and_ends_as_a_crash(
    worker: Session, runs: Runs, retries: int | None, expected: int
) -> None:
    worker.send({"code": runs.code(until=99), "retries": retries})
    for _ in range(expected):
        runs.kill_next(signal.SIGKILL)
    answer = worker.read()
    assert (answer["status"], answer["reason"], answer["attempts"]) == ("error", "crash", expected)
    assert (answer["error"]["ename"], answer["error"]["signal"]) == ("WorkerCrash", "SIGKILL")
    assert len(runs.pids()) == expected and answer["stdout"] == "begun\n"
    following = worker.run("6 * 7")
    assert (following["result"], following["backend"], following["attempts"]) == ("42", "worker", 1)


def test_code_does_not_run_again_where_other_state_was_lost_with_its_worker(start: Start, runs: Runs) -> None:
    session = start("worker", env=NO_SNAPSHOTS)
    session.run("x, y = 1, 2")
    session.send({"code": runs.code(until=2)})
    runs.kill_next(signal.SIGKILL)
    answer = session.read()
    assert (answer["reason"], answer["attempts"], answer["stdout"]) == ("crash", 1, "begun\n")
    assert answer["session_state"]["state"] == "lost" and answer["session_state"]["lost_names"] == ["x", "y"]
    assert session.run("x")["error"]["ename"] == "NameError"
    assert session.run("1")["session_state"]["state"] == "kept"
    assert len(runs.pids()) == 1


def test_code_runs_again_with_the_state_that_it_had(worker: Session, runs: Runs) -> None:
    worker.run("x = [1]")
    wait_until(lambda: worker.ask("status")["worker"]["snapshots"])
    worker.send({"code": "x.append(2)\n" + runs.code(until=2) + ", x"})
    runs.kill_next(signal.SIGKILL)
    answer = worker.read()
    assert (answer["result"], answer["attempts"]) == ("('done', [1, 2])", 2)
    assert answer["session_state"]["state"] == "restored" and answer["session_state"]["undone"] == []


# User code finds the worker's end of the answer pipe, the only pipe beyond fd 2 that can only be written.
FIND_WIRE = """
import os, struct
def wire():
    for number in sorted(map(int, os.listdir('/proc/self/fd'))):
        try:
            flags = open(f'/proc/self/fdinfo/{number}').read().split('flags:')[1].split()[0]
            if number > 2 and os.readlink(f'/proc/self/fd/{number}')[:4] == 'pipe' and int(flags, 8) & os.O_WRONLY:
                return number
        except OSError:
            pass
def send(kind, payload, length=None):
    size = len(payload) if length is None else length
    os.write(wire(), struct.pack('<HBxQ', 0x524A, kind, size) + payload)
def texts(*texts):
    return struct.pack('<I', len(texts)) + b''.join(struct.pack('<q', len(text)) + text for text in texts)
"""
FORGERIES = {
    "noise": "os.write(wire(), os.urandom(1000))",
    "a few bytes": "os.write(wire(), b'abc')",
    "much noise": "os.write(wire(), b'A' * 60000)",
    "an unknown kind": "send(99, b'')",
    "a frame of absurd length": "send(4, b'', length=1 << 60)",
    "a question with no text": "send(7, texts())",
    "a question that makes no sense": "send(7, texts(b'recent', b'many'))",
    "a question that is no text": "send(7, b'\\xff' * 30)",
    "a result nobody asked for": "send(6, texts(b'x'))",
    "an answer that is too short": "send(3, b'x')",
    "an answer with a reason that there is not": "send(3, b'\\xee' * 60)",
    "output that is too short": "send(4, b'x')",
    "output of no stream": "send(4, struct.pack('<QQBI', 1 << 40, 1, 9, 3) + b'abc')",
    **{f"an empty frame of kind {kind}": f"send({kind}, b'')" for kind in range(1, 16)},
}


@pytest.mark.parametrize("what", FORGERIES)
def test_what_user_code_writes_on_its_workers_wire_costs_at_most_the_worker(
    lasting_worker: Lasting, tmp_path: Path, what: str
) -> None:
    worker, file = lasting_worker.session(), tmp_path / "runs"
    code = f"{FIND_WIRE}\nopen({str(file)!r}, 'a').write('x')\n{FORGERIES[what]}"
    worker.send({"id": 1, "code": code, "timeout": 5}, {"id": 2, "code": "6 * 7"}, {"id": 3, "method": "variables"})
    answer, following, last = worker.read(), worker.read(), worker.read()
    assert (answer["id"], following["id"], following["result"], last["id"]) == (1, 2, "42", 3)
    assert answer["attempts"] == len(file.read_text()) <= 4
    if answer["status"] == "error":
        assert answer["reason"] == "crash" and "no answer" in answer["error"]["evalue"]


def test_output_before_noise_on_the_wire_is_in_the_answer(worker: Session) -> None:
    answer = worker.run(f"{FIND_WIRE}\nprint('begun')\nos.write(wire(), b'A' * 100)\n__import__('time').sleep(600)")
    assert (answer["reason"], answer["attempts"], answer["stdout"]) == ("crash", 4, "begun\n")


def test_a_forged_answer_ends_its_own_request_only(worker: Session) -> None:
    nan = "struct.pack('<BddQQ', 0, float('nan'), float('inf'), 0, 0) + struct.pack('<Iqq', 2, -1, -1)"
    worker.send({"id": 1, "code": f"{FIND_WIRE}\nsend(3, {nan})"}, {"id": 2, "code": "6 * 7"})
    assert worker.read()["id"] == 1
    assert worker.read()["result"] == "42"
    assert worker.value("6 * 8") == "48"


# -- C: the code itself ------------------------------------------------------------------------------------------------

OVERFLOW = """
import resource, sys
sys.setrecursionlimit(10 ** 6)
resource.setrlimit(resource.RLIMIT_STACK, (1 << 18, resource.getrlimit(resource.RLIMIT_STACK)[1]))
def deep(n): return max([n], key=lambda n: deep(n + 1))
deep(0)
"""
CRASHES: dict[str, tuple[str, str | None, int | None]] = {
    "a null pointer": ("import ctypes; ctypes.string_at(0)", "SIGSEGV", None),
    "an overflow of the stack": (OVERFLOW, "SIGSEGV", None),
    "abort": ("import os; os.abort()", "SIGABRT", None),
    "abort in a thread": (
        "import os, threading; t = threading.Thread(target=os.abort); t.start(); t.join()",
        "SIGABRT",
        None,
    ),
    **{
        name: (f"import os, signal; os.kill(os.getpid(), signal.{name})", name, None)
        for name in ("SIGFPE", "SIGILL", "SIGBUS", "SIGSYS", "SIGTRAP", "SIGQUIT", "SIGALRM", "SIGUSR1", "SIGXCPU")
    },
    "a signal without a name": ("import os, signal; os.kill(os.getpid(), signal.SIGRTMIN + 3)", "signal 37", None),
    **{f"exit status {code}": (f"import os; os._exit({code})", None, code) for code in (0, 1, 2, 3, 255)},
    "another program": ("import os; os.execv('/bin/sh', ['sh', '-c', 'exit 7'])", None, 7),
    "no files": ("import os; os.closerange(3, 65536)", None, 1),
    "no files at all": ("import os; os.closerange(0, 65536)", None, 1),
    "in repr": ("class R:\n def __repr__(self): __import__('os')._exit(4)\nR()", None, 4),
    "in str of an exception": ("class E(Exception):\n def __str__(self): __import__('os')._exit(5)\nraise E", None, 5),
    "in a finally": ("try: 1 / 0\nfinally: __import__('os')._exit(6)", None, 6),
    "in an await": (
        "import asyncio, os; asyncio.get_running_loop().call_soon(os._exit, 8); await asyncio.sleep(9)",
        None,
        8,
    ),
}


@pytest.mark.parametrize("what", CRASHES)
def test_code_that_ends_its_worker_is_answered_as_a_crash_by_name_and_not_run_again(
    lasting_worker: Lasting, tmp_path: Path, what: str
) -> None:
    code, signum, status = CRASHES[what]
    worker, file = lasting_worker.session(), tmp_path / "runs"
    epoch = worker.run("x = 41")["session_state"]["epoch"]
    wait_until(lambda: worker.ask("status")["worker"]["snapshots"])
    answer = worker.run(f"open({str(file)!r}, 'a').write('x')\nprint('begun')\n{code}")
    assert (answer["status"], answer["reason"], answer["success"]) == ("error", "crash", False)
    error = answer["error"]
    assert (error["ename"], error["signal"], error["exit_status"]) == ("WorkerCrash", signum, status)
    assert (signum or f"status {status}") in error["evalue"]
    assert answer["stdout"] == "begun\n" and answer["stderr"].rstrip().endswith(error["evalue"])
    assert (answer["backend"], answer["attempts"], file.read_text()) == ("worker", 1, "x")
    assert (answer["session_state"]["state"], answer["session_state"]["epoch"]) == ("restored", epoch + 1)
    following = worker.run("x + 1")
    assert (following["result"], following["session_state"]["state"]) == ("42", "kept")
    assert following["session_state"]["epoch"] == epoch + 1
    entries = worker.ask("history", failed=True, n=1)["entries"]
    assert [(entry["reason"], entry["backend"]) for entry in entries] == [("crash", "worker")]


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGFPE", "SIGILL", "SIGBUS"])
def test_a_fatal_signal_is_answered_with_the_python_stack(worker: Session, name: str) -> None:
    worker.run("import os, signal\ndef culprit(): os.kill(os.getpid(), signal." + name + ")")
    trace = "".join(worker.run("culprit()")["error"]["traceback"])
    assert "in culprit" in trace and "<python-input-2>" in trace
    assert "subprocess_worker.py" not in trace and "json_repl/" not in trace


def test_a_crash_loses_the_names_where_there_are_no_snapshots(start: Start) -> None:
    session = start("worker", env=NO_SNAPSHOTS)
    session.run("\n".join(f"name_{n} = {n}" for n in range(150)))
    state = session.run("committed_no = 1; import os; os._exit(1)")["session_state"]
    assert state["state"] == "lost" and state["epoch"] == 1
    assert state["lost_names"] == [f"name_{n}" for n in range(100)] and state["lost_count"] == 150
    following = session.run("sorted(name for name in globals() if name.startswith('name_'))")
    assert (following["result"], following["session_state"]["state"]) == ("[]", "kept")


def test_all_output_before_a_crash_is_in_the_answer(worker: Session) -> None:
    code = """
import os, subprocess, sys
for n in range(20000): print(n, 'x' * 20)
sys.stdout.flush()
os.write(1, b'from fd 1\\n')
subprocess.run(['echo', 'from a child'])
print('to stderr', file=sys.stderr)
print('last, without a newline', end='')
os.abort()
"""
    answer = worker.run(code)
    assert answer["reason"] == "crash"
    lines = answer["stdout"].split("\n")
    assert lines[:20000] == [f"{n} {'x' * 20}" for n in range(20000)]
    assert lines[20000:] == ["from fd 1", "from a child", "last, without a newline"]
    assert answer["stderr"].startswith("to stderr\n")


def test_a_session_survives_more_crashes_than_there_are_retries(worker: Session) -> None:
    for n in range(12):
        answer = worker.run(f"import os; os._exit({n})")
        assert (answer["reason"], answer["backend"], answer["error"]["exit_status"]) == ("crash", "worker", n)
    assert worker.run("1")["session_state"]["epoch"] == 12


# -- dead while idle ---------------------------------------------------------------------------------------------------


def _kill_idle(session: Session, signum: int = signal.SIGKILL) -> None:
    pid = session.ask("status")["worker"]["pid"]
    os.kill(pid, signum)
    wait_until(lambda: session.ask("status")["worker"]["pid"] not in (pid, None))


@pytest.mark.parametrize("how", ["SIGKILL", "SIGSEGV", "a thread of its own"])
def test_a_worker_that_dies_idle_is_told_once_by_the_next_answer(start: Start, how: str) -> None:
    session = start("worker", env=NO_SNAPSHOTS)
    session.run("x, y = 1, 2")
    for epoch in (1, 2):
        if how.startswith("SIG"):
            _kill_idle(session, signal.Signals[how])
        else:
            pid = session.ask("status")["worker"]["pid"]
            session.run("import threading, os; threading.Timer(0.05, os._exit, [3]).start()")
            wait_until(lambda: session.ask("status")["worker"]["pid"] not in (pid, None))  # noqa: B023
        answer = session.run("x = y = 3")
        assert answer["status"] == "ok" and answer["attempts"] == 1
        state = answer["session_state"]
        assert (state["state"], state["epoch"]) == ("lost", epoch) and {"x", "y"} <= set(state["lost_names"])
        following: dict[str, Any] = session.run("x")["session_state"]
        assert (following["state"], following["epoch"], following["lost_names"]) == ("kept", epoch, [])


def test_a_worker_that_dies_idle_with_a_snapshot_loses_nothing(worker: Session) -> None:
    worker.run("x = [41]; again = (n for n in range(9)); next(again)")
    wait_until(lambda: worker.ask("status")["worker"]["snapshots"])
    _kill_idle(worker)
    answer = worker.run("x[0] + next(again)")
    assert (answer["result"], answer["session_state"]["state"]) == ("42", "restored")
    assert (answer["session_state"]["undone"], answer["session_state"]["epoch"]) == ([], 1)


def test_a_worker_that_dies_before_any_request_costs_nothing(worker: Session) -> None:
    wait_until(lambda: worker.ask("status")["worker"]["ready"])
    _kill_idle(worker)
    answer = worker.run("6 * 7")
    assert (answer["result"], answer["session_state"]["lost_names"]) == ("42", [])
    assert answer["session_state"]["state"] != "lost"


def test_a_worker_that_dies_while_it_lists_variables_is_an_error_of_that_request(start: Start) -> None:
    session = start("worker", env=NO_SNAPSHOTS)
    session.run("x = 1")
    pid = session.worker_pid()
    os.kill(pid, signal.SIGSTOP)
    session.send({"jsonrpc": "2.0", "id": 1, "method": "variables"})
    wait_until(lambda: session.ask("status")["state"] == "busy")
    os.kill(pid, signal.SIGKILL)
    assert session.read()["error"]["code"] == -32012
    state = session.run("'x' in globals()")["session_state"]
    assert (state["state"], state["lost_names"]) == ("lost", ["x"])
