"""Where no copies can be made, as there is no fork or it fails: losses are told, refusals are clear, nothing hangs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import Session, wait_until

Start = Callable[..., Session]

# Python runs it at each start; it is for workers alone, which have no fork from the `n`th on.
SITE = """
import os, sys
if any(word.endswith("subprocess_worker.py") for word in sys.orig_argv):
    {spoil}
"""
NO_FORK = "del os.fork"
FAILS = """
    fork, calls = os.fork, []
    def fails():
        calls.append(1)
        if len(calls) >= {n}: raise OSError({error}, os.strerror({error}))
        return fork()
    os.fork = fails
"""
EAGAIN, ENOMEM = 11, 12
# From which call on it fails: the first is made before user code, and each copy takes two, one of them in itself.
SPOILS = {
    "no fork": NO_FORK,
    "no process from the first on": FAILS.format(n=1, error=EAGAIN),
    "no memory from the first on": FAILS.format(n=1, error=ENOMEM),
    "no second process": FAILS.format(n=2, error=EAGAIN),
}
LOSSES: dict[str, tuple[dict[str, Any], str]] = {
    "an exit": ({"code": "import os; os._exit(9)"}, "crash"),
    "a signal": ({"code": "import ctypes; ctypes.string_at(0)"}, "crash"),
    "a kill": ({"code": "import os; os.kill(os.getpid(), 9)"}, "crash"),
    "a hang": ({"code": "import itertools; any(itertools.repeat(0))", "timeout": 0.1}, "timeout"),
}
NEEDS_COPIES: dict[str, dict[str, Any]] = {
    "a rollback by steps": {"method": "rollback", "steps": 1},
    "a rollback to the present": {"method": "rollback", "steps": 0},
    "a rollback to the first state": {"method": "rollback", "to": 0},
    "a clone": {"method": "session/clone"},
    "a clone of an older state": {"method": "session/clone", "at": "e1"},
    "a dry run": {"code": "x = 0", "dry_run": True},
    "errors that are undone": {"code": "x = 0", "on_error": "rollback"},
}


@pytest.fixture
def forkless(start: Start, tmp_path: Path) -> Callable[..., Session]:
    """Starts a session whose workers have a spoiled fork."""

    def make(spoil: str, snapshots: str = "auto") -> Session:
        (tmp_path / "sitecustomize.py").write_text(SITE.format(spoil=spoil.strip()))
        return start("worker", env={"PYTHONPATH": str(tmp_path), "JSON_REPL_SNAPSHOTS": snapshots})

    return make


@pytest.mark.parametrize("snapshots", ["auto", "always"])
@pytest.mark.parametrize("what", LOSSES)
@pytest.mark.parametrize("spoil", SPOILS)
def test_a_loss_is_told_with_the_names_that_it_costs(
    forkless: Callable[..., Session], spoil: str, what: str, snapshots: str
) -> None:
    session = forkless(SPOILS[spoil], snapshots)
    session.run("x, y = 1, [2]")
    session.run("def z(): pass")
    request, reason = LOSSES[what]
    answer = session.ask("execute", **request)
    assert (answer["reason"], answer["attempts"], answer["backend"]) == (reason, 1, "worker")
    state = answer["session_state"]
    assert (state["state"], state["lost_names"], state["lost_count"]) == ("lost", ["x", "y", "z"], 3)
    following = session.run("sorted({'x', 'y', 'z'} & globals().keys())")
    assert (following["result"], following["session_state"]["state"]) == ("[]", "kept")
    assert following["session_state"]["epoch"] == 1
    assert session.kept() == []


def test_a_loss_while_it_is_idle_is_told_with_the_names_that_it_costs(forkless: Callable[..., Session]) -> None:
    session = forkless(NO_FORK)
    session.run("x, y = 1, [2]")
    pid = session.ask("status")["worker"]["pid"]
    session.run("import os, threading; threading.Timer(0.02, os._exit, [3]).start()")
    wait_until(lambda: session.ask("status")["worker"]["pid"] not in (pid, None))
    state = session.run("0")["session_state"]
    assert (state["state"], state["lost_names"]) == ("lost", ["x", "y", "os", "threading"])


@pytest.mark.parametrize("what", NEEDS_COPIES)
@pytest.mark.parametrize("spoil", SPOILS)
def test_what_needs_a_copy_is_refused_in_one_sentence_and_changes_nothing(
    forkless: Callable[..., Session], spoil: str, what: str
) -> None:
    session = forkless(SPOILS[spoil])
    session.run("x = 1")
    answer = session.ask(**{"method": "execute", **NEEDS_COPIES[what]})
    if "code" in NEEDS_COPIES[what]:
        assert (answer["status"], answer["reason"], answer["result"]) == ("error", "cancelled", None)
        text = answer["error"]["evalue"]
        assert text.startswith("the code was not run: ") and "process" in text
    else:
        text = answer["error"]["message"]
        assert "copy" in text or "copies" in text
    assert "\n" not in text and 20 < len(text) < 200 and "Traceback" not in text
    following = session.run("x")
    assert (following["result"], following["session_state"]["state"], following["session_state"]["epoch"]) == (
        "1",
        "kept",
        0,
    )
    assert [found["session_id"] for found in session.ask("session/list")["sessions"]] == ["default"]


@pytest.mark.parametrize("method", ["reset", "restart"])
@pytest.mark.parametrize("spoil", SPOILS)
def test_a_session_can_begin_anew_without_copies(forkless: Callable[..., Session], spoil: str, method: str) -> None:
    session = forkless(SPOILS[spoil])
    session.run("x = 1")
    assert session.ask(method) == {"epoch": 1}
    following = session.run("'x' in globals()")
    assert (following["result"], following["session_state"]["state"]) == ("False", "kept")
    assert (following["backend"], following["session_state"]["epoch"]) == ("worker", 1)


@pytest.mark.parametrize("n", range(3, 12))
def test_where_fork_fails_later_on_every_answer_says_what_is_there(forkless: Callable[..., Session], n: int) -> None:
    session = forkless(FAILS.format(n=n, error=EAGAIN), "always")
    first = session.run("seen = []")["execution_id"]
    entries = {session.run(f"seen.append({number})")["execution_id"]: number for number in range(8)}
    state = session.run("import os; os._exit(9)")["session_state"]
    following = session.run("globals().get('seen')")
    assert following["session_state"]["state"] == "kept"
    if state["state"] == "lost":
        assert (state["lost_names"], following["result"]) == (["seen"], None)
    else:
        assert state["state"] == "restored"
        there = [number for execution, number in entries.items() if execution not in state["undone"]]
        assert following["result"] == (None if first in state["undone"] else str(there))


def test_a_session_that_keeps_no_states_does_not_complain_all_the_time(
    forkless: Callable[..., Session],
) -> None:
    session = forkless(NO_FORK)
    for number in range(20):
        assert session.value(f"{number}") == str(number)
    answers, errors, status = session.finish()
    assert (answers, status) == ([], 0)
    assert len(errors.splitlines()) <= 1, errors


@pytest.mark.parametrize("method", ["rollback", "session/clone"])
def test_a_kept_state_that_no_worker_can_be_made_of_is_refused_and_any_loss_is_told(
    forkless: Callable[..., Session], method: str
) -> None:
    session = forkless(FAILS.format(n=3, error=EAGAIN), "always")  # enough for one copy, and not for what it is to make
    session.run("x = 1")
    wait_until(lambda: session.kept() == ["e0"])
    error = session.ask(method, **{"to" if method == "rollback" else "at": 0})["error"]
    assert error["data"]["reason"] == "worker_lost" and "\n" not in error["message"]
    following = session.run("globals().get('x')")
    if method == "session/clone":
        assert (following["result"], following["session_state"]["state"]) == ("1", "kept")
    else:
        state = following["session_state"]
        assert (following["result"], state["state"], state["lost_names"]) == (None, "lost", ["x"])
    assert session.value("6 * 7") == "42"
