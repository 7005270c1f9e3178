"""Time travel: which states are kept, and the ways back to one: rollback, on_error, reset, restart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from harness import Session, wait_until

Start = Callable[..., Session]
ALWAYS = {"JSON_REPL_SNAPSHOTS": "always"}
OFF = {"JSON_REPL_SNAPSHOTS": "off"}
NEEDS_WORKER, INVALID_PARAMS = -32015, -32602


@pytest.fixture
def kept(start: Start, tmp_path: Path) -> Session:
    """A session that keeps its state after every answer."""
    return start("worker", env=ALWAYS, cwd=tmp_path)


def _copies(session: Session) -> list[psutil.Process]:
    """All processes of a session's but its live worker."""
    worker = session.ask("status")["worker"]["pid"]
    return [child for child in psutil.Process(session.pid).children(recursive=True) if child.pid != worker]


# -- where to ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "number", "value"),
    [
        *(({"steps": steps}, 3 - steps, list(range(1, 4 - steps))) for steps in range(4)),
        *(({"to": f"e{number}"}, number, list(range(1, number + 1))) for number in range(4)),
        *(({"to": number}, number, list(range(1, number + 1))) for number in range(3)),
    ],
)
def test_a_rollback_returns_to_what_was_after_an_execution(
    kept: Session, where: dict[str, Any], number: int, value: list[int]
) -> None:
    kept.keep("x = [1]")
    for item in (2, 3):
        kept.keep(f"x.append({item})")
    answer = kept.ask("rollback", **where)
    undone = [f"e{later}" for later in range(number + 1, 4)]
    assert (answer["execution_id"], answer["execution_count"]) == (f"e{number}", number)
    assert (answer["state"], answer["undone"], answer["epoch"]) == ("restored", undone, 1)
    following = kept.run("globals().get('x', [])")
    assert following["result"] == str(value)
    assert (following["execution_count"], following["execution_id"]) == (4, "e4")
    assert following["session_state"] == {"state": "kept", "epoch": 1, "undone": [], "lost_names": [], "warning": None}
    assert [entry["execution_id"] for entry in kept.ask("history")["entries"]] == ["e1", "e2", "e3", "e4"]


@pytest.mark.parametrize(
    ("where", "expected"), [({"steps": 0}, 1), ({"steps": 1}, 0), ({"to": "LAST"}, 1), ({"to": "LAST BUT ONE"}, 0)]
)
def test_a_rollback_right_behind_the_requests_it_is_about_finds_their_states(
    kept: Session, where: dict[str, Any], expected: int
) -> None:
    for turn in range(10):
        last = 3 * turn + 2
        named = {"LAST": f"e{last}", "LAST BUT ONE": f"e{last - 1}"}
        there = {key: named.get(value, value) for key, value in where.items()}
        kept.send({"code": "x = 0"}, {"code": "x = 1"}, {"method": "rollback", **there}, {"code": "x"})
        answers = [kept.read() for _ in range(4)]
        assert answers[2].get("state") == "restored", answers[2]
        assert answers[3]["result"] == str(expected)


@pytest.mark.parametrize(
    "where",
    [
        *({"to": to} for to in ("e99", "e", "", "x", 99, -1, 1.5)),
        *({"steps": steps} for steps in (3, 99, 1 << 70)),
    ],
)
def test_a_rollback_to_what_is_not_kept_changes_nothing_and_says_what_is(kept: Session, where: dict[str, Any]) -> None:
    kept.keep("x = [1]")
    kept.keep("x.append(2)")
    error = kept.ask("rollback", **where)["error"]
    assert error["code"] == INVALID_PARAMS and "e0, e1, e2" in error["message"], error
    following = kept.run("x")
    assert (following["result"], following["session_state"]["epoch"]) == ("[1, 2]", 0)


@pytest.mark.parametrize("where", [{}, {"to": 1, "steps": 1}, {"to": True}, {"steps": -1}, {"steps": 1.5}, {"to": [1]}])
def test_a_rollback_that_does_not_say_where_to_is_refused(worker: Session, where: dict[str, Any]) -> None:
    assert worker.ask("rollback", **where)["error"]["code"] == INVALID_PARAMS


def test_what_was_undone_cannot_be_returned_to(kept: Session) -> None:
    for item in range(3):
        kept.keep(f"x = {item}")
    kept.ask("rollback", to="e1")
    assert kept.kept() == ["e0", "e1"]
    assert "e0, e1" in kept.ask("rollback", to="e3")["error"]["message"]
    kept.keep("x = 'new'")
    assert kept.kept() == ["e0", "e1", "e4"]
    kept.ask("rollback", steps=1)
    assert kept.value("x") == "0"


def test_the_same_state_can_be_returned_to_again_and_again(kept: Session) -> None:
    kept.keep("x = iter(range(100)); next(x)")
    for turn in range(1, 16):
        assert kept.value("next(x), next(x)") == "(1, 2)"
        assert kept.ask("rollback", to="e1")["epoch"] == turn


def test_a_count_that_several_states_share_means_the_first_of_them(kept: Session) -> None:
    kept.keep("x = 1")
    kept.keep("x = 2", silent=True)
    assert kept.ask("rollback", to=1)["execution_id"] == "e1"
    assert kept.value("x") == "1"


def test_earlier_states_are_still_there_after_a_crash(kept: Session) -> None:
    kept.keep("x = 1; import os")
    kept.keep("x = 2")
    assert kept.run("os._exit(3)")["reason"] == "crash"
    assert kept.ask("rollback", to="e1")["undone"] == ["e2"]
    assert kept.value("x") == "1"


def test_a_rollback_names_the_threads_that_are_lost(kept: Session) -> None:
    kept.keep(
        "import threading; stop = threading.Event(); t = threading.Thread(target=stop.wait, daemon=True); t.start()"
    )
    assert kept.ask("rollback", to=1)["threads_lost"] == 1
    assert kept.value("t.is_alive(), stop.is_set()") == "(False, False)"


# -- which states are kept -----------------------------------------------------------------------------------------


def test_snapshots_lists_what_is_kept_oldest_first(kept: Session) -> None:
    for item in range(3):
        kept.keep(f"x = {item}", silent=item == 1)
    found = kept.ask("snapshots")["snapshots"]
    assert [snapshot["execution_id"] for snapshot in found] == ["e0", "e1", "e2", "e3"]
    assert [snapshot["execution_count"] for snapshot in found] == [0, 1, 1, 2]
    assert [snapshot["present"] for snapshot in found] == [False, False, False, True]
    assert [snapshot["threads_lost"] for snapshot in found] == [0] * 4
    assert all(snapshot["private_bytes"] > 0 and snapshot["age_s"] >= 0 for snapshot in found)
    ages = [snapshot["age_s"] for snapshot in found]
    assert ages == sorted(ages, reverse=True)
    assert kept.ask("status")["worker"]["snapshots"] == 4


def test_a_session_that_has_been_idle_has_kept_its_present_state(worker: Session) -> None:
    worker.run("x = 1")
    wait_until(lambda: worker.ask("snapshots")["snapshots"][-1]["present"])


@pytest.mark.parametrize("keep", [1, 3, 8])
def test_the_newer_kept_states_are_the_closer_they_lie(start: Start, keep: int) -> None:
    session = start("worker", env={**ALWAYS, "JSON_REPL_SNAPSHOT_KEEP": str(keep)})
    for _ in range(100):
        session.run("1")
    wait_until(lambda: "e100" in session.kept())
    numbers = [int(name[1:]) for name in session.kept()]
    assert numbers == sorted(numbers) and (numbers[0], numbers[-1], len(numbers)) == (0, 100, keep + 1)
    gaps = [later - numbers[place] for place, later in enumerate(numbers[1:])][1:]
    half = len(gaps) // 2
    assert not gaps or (gaps[0] > gaps[-1] and min(gaps[:half]) >= max(gaps[half:]))
    assert keep < 8 or numbers[1] < 50
    error = session.ask("rollback", to=next(number for number in range(100) if number not in numbers))["error"]
    assert ", ".join(f"e{number}" for number in numbers) in error["message"]
    assert session.ask("rollback", to=numbers[-2])["execution_count"] == numbers[-2]


def test_states_are_listed_in_order_however_fast_the_requests_come(kept: Session) -> None:
    for _ in range(10):
        kept.send(*({"code": "1"} for _ in range(40)))
        answers = [kept.read() for _ in range(40)]
        kept.keep("1")
        assert answers[-1]["status"] == "ok"
        numbers = [int(name[1:]) for name in kept.kept()]
        assert numbers == sorted(numbers)


def test_copies_that_are_ended_from_outside_are_listed_no_more_and_the_present_one_is_made_anew(kept: Session) -> None:
    kept.keep("x = [1]")
    kept.keep("import os")
    for copy in _copies(kept):
        copy.kill()
    wait_until(lambda: kept.kept() == ["e2"])
    assert "e2" in kept.ask("rollback", to="e1")["error"]["message"]
    assert kept.value("x") == "[1]"
    assert kept.run("os._exit(3)")["session_state"] == {
        "state": "restored",
        "epoch": 1,
        "undone": [],
        "lost_names": [],
        "warning": None,
    }
    assert kept.value("x") == "[1]"


def test_without_snapshots_nothing_is_kept_by_itself(start: Start) -> None:
    session = start("worker", env=OFF)
    session.run("x = 1")
    assert session.kept() == []
    for where in ({"steps": 1}, {"to": 0}, {"to": "e0"}):
        error = session.ask("rollback", **where)["error"]
        assert error["code"] == INVALID_PARAMS and "none" in error["message"]
    assert session.value("x") == "1"


# -- code that fails is undone -------------------------------------------------------------------------------------

# how it fails: (code, reason)
FAILURES = {
    "an exception": ("1 / 0", "exception"),
    "an exception in the repr": ("class R:\n def __repr__(self): 1 / 0\nR()", "exception"),
    "code that is no Python": ("x.append(3) = (", "exception"),
    "an exit": ("import sys; sys.exit(0)", "exit"),
    "a timeout": ("while True: pass", "timeout"),
    "a timeout of C code": ("import itertools; any(itertools.repeat(0))", "timeout"),
    "an end of the process": ("import os; os._exit(0)", "crash"),
    "a segmentation fault": ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crash"),
}


@pytest.mark.parametrize("env", [ALWAYS, OFF], ids=["always", "off"])
@pytest.mark.parametrize("how", FAILURES)
def test_code_that_fails_leaves_no_trace_where_errors_are_undone(start: Start, how: str, env: dict[str, str]) -> None:
    failing, reason = FAILURES[how]
    session = start("worker", env=env)
    session.run("x = [1]")
    begin = "" if how == "code that is no Python" else "x.append(2); y = 1; print('begun', flush=True)\n"
    answer = session.run(begin + failing, on_error="rollback", timeout=0.4 if reason == "timeout" else None)
    assert (answer["status"], answer["reason"]) == ("error", reason)
    assert answer["stdout"] == ("begun\n" if begin else "") and answer["error"]["ename"] in answer["stderr"]
    assert answer["session_state"] == {"state": "restored", "epoch": 1, "undone": [], "lost_names": [], "warning": None}
    following = session.run("x, 'y' in globals()")
    assert (following["result"], following["execution_count"]) == ("([1], False)", 3)
    assert following["session_state"]["state"] == "kept"


def test_interrupted_code_leaves_no_trace_where_errors_are_undone(kept: Session, tmp_path: Path) -> None:
    kept.run("x = [1]; import time")
    kept.send({"code": "x.append(2); open('begun', 'w')\ntime.sleep(600)", "on_error": "rollback"})
    wait_until((tmp_path / "begun").exists)
    assert kept.ask("interrupt")["interrupted"] is True
    assert kept.read()["reason"] == "interrupted"
    assert kept.value("x") == "[1]"


@pytest.mark.parametrize("env", [ALWAYS, OFF], ids=["always", "off"])
def test_code_that_succeeds_stays_where_errors_are_undone(start: Start, env: dict[str, str]) -> None:
    session = start("worker", env=env)
    pid = session.worker_pid()
    answer = session.run("x = 1", on_error="rollback")
    assert answer["session_state"] == {"state": "kept", "epoch": 0, "undone": [], "lost_names": [], "warning": None}
    assert session.value("x") == "1" and session.worker_pid() == pid


def test_an_undone_error_undoes_nothing_that_a_thread_did_before(kept: Session, tmp_path: Path) -> None:
    kept.keep(
        "import os, threading, time; n = 0\ndef work():\n global n\n"
        " while not os.path.exists('go'): time.sleep(0.01)\n n = 1; open('done', 'w')\n threading.Event().wait()\n"
        "threading.Thread(target=work, daemon=True).start()"
    )
    (tmp_path / "go").touch()
    wait_until((tmp_path / "done").exists)
    answer = kept.run("n = 2; 1 / 0", on_error="rollback")
    assert (answer["session_state"]["state"], answer["session_state"]["threads_lost"]) == ("restored", 1)
    assert kept.value("n") == "1"


def test_state_whose_copies_were_ended_while_code_ran_is_told_as_lost(kept: Session, tmp_path: Path) -> None:
    kept.run("x = 1; import os, time")
    wait = "open('begun', 'w')\nwhile not os.path.exists('go'): time.sleep(0.01)\n1 / 0"
    kept.send({"code": wait, "on_error": "rollback"})
    wait_until((tmp_path / "begun").exists)
    for copy in _copies(kept):
        copy.kill()
    wait_until(lambda: not kept.kept())
    (tmp_path / "go").touch()
    answer = kept.read()
    assert (answer["reason"], answer["session_state"]["state"]) == ("exception", "lost")
    assert "x" in answer["session_state"]["lost_names"]
    assert kept.run("x")["error"]["ename"] == "NameError"


# -- beginning anew ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["reset", "restart"])
def test_beginning_anew_undoes_what_was_done_to_the_process_too(kept: Session, method: str) -> None:
    look = "import os, sys, json; ('Q' in os.environ, hasattr(json, 'mine'), os.getcwd(), sys.getrecursionlimit())"
    before = kept.value(look)
    kept.run("os.environ['Q'] = '1'; json.mine = 1; os.chdir('/'); sys.setrecursionlimit(777)")
    pid = kept.worker_pid()
    assert kept.ask(method)["epoch"] == 1
    assert kept.value(look) == before and kept.worker_pid() != pid
    wait_until(lambda: any(snapshot["present"] for snapshot in kept.ask("snapshots")["snapshots"]))
    assert kept.kept()[0] == "e0" and "e1" not in kept.kept()
    assert kept.ask("rollback", to="e1")["error"]["code"] == INVALID_PARAMS


# -- without the worker backend ------------------------------------------------------------------------------------

IMPOSSIBLE = {
    "rollback": {"method": "rollback", "steps": 1},
    "session/clone": {"method": "session/clone"},
    "dry_run": {"code": "x = 2", "dry_run": True},
    'on_error: "rollback"': {"code": "x = 2", "on_error": "rollback"},
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_a_local_session_says_in_one_sentence_that_this_needs_the_worker_backend(local: Session, what: str) -> None:
    local.run("x = 1")
    local.send({"id": 7, **IMPOSSIBLE[what]})
    answer = local.read()
    assert (answer["id"], answer["error"]["code"]) == (7, NEEDS_WORKER)
    assert answer["error"]["data"]["reason"] == "needs_worker"
    message = answer["error"]["message"]
    assert message.startswith(f"{what} needs the worker backend") and "--worker" in message and message.count(".") == 1
    following = local.run("x")
    assert (following["result"], following["execution_count"]) == ("1", 2)
    assert local.kept() == []


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_a_session_that_has_fallen_back_says_why_it_keeps_no_copies(start: Start, what: str) -> None:
    session = start("worker", env={"JSON_REPL_PYTHON": "/there/is/none"})
    assert session.run("x = 1")["backend"] == "local"
    session.send(IMPOSSIBLE[what])
    error = session.read()["error"]
    assert error["code"] == NEEDS_WORKER
    assert error["message"].startswith(f"{what} needs the worker backend") and "/there/is/none" in error["message"]
    assert ": which" not in error["message"] and "restart" in error["message"]
    assert session.value("x") == "1"
