"""Interrupts, in both backends: they hit the code that they are meant for, at once, and nothing else."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from harness import Session, wait_until

Start = Callable[..., Session]
NOTE = "# from here on it runs\n"
BUSY = {
    "a busy loop": "while True: pass",
    "a sleep": "import time; time.sleep(600)",
    "a child": "import subprocess; child = subprocess.Popen(['sleep', '600'])\n"
    f"try:\n {NOTE} child.wait()\nfinally: child.kill(); child.wait()",
    "an await": "import asyncio; await asyncio.sleep(600)",
    "a lock": "import threading; lock = threading.Lock(); lock.acquire(); lock.acquire()",
}


class Running:
    """Code that runs now, under the JSON-RPC id "run": it has come to `NOTE`, or its first line."""

    def __init__(self, session: Session, started: Path, code: str) -> None:
        self.session = session
        self._answers: dict[object, Any] = {}
        note = f"print('begun'); __import__('os').mkdir({str(started)!r})\n"
        code = code.replace(NOTE, note) if NOTE in code else note + code
        session.send({"jsonrpc": "2.0", "id": "run", "method": "execute", "params": {"code": code}})
        wait_until(started.exists)
        started.rmdir()

    def ask(self, method: str, **params: Any) -> Any:
        """The result of a control method."""
        self.session.send({"jsonrpc": "2.0", "id": method, "method": method, "params": params})
        return self._answer(method)["result"]

    def notify(self, method: str, **params: Any) -> None:
        """Send what is not answered."""
        self.session.send({"jsonrpc": "2.0", "method": method, "params": params})

    def execution_id(self) -> str:
        """As the session tells it."""
        return str(self.ask("status")["running"]["execution_id"])

    def end(self) -> Any:
        """The result of the code."""
        return self._answer("run")["result"]

    def _answer(self, id: str) -> Any:
        while id not in self._answers:
            answer = self.session.read()
            assert answer is not None and answer["id"] not in self._answers
            self._answers[answer["id"]] = answer
        return self._answers.pop(id)


@pytest.fixture
def run(session: Session, tmp_path: Path) -> Callable[..., Running]:
    """Starts code in a session that has state, in each backend."""
    session.run("x = 41")
    return lambda code="while True: pass": Running(session, tmp_path / "started", code)


def _assert_was_interrupted(running: Running) -> None:
    result = running.end()
    assert (result["status"], result["reason"], result["stdout"]) == ("error", "interrupted", "begun\n")
    assert result["backend"] == running.session.backend and result["session_state"]["state"] == "kept"
    assert running.session.value("x + 1") == "42"


WAYS: dict[str, Callable[[Running], object]] = {
    "the method": lambda running: running.ask("interrupt"),
    "the method, of this execution": lambda running: running.ask("interrupt", execution_id=running.execution_id()),
    "$/cancelRequest": lambda running: running.notify("$/cancelRequest", id="run"),
    "notifications/cancelled": lambda running: running.notify("notifications/cancelled", requestId="run"),
    "SIGINT": lambda running: os.kill(running.session.pid, signal.SIGINT),
}


@pytest.mark.parametrize("what", BUSY)
def test_an_interrupt_ends_code_that_waits_or_runs_and_keeps_the_state(run: Callable[..., Running], what: str) -> None:
    running = run(BUSY[what])
    assert running.ask("interrupt")["interrupted"] is True
    _assert_was_interrupted(running)


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_interrupt_ends_the_code(run: Callable[..., Running], way: str) -> None:
    running = run()
    WAYS[way](running)
    _assert_was_interrupted(running)


def test_an_interrupted_error_names_the_line_and_none_of_our_files(run: Callable[..., Running]) -> None:
    running = run(f"def culprit():\n {NOTE} while True: pass\nculprit()")
    running.ask("interrupt")
    error = running.end()["error"]
    text = "".join(error["traceback"])
    assert error["ename"] == "KeyboardInterrupt" and "in culprit" in text
    assert not any(name in text for name in ("json_repl", "subprocess_worker", "worker_manager"))


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("interrupt", {"execution_id": "e999"}),
        ("interrupt", {"request_id": "later"}),
        ("interrupt", {"request_id": 1}),
        ("$/cancelRequest", {"id": "later"}),
        ("notifications/cancelled", {"requestId": "gone"}),
    ],
)
def test_an_interrupt_that_names_something_else_hits_nothing(
    run: Callable[..., Running], method: str, params: dict[str, Any]
) -> None:
    running = run()
    assert running.ask(method, **params)["interrupted"] is False
    assert running.ask("status")["state"] == "busy"
    assert running.ask("interrupt", execution_id=running.execution_id())["interrupted"] is True
    _assert_was_interrupted(running)


@pytest.mark.parametrize("way", ["method", "SIGINT"])
def test_an_interrupt_while_nothing_runs_hits_nothing(session: Session, way: str) -> None:
    session.run("x = 41")
    for _ in range(3):
        if way == "SIGINT":
            os.kill(session.pid, signal.SIGINT)
            assert session.ask("ping")["pong"] is True
        else:
            assert session.ask("interrupt")["interrupted"] is False
    answer = session.run("x + 1")
    assert (answer["result"], answer["session_state"]["state"]) == ("42", "kept")


def test_two_interrupts_in_a_row_are_one_interrupt(run: Callable[..., Running]) -> None:
    running = run()
    running.session.send(
        {"method": "interrupt", "id": "a"}, {"method": "interrupt", "id": "b"}, {"id": "c", "code": "x"}
    )
    answers = {answer["id"]: answer for answer in (running.session.read() for _ in range(4))}
    assert set(answers) == {"a", "b", "c", "run"}
    assert answers["run"]["result"]["reason"] == "interrupted"
    assert (answers["c"]["status"], answers["c"]["result"]) == ("ok", "41")


# A loop of nothing but `pass` would not do: where it jumps, CPython 3.11 and 3.12 raise outside of the `try` around it.
CATCHES = (
    "import time\ntry:\n "
    + NOTE.strip("\n")
    + """
 while True: time.sleep(0.01)
except KeyboardInterrupt: caught = True
"""
)


def test_code_that_catches_the_interrupt_goes_on_and_can_be_interrupted_again(
    run: Callable[..., Running], tmp_path: Path
) -> None:
    caught = tmp_path / "caught"
    running = run(f"{CATCHES}open({str(caught)!r}, 'w').close()\nwhile True: pass")
    running.ask("interrupt")
    wait_until(caught.exists)
    assert running.ask("status")["state"] == "busy"
    running.ask("interrupt")
    _assert_was_interrupted(running)


def test_code_that_catches_the_interrupt_can_end_well(run: Callable[..., Running]) -> None:
    running = run(CATCHES + "caught")
    running.ask("interrupt")
    assert (running.end()["result"], running.session.value("x, caught")) == ("True", "(41, True)")


def test_an_interrupt_ends_the_text_of_an_exception_that_never_ends(run: Callable[..., Running]) -> None:
    running = run("class E(Exception):\n def __str__(self):\n  " + NOTE + "  while True: pass\nraise E")
    assert running.ask("interrupt")["interrupted"] is True
    result = running.end()
    assert result["status"] == "error" and result["reason"] in ("exception", "interrupted")
    assert running.session.value("x + 1") == "42"


def test_queued_requests_are_not_interrupted(run: Callable[..., Running]) -> None:
    running = run()
    running.session.send({"id": 1, "code": "x + 1"}, {"id": 2, "code": "x + 2"}, {"method": "interrupt", "id": 3})
    answers = {answer["id"]: answer for answer in (running.session.read() for _ in range(4))}
    assert answers["run"]["result"]["reason"] == "interrupted"
    assert (answers[1]["result"], answers[2]["result"]) == ("42", "43")


def test_control_requests_are_answered_while_code_runs(run: Callable[..., Running]) -> None:
    running = run()
    for _ in range(20):
        assert running.ask("ping")["pong"] is True
        status = running.ask("status")
        assert (status["state"], status["queued"]) == ("busy", 0) and status["running"]["execution_id"]
    assert running.ask("describe")["name"] == "json-repl-session"
    running.ask("interrupt")
    _assert_was_interrupted(running)


def test_a_handler_of_user_codes_own_gets_the_interrupt(run: Callable[..., Running]) -> None:
    code = (
        "import signal\ndef own(*args): raise ValueError('mine')\nsignal.signal(signal.SIGINT, own)\n"
        f"{NOTE}while True: pass"
    )
    running = run(code)
    running.ask("interrupt")
    assert running.end()["error"]["evalue"] == "mine"
    assert running.session.value("x + 1") == "42"


def test_tasks_of_the_session_survive_the_interrupt_of_an_await(run: Callable[..., Running]) -> None:
    running = run(
        "import asyncio\nn = 0\nasync def count():\n global n\n while True:\n  n += 1\n  await asyncio.sleep(0.001)\n"
        "task = asyncio.create_task(count())\n" + NOTE + "await asyncio.sleep(600)"
    )
    running.ask("interrupt")
    assert running.end()["reason"] == "interrupted"
    session = running.session
    before = int(session.value("n"))
    wait_until(lambda: int(session.value("n")) > before)
    assert session.value("task.done(), x") == "(False, 41)"


def test_an_interrupt_while_the_event_loop_is_imported_breaks_no_later_await(session: Session) -> None:
    session.run(
        "import os, signal, sys\nclass Finder:\n def find_spec(name, *more):\n"
        "  if name == 'asyncio.coroutines': os.kill(os.getpid(), signal.SIGINT)\nsys.meta_path.insert(0, Finder)"
    )
    assert session.run("import asyncio; await asyncio.sleep(600)")["reason"] == "interrupted"
    assert session.value("import asyncio; await asyncio.sleep(0); 42") == "42"


def test_an_interrupt_that_comes_before_its_code_has_begun_hits_it_when_it_begins(worker: Session) -> None:
    pid = worker.worker_pid()
    worker.run("import time; x = 41")
    os.kill(pid, signal.SIGSTOP)
    worker.send({"id": "run", "code": "x = 0; time.sleep(600)"})
    wait_until(lambda: worker.ask("status")["state"] == "busy")
    assert worker.ask("interrupt")["interrupted"] is True
    os.kill(pid, signal.SIGCONT)
    answer = worker.read()
    assert (answer["id"], answer["reason"], answer["session_state"]["state"]) == ("run", "interrupted", "kept")
    assert worker.value("x + 1") == "42"


def test_a_request_that_waits_for_its_worker_can_be_cancelled(start: Start, tmp_path: Path) -> None:
    python, go = tmp_path / "python", tmp_path / "go"
    python.write_text(f'#!/bin/sh\nwhile [ ! -e {go} ]; do sleep 0.01; done\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    session = start("worker", env={"JSON_REPL_PYTHON": str(python)})
    session.send({"id": 1, "code": "1"})
    wait_until(lambda: session.ask("status")["state"] == "busy")
    session.send({"id": 2, "method": "interrupt"})
    answers = {answer["id"]: answer for answer in (session.read(), session.read())}
    assert (answers[1]["reason"], answers[2]["interrupted"]) == ("cancelled", True)
    go.touch()
    assert session.value("6 * 7") == "42"


# -- late interrupts ---------------------------------------------------------------------------------------------------

ROUNDS = 150


def _spin(seconds: float) -> None:
    end = monotonic() + seconds
    while monotonic() < end:
        pass


@pytest.mark.parametrize("body", ["for i in range({n}): pass", "time.sleep({n} / 3e7)"])
def test_a_late_interrupt_never_hits_the_next_request(session: Session, tmp_path: Path, body: str) -> None:
    dice = random.Random(body)
    session.run("import os, time; x = 41")
    late = hits = 0
    most = 40_000.0  # steps, which grow and shrink until the code ends about when the interrupt comes
    for number in range(ROUNDS):
        begun = tmp_path / str(number)
        code = f"os.mkdir({str(begun)!r})\n{body.format(n=dice.randrange(int(most)))}\n{number}"
        session.send({"jsonrpc": "2.0", "id": "first", "method": "execute", "params": {"code": code}})
        knows_that_it_has_begun = number % 3 > 0
        if knows_that_it_has_begun:
            wait_until(begun.exists)
        _spin(dice.random() * 0.002)
        session.send(
            {"jsonrpc": "2.0", "id": "stop", "method": "$/cancelRequest", "params": {"id": "first"}},
            {"id": "next", "code": f"for i in range(9000): pass\nx + {number}"},
        )
        answers = [session.read() for _ in range(3)]
        assert sorted(answer["id"] for answer in answers) == ["first", "next", "stop"]
        by_id = {answer["id"]: answer.get("result") for answer in answers}
        following = next(answer for answer in answers if answer["id"] == "next")
        assert (following["status"], following["result"]) == ("ok", str(41 + number)), following["stderr"]
        first, interrupted = by_id["first"], by_id["stop"]["interrupted"]
        assert first["session_state"]["state"] == following["session_state"]["state"] == "kept"
        if by_id["stop"]["cancelled"]:  # its turn had not come
            assert (first["reason"], interrupted, begun.exists()) == ("cancelled", False, False)
            continue
        assert first["reason"] == "interrupted" or first["result"] == str(number)
        assert interrupted or first["reason"] is None, "told that nothing was hit, yet it was"
        late += not interrupted
        hits += first["reason"] == "interrupted"
        if knows_that_it_has_begun:
            most = max(most / 1.2, 10) if first["reason"] == "interrupted" else most * 1.2
    assert late and hits, "the interrupts all came too early, or all too late"


@pytest.mark.parametrize("way", ["interrupt", "SIGINT", "bursts of SIGINT"])
def test_interrupts_at_any_moment_cost_no_answer_and_no_state(session: Session, way: str) -> None:
    dice = random.Random(way)
    session.run("x = 41")
    for number in range(ROUNDS):
        session.send({"id": number, "code": f"for i in range({dice.randrange(20_000)}): pass\n{number}"})
        expected = {number}
        for _ in range(1 + (way == "bursts of SIGINT") * dice.randrange(6)):
            _spin(dice.random() * 0.0012)
            if way == "interrupt":
                session.send({"id": "stop", "method": "interrupt"})
                expected.add("stop")  # type: ignore[arg-type]
            else:
                os.kill(session.pid, signal.SIGINT)
        answers = [session.read() for _ in expected]
        assert {answer["id"] for answer in answers} == expected
        answer = next(answer for answer in answers if answer["id"] == number)
        assert answer["reason"] == "interrupted" or answer["result"] == str(number), answer["stderr"]
        assert answer["session_state"]["state"] == "kept" and answer["session_state"]["epoch"] == 0
    wait_until(lambda: session.run("x + 1")["result"] == "42")


def test_interrupts_while_the_session_starts_cost_no_answer(start: Start, backend: str) -> None:
    for pause in (0.0, 0.01, 0.02, 0.04, 0.08):
        session = start(backend)
        session.send({"id": 1, "code": "x = 1; x"}, {"id": 2, "method": "interrupt"})
        _spin(pause)
        session.send({"id": 3, "method": "interrupt"}, {"id": 4, "code": "6 * 7"})
        answers = {answer["id"]: answer for answer in (session.read() for _ in range(4))}
        assert set(answers) == {1, 2, 3, 4}
        assert answers[1]["result"] == "1" or answers[1]["reason"] in ("interrupted", "cancelled")
        assert answers[4]["result"] == "42" or answers[4]["reason"] in ("interrupted", "cancelled")
        assert session.value("6 * 8") == "48"


REFUSES = "while True:\n try:\n  while True: time.sleep(0.01)\n except KeyboardInterrupt: pass"
STUCK = "sum(range(10**12))"


@pytest.mark.parametrize("code", [REFUSES, STUCK], ids=["refuses", "is in C"])
def test_code_that_goes_on_all_the_same_is_killed_and_the_answer_says_so(
    run: Callable[..., Running], backend: str, code: str
) -> None:
    if backend == "local":
        pytest.skip("nothing that runs in the session's own process can be killed")
    running = run(f"import time\n{NOTE}{code}")
    assert running.ask("interrupt", grace=0.2)["interrupted"] is True
    result = running.end()
    assert (result["reason"], result["session_state"]["state"]) == ("interrupted", "restored")
    assert "was killed" in result["error"]["evalue"] and "<python-input-" in "".join(result["error"]["traceback"])
    assert running.session.value("x + 1") == "42"


@pytest.mark.parametrize("grace", [0, None])
def test_an_interrupt_without_an_end_of_its_grace_kills_nothing(
    run: Callable[..., Running], tmp_path: Path, grace: int | None
) -> None:
    caught = tmp_path / "caught"
    running = run(f"{CATCHES}open({str(caught)!r}, 'w').close()\ntime.sleep(1.5)\n'saved'")
    running.ask("interrupt", grace=grace)
    wait_until(caught.exists)
    assert running.end()["result"] == "'saved'"
