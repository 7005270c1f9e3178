"""Row D: code that outlives its time is interrupted, then killed; and the ladder of JSON_REPL_FALLBACK=always."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import Lasting, Session, wait_until

Start = Callable[..., Session]
ALWAYS_A_SNAPSHOT = {"JSON_REPL_SNAPSHOTS": "always"}  # a busy machine would have it wait for a moment of idleness

# Each waits far longer than its time, in a way that an interrupt ends.
INTERRUPTIBLE = {
    "a sleep": "import time; time.sleep(600)",
    "a busy loop": "while True: pass",
    "a lock": "import threading; lock = threading.Lock(); lock.acquire(); lock.acquire()",
    "a queue": "import queue; queue.Queue().get()",
    "a thread": "import threading, time\nt = threading.Thread(target=time.sleep, args=[600], daemon=True)\n"
    "t.start()\nt.join()",
    "a pipe": "import os; os.read(os.pipe()[0], 1)",
    "select": "import select; select.select([], [], [])",
    "a child": "import subprocess; subprocess.run(['sleep', '600'])",
    "an await": "import asyncio; await asyncio.sleep(600)",
    "an await of nothing": "import asyncio; await asyncio.Event().wait()",
    "asyncio.run": "import asyncio; asyncio.run(asyncio.sleep(600))",
    "an import": "import importlib.util, sys, types\nclass Finder:\n def find_spec(*args):\n  while True: pass\n"
    "sys.meta_path.append(Finder)\ntry: import there_is_no_such_module\nfinally: sys.meta_path.remove(Finder)",
    "repr": "class R:\n def __repr__(self):\n  while True: pass\nR()",
    "str of an exception": "class E(Exception):\n def __str__(self):\n  while True: pass\nraise E",
    "a finally": "try: 1 / 0\nfinally:\n while True: pass",
    "an except": "try: 1 / 0\nexcept ZeroDivisionError:\n while True: pass",
    "the iteration of a generator": "def g():\n while True: yield 1\nlist(x for x in g() if x > 1)",
}
# No KeyboardInterrupt ends these: they refuse it, or never come to look for it.
UNINTERRUPTIBLE = {
    "code that swallows every exception": (
        "import time\nwhile True:\n try:\n  while True: time.sleep(0.01)\n except BaseException: pass"
    ),
    "C code that holds the interpreter's lock": "import itertools; any(itertools.repeat(0))",
    "blocked interrupts": "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\nwhile True: pass",
    "a stopped process": "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
    "another program": "import os; os.execv('/bin/sh', ['sh', '-c', \"trap '' INT; while :; do sleep 1; done\"])",
}


@pytest.fixture(scope="module", params=["local", "worker"])
def lasting(request: pytest.FixtureRequest) -> Iterator[Lasting]:
    lasting = Lasting(request.param)
    yield lasting
    lasting.end()


def _assert_is_timeout(answer: Any, seconds: str) -> None:
    assert (answer["status"], answer["reason"], answer["success"]) == ("error", "timeout", False)
    error = answer["error"]
    assert error["ename"] == "ExecutionTimeout" and f"{seconds} s" in error["evalue"]
    assert answer["stderr"].rstrip().endswith(error["evalue"])
    assert answer["result"] is None


@pytest.mark.parametrize("what", INTERRUPTIBLE)
def test_code_that_outlives_its_time_is_interrupted_and_the_state_is_kept(lasting: Lasting, what: str) -> None:
    session = lasting.session()
    # What is imported while the time runs may be cut off in the middle, which is not the point here.
    imports = "import asyncio, importlib.util, queue, select, subprocess, threading; await asyncio.sleep(0)"
    epoch = session.run(f"{imports}; x = 41")["session_state"]["epoch"]
    answer = session.run(f"print('begun')\n{INTERRUPTIBLE[what]}", timeout=0.1)
    _assert_is_timeout(answer, "0.1")
    assert answer["stdout"] == "begun\n" and answer["backend"] == session.backend
    assert (answer["session_state"]["state"], answer["session_state"]["epoch"]) == ("kept", epoch)
    assert session.value("x + 1") == "42"


@pytest.mark.parametrize("what", UNINTERRUPTIBLE)
def test_code_that_cannot_be_interrupted_is_killed_and_the_session_is_as_before_it(start: Start, what: str) -> None:
    worker = start("worker", env=ALWAYS_A_SNAPSHOT)
    worker.run("x = 41")
    answer = worker.run(f"print('begun'); x = 0\n{UNINTERRUPTIBLE[what]}", timeout=0.1)
    _assert_is_timeout(answer, "0.1")
    assert (answer["stdout"], answer["attempts"]) == ("begun\n", 1)
    assert (answer["session_state"]["state"], answer["session_state"]["epoch"]) == ("restored", 1)
    assert answer["session_state"]["undone"] == []
    following = worker.run("x + 1")
    assert (following["result"], following["session_state"]["state"]) == ("42", "kept")


def test_a_regular_expression_that_backtracks_without_end_is_interrupted(worker: Session) -> None:
    answer = worker.run("import re; re.match('(a+)+$', 'a' * 64 + 'b')", timeout=0.2)
    _assert_is_timeout(answer, "0.2")
    assert answer["session_state"]["state"] == "kept"


def test_killed_code_costs_the_names_where_there_are_no_snapshots(start: Start) -> None:
    session = start("worker", env={"JSON_REPL_SNAPSHOTS": "off"})
    session.run("x = 1")
    state = session.run(UNINTERRUPTIBLE["blocked interrupts"], timeout=0.1)["session_state"]
    assert (state["state"], state["lost_names"], state["epoch"]) == ("lost", ["x"], 1)
    assert session.value("'x' in globals()") == "False"


def test_a_timeout_shows_where_every_thread_was(worker: Session) -> None:
    code = (
        "import threading\nevent = threading.Event()\ndef lurking(): event.wait()\n"
        "threading.Thread(target=lurking, daemon=True).start()\ndef culprit():\n while True: pass\nculprit()"
    )
    error = worker.run(code, timeout=0.2)["error"]
    assert "culprit" in "".join(error["traceback"])
    assert "lurking" in error["stacks"] and "culprit" in error["stacks"]
    assert "json_repl/" not in error["stacks"] + "".join(error["traceback"])


def test_code_that_ends_well_after_the_interrupt_is_still_a_timeout(session: Session) -> None:
    code = "import time\ntry:\n while True: time.sleep(0.01)\nexcept KeyboardInterrupt: kept = 'tidied up'\n'done'"
    _assert_is_timeout(session.run(code, timeout=0.2), "0.2")
    assert session.value("kept") == "'tidied up'"


def test_local_code_is_interrupted_again_while_it_refuses(local: Session) -> None:
    code = (
        "import time\nn = 0\nwhile n < 2:\n try:\n  while True: time.sleep(0.01)\n except KeyboardInterrupt: n += 1\nn"
    )
    _assert_is_timeout(local.run(code, timeout=0.1), "0.1")
    assert local.value("n") == "2"


@pytest.mark.parametrize("call", ["subprocess.run(command)", "os.system(shlex.join(command))", "os.wait()"])
def test_a_command_that_timed_out_code_waits_for_gets_the_interrupt(worker: Session, tmp_path: Path, call: str) -> None:
    file = tmp_path / "interrupted"
    script = f"trap 'echo yes > {file}; exit 0' INT; echo ready; while :; do sleep 0.02; done"
    spawn = "subprocess.Popen(command)" if call == "os.wait()" else "None"
    answer = worker.run(
        f"import os, shlex, subprocess\ncommand = ['sh', '-c', {script!r}]\nchild = {spawn}\n{call}", timeout=0.4
    )
    assert "ready" in answer["stdout"]
    wait_until(lambda: file.exists() and file.read_text() == "yes\n")


def test_a_request_can_have_more_time_than_the_setting_or_no_limit(start: Start, backend: str) -> None:
    session = start(backend, env={"JSON_REPL_TIMEOUT": "0.1"})
    wait = "import time\nend = time.monotonic() + 0.2\nwhile time.monotonic() < end: pass\n'done'"
    _assert_is_timeout(session.run(wait), "0.1")
    for timeout in (0, None, 600, 1e300):
        assert session.value(wait, timeout=timeout) == "'done'"


def test_thirty_seconds_are_the_default_and_told(worker: Session) -> None:
    described = worker.ask("describe")
    assert "30" in described["methods"]["execute"]["params"]["timeout"]["doc"]
    assert "30" in described["settings"]["JSON_REPL_TIMEOUT"]["doc"]


def test_a_worker_that_was_stopped_while_idle_is_replaced_when_a_request_outlives_its_time(start: Start) -> None:
    worker = start("worker", env=ALWAYS_A_SNAPSHOT)
    worker.run("x = 41")
    worker.run("0")  # which is taken when there is a snapshot of the one before
    os.kill(worker.ask("status")["worker"]["pid"], signal.SIGSTOP)
    _assert_is_timeout(worker.run("1", timeout=0.1), "0.1")
    assert worker.value("x + 1") == "42"


def test_time_runs_from_when_the_code_starts_not_from_when_it_is_queued(session: Session) -> None:
    session.send({"code": "import time; time.sleep(0.4)"}, {"code": "6 * 7", "timeout": 0.3})
    assert [session.read()["status"] for _ in range(2)] == ["ok"] * 2


def test_a_late_deadline_does_not_hit_the_next_request(session: Session) -> None:
    session.run("import time")
    for n in range(60):
        session.send(
            {"id": 1, "code": f"time.sleep(0.01); {n}", "timeout": 0.0095 + n % 10 * 0.0002},
            {"id": 2, "code": f"for i in range(20000): pass\n{n}"},
        )
        first, second = session.read(), session.read()
        assert first["reason"] in (None, "timeout") and first["session_state"]["state"] == "kept"
        assert (first["id"], second["id"], second["result"], second["status"]) == (1, 2, str(n), "ok"), second


# -- the ladder of "always" --------------------------------------------------------------------------------------------


def _ladder(file: Path, session_pid: int, fall: str, rungs: int = 99) -> str:
    """Code that notes each run; it does not end well in the first `rungs` ones, as long as a worker runs it."""
    return (
        f"import os, time\nopen({str(file)!r}, 'a').write('%d ' % os.getpid())\n"
        f"if os.getpid() != {session_pid} and len(open({str(file)!r}).read().split()) <= {rungs}: {fall}\n'done'"
    )


@pytest.mark.parametrize(
    ("how", "fall", "timeout"),
    [
        ("by setting", "os.abort()", None),
        ("by request", "os._exit(0)", None),
        ("by request", "os.kill(os.getpid(), 9)", None),
        ("by setting", "time.sleep(600)", 0.1),
    ],
    ids=["a signal", "an exit", "taken away", "a timeout"],
)
def test_with_always_any_failure_is_tried_three_times_more_and_then_the_session_runs_the_code(
    start: Start, tmp_path: Path, how: str, fall: str, timeout: float | None
) -> None:
    session = start("worker", env={"JSON_REPL_FALLBACK": "always"} if how == "by setting" else {})
    params = {"fallback": "always"} if how == "by request" else {}
    file = tmp_path / "runs"
    answer = session.run(_ladder(file, session.pid, fall), timeout=timeout, **params)
    assert (answer["status"], answer["result"], answer["backend"]) == ("ok", "'done'", "local"), answer["stderr"]
    pids = [int(word) for word in file.read_text().split()]
    assert len(pids) == 5 and pids[-1] == session.pid and session.pid not in pids[:4]
    assert answer["attempts"] == 5 and answer["fallback"]["message"]
    following = session.run("__import__('os').getpid()")
    assert following["backend"] == "worker" and int(following["result"]) != session.pid


def test_with_always_code_that_ends_well_on_a_rung_is_answered_from_there(start: Start, tmp_path: Path) -> None:
    session = start("worker", env={"JSON_REPL_FALLBACK": "always", **ALWAYS_A_SNAPSHOT})
    session.run("x = 41")
    answer = session.run(_ladder(tmp_path / "runs", session.pid, "os.abort()", rungs=2) + ", x + 1")
    assert (answer["result"], answer["backend"], answer["attempts"]) == ("('done', 42)", "worker", 3)
    assert answer["fallback"] is None and answer["session_state"]["state"] == "restored"


def test_with_auto_code_that_took_a_worker_down_or_outlived_its_time_never_runs_in_the_session(
    worker: Session, tmp_path: Path
) -> None:
    for fall, timeout in (("os.abort()", 5), ("os.kill(os.getpid(), 9)", 5), ("time.sleep(600)", 0.1)):
        answer = worker.run(_ladder(tmp_path / "runs", worker.pid, fall), timeout=timeout)
        assert (answer["status"], answer["backend"], answer["fallback"]) == ("error", "worker", None)
    assert str(worker.pid) not in (tmp_path / "runs").read_text().split()
