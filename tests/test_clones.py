"""More sessions than one: clones go on from a state of another, and none of them touches another."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from harness import Session, lives, wait_until

Start = Callable[..., Session]
ALWAYS = {"JSON_REPL_SNAPSHOTS": "always"}
INVALID_PARAMS, SESSION_NOT_FOUND = -32602, -32011

WAIT_FOR_GO = "import os, time\nopen('begun', 'w')\nwhile not os.path.exists('go'): time.sleep(0.01)\n'done'"
# Becomes a child of the session's own process, as a daemon does.
DAEMON = """
import os
read, write = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(write, b'%d' % os.getpid())
        os.closerange(0, 256)
        os.execvp('sleep', ['sleep', '600'])
    os._exit(0)
os.wait()
int(os.read(read, 20))
"""


@pytest.fixture
def kept(start: Start, tmp_path: Path) -> Session:
    """A session that keeps its state after every answer."""
    return start("worker", env=ALWAYS, cwd=tmp_path)


def _by_id(session: Session, count: int) -> dict[Any, Any]:
    answers = [session.read() for _ in range(count)]
    return {answer["id"]: answer for answer in answers}


def _listed(session: Session) -> dict[str, Any]:
    return {found["session_id"]: found for found in session.ask("session/list")["sessions"]}


# -- where a clone goes on from ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("snapshots", ["auto", "always", "off"])
def test_a_clone_and_its_source_go_on_from_one_state_each_for_itself(start: Start, snapshots: str) -> None:
    session = start("worker", env={"JSON_REPL_SNAPSHOTS": snapshots})
    session.run("x = [1]")
    pid = session.worker_pid()
    session.clone("b")
    assert session.value("x.append(2) or x", session_id="b") == "[1, 2]"
    assert session.value("x.append(3) or x") == "[1, 3]"
    assert session.value("x", session_id="b") == "[1, 2]"
    assert session.worker_pid() == pid != int(session.value("__import__('os').getpid()", session_id="b"))


@pytest.mark.parametrize(("at", "number"), [("e0", 0), (0, 0), ("e1", 1), (1, 1), ("e3", 3), (3, 3), (None, 3)])
def test_a_clone_can_go_on_from_an_older_state(kept: Session, at: object, number: int) -> None:
    kept.keep("x = [1]")
    for item in (2, 3):
        kept.keep(f"x.append({item})")
    clone = kept.clone("b", **({} if at is None else {"at": at}))
    assert (clone["execution_count"], clone["epoch"], clone["cloned_from"]) == (number, 0, f"default e{number}")
    answer = kept.run("globals().get('x', [])", session_id="b")
    assert answer["result"] == str([*range(1, number + 1)])
    assert (answer["execution_count"], answer["execution_id"]) == (number + 1, f"e{number + 1}")
    assert answer["session_state"] == {"state": "kept", "epoch": 0, "undone": [], "lost_names": [], "warning": None}
    entries = kept.ask("history", session_id="b")["entries"]
    assert [entry["execution_count"] for entry in entries] == [*range(1, number + 2)]
    assert kept.value("x") == "[1, 2, 3]"
    assert kept.ask("history")["stats"]["executed"] == 4


def test_a_clone_is_possible_before_any_request_and_of_what_was_just_answered(kept: Session) -> None:
    kept.clone("new")
    assert kept.run("6 * 7", session_id="new")["execution_id"] == "e1"
    for turn in range(5):
        last = kept.run(f"x = {turn}")["execution_id"]
        kept.clone("b", at=last)
        assert kept.value("x", session_id="b") == str(turn)
        kept.ask("session/close", session_id="b")


@pytest.mark.parametrize("at", ["e99", 99, "", -1, 1.5])
def test_a_clone_of_a_state_that_is_not_kept_is_refused_with_those_that_are(kept: Session, at: object) -> None:
    kept.keep("x = 1")
    error = kept.ask("session/clone", at=at)["error"]
    assert error["code"] == INVALID_PARAMS and "e0, e1" in error["message"]
    assert [*_listed(kept)] == ["default"]


@pytest.mark.parametrize("name", ["default", "taken", "", "x" * 101])
def test_a_clone_needs_a_name_of_its_own(worker: Session, name: str) -> None:
    worker.clone("taken")
    error = worker.ask("session/clone", new_session_id=name)["error"]
    assert error["code"] == INVALID_PARAMS and repr(name[:100]) in error["message"]
    assert [*_listed(worker)] == ["default", "taken"]


def test_clones_without_a_name_get_one_each(worker: Session) -> None:
    names = {worker.ask("session/clone")["session_id"] for _ in range(3)}
    assert len(names) == 3 and {*_listed(worker)} == {"default", *names}


def test_a_clone_of_a_clone_outlives_the_one_that_it_was_made_of(kept: Session) -> None:
    kept.keep("x = [1]")
    kept.clone("b")
    kept.keep("x.append(2)", session_id="b")
    kept.send({"method": "session/clone", "session_id": "b", "new_session_id": "c"})
    assert kept.read()["cloned_from"] == "b e2"
    kept.ask("session/close", session_id="b")
    assert kept.value("x.append(3) or x", session_id="c") == "[1, 2, 3]"
    assert kept.run("import os; os._exit(1)", session_id="c")["session_state"]["undone"] == []
    assert kept.ask("rollback", session_id="c", to="e2")["state"] == "restored"
    assert kept.value("x", session_id="c") == "[1, 2]" and kept.value("x") == "[1]"


@pytest.mark.parametrize("emptied", ["default", "b"])
def test_states_from_before_the_branch_stay_with_each_when_the_other_lets_go_of_them(
    kept: Session, emptied: str
) -> None:
    kept.keep("x = 1")
    kept.keep("x = 2")
    kept.clone("b")
    other = {"default": "b", "b": "default"}[emptied]
    kept.ask("reset", session_id=emptied)
    assert kept.kept(session_id=emptied) == ["e0"]
    assert kept.ask("rollback", to="e1", session_id=other)["undone"] == ["e2"]
    assert kept.value("x", session_id=other) == "1"
    assert kept.run("x", session_id=emptied)["error"]["ename"] == "NameError"


def test_a_clone_names_the_threads_that_it_lacks(kept: Session) -> None:
    kept.keep("import threading; t = threading.Thread(target=threading.Event().wait, daemon=True); t.start()")
    assert kept.clone("b")["threads_lost"] == 1
    assert kept.value("t.is_alive()", session_id="b") == "False" and kept.value("t.is_alive()") == "True"


# -- at the same time --------------------------------------------------------------------------------------------------


def test_clones_run_at_the_same_time(kept: Session) -> None:
    meet = "import os, time\nopen({0!r}, 'w')\nwhile not os.path.exists({1!r}): time.sleep(0.005)"
    kept.clone("b")
    kept.send({"id": 1, "code": meet.format("here", "there")})
    kept.send({"id": 2, "code": meet.format("there", "here"), "session_id": "b"})
    assert {answer["status"] for answer in _by_id(kept, 2).values()} == {"ok"}


def test_while_one_session_is_busy_others_answer_every_method(kept: Session, tmp_path: Path) -> None:
    kept.clone("b")
    kept.keep("x = 1", session_id="b")
    kept.send({"id": "busy", "code": WAIT_FOR_GO})
    wait_until((tmp_path / "begun").exists)
    listed = _listed(kept)
    assert (listed["default"]["state"], listed["b"]["state"]) == ("busy", "idle")
    about = kept.ask("status", session_id="b")
    assert (about["state"], about["execution_count"]) == ("idle", 1)
    assert about["worker"]["pid"] == listed["b"]["pid"] != listed["default"]["pid"]
    assert kept.ask("variables", session_id="b")["count"] == 1
    assert kept.ask("history", session_id="b")["stats"]["executed"] == 1
    assert kept.kept(session_id="b") == ["e0", "e1"]
    assert kept.ask("interrupt", session_id="b")["interrupted"] is False
    assert kept.run("y = 1", session_id="b", dry_run=True)["changes"]["added"] == ["y"]
    assert kept.run("x = 2; 1 / 0", session_id="b", on_error="rollback")["session_state"]["state"] == "restored"
    assert kept.ask("rollback", session_id="b", to=0)["undone"] == ["e1"]
    assert "epoch" in kept.ask("reset", session_id="b") and "epoch" in kept.ask("restart", session_id="b")
    assert kept.ask("session/clone", session_id="b", new_session_id="c")["cloned_from"] == "b e0"
    for name in ("b", "c"):
        assert "error" not in kept.ask("session/close", session_id=name)
    (tmp_path / "go").touch()
    answer = kept.read()
    assert (answer["id"], answer["result"], answer["attempts"]) == ("busy", "'done'", 1)
    assert answer["session_state"] == {"state": "kept", "epoch": 0, "undone": [], "lost_names": [], "warning": None}


def test_an_interrupt_is_for_one_session_and_a_signal_for_all(kept: Session, tmp_path: Path) -> None:
    wait = "import os, time; open('%s', 'w')\nwhile True: time.sleep(0.01)"
    kept.clone("b")
    kept.clone("c")
    for name in ("default", "b", "c"):
        kept.send({"id": name, "code": wait % name, "session_id": name})
        wait_until((tmp_path / name).exists)
    kept.send({"id": 1, "method": "interrupt", "session_id": "b"})
    first = _by_id(kept, 2)
    assert first[1]["interrupted"] is True and first["b"]["reason"] == "interrupted"
    os.kill(kept.pid, signal.SIGINT)
    assert {name: answer["reason"] for name, answer in _by_id(kept, 2).items()} == dict.fromkeys(
        ("default", "c"), "interrupted"
    )


# how a clone's request ends: (params, reason)
ENDINGS = {
    "an exit": ({"code": "import os; os._exit(3)"}, "crash"),
    "a crash": ({"code": "import os; os.kill(os.getpid(), 11)"}, "crash"),
    "a kill": ({"code": "import os; os.kill(os.getpid(), 9)", "retries": 1}, "crash"),
    "a timeout": ({"code": "import itertools; any(itertools.repeat(0))", "timeout": 0.2}, "timeout"),
    "a kill of its group": ({"code": "import os; os.killpg(0, 9)", "retries": 0}, "crash"),
}


@pytest.mark.parametrize("how", ENDINGS)
def test_the_end_of_a_clones_worker_touches_neither_code_nor_state_of_another(
    kept: Session, tmp_path: Path, how: str
) -> None:
    params, reason = ENDINGS[how]
    kept.run("x = [1]")
    kept.clone("b")
    kept.keep("x.append(2)", session_id="b")
    kept.send({"id": "busy", "code": WAIT_FOR_GO})
    wait_until((tmp_path / "begun").exists)
    answer = kept.run(session_id="b", **params)
    assert (answer["reason"], answer["session_state"]["state"]) == (reason, "restored")
    assert kept.value("x", session_id="b") == "[1, 2]"
    (tmp_path / "go").touch()
    busy = kept.read()
    assert (busy["id"], busy["result"], busy["attempts"], busy["session_state"]["epoch"]) == ("busy", "'done'", 1, 0)
    assert kept.value("x") == "[1]"


@pytest.mark.parametrize("what", ["close", "crash", "rollback", "reset", "dry run that crashes"])
def test_what_another_session_has_left_behind_is_ended_and_processes_of_this_one_are_not(
    kept: Session, what: str
) -> None:
    daemon = int(kept.value(DAEMON))
    kept.clone("b")
    kept.keep("x = 1", session_id="b")
    if what == "dry run that crashes":
        crashed = kept.run(DAEMON.replace("int(", "print(int(").rstrip() + ", flush=True)\nos._exit(3)", dry_run=True)
        leftover = int(crashed["stdout"])
    else:
        leftover = int(kept.value(DAEMON, session_id="b"))
        requests = {
            "close": {"method": "session/close"},
            "crash": {"code": "import os; os._exit(3)"},
            "rollback": {"method": "rollback", "to": "e2"},
            "reset": {"method": "reset"},
        }
        kept.send({**requests[what], "session_id": "b"})
        kept.read()
    wait_until(lambda: not lives(leftover), 10)
    assert lives(daemon)


def test_no_clone_loses_its_newest_state_by_what_happens_to_others_at_the_same_time(kept: Session) -> None:
    for turn in range(8):
        names = [f"{turn}{letter}" for letter in "abcd"]
        for name in names:
            kept.clone(name)
        for name in names:
            kept.run("x = 7; import os", session_id=name)
        a, b, c, d = names
        kept.send(
            {"id": a, "code": "os._exit(3)", "session_id": a},
            {"id": b, "method": "session/close", "session_id": b},
            {"id": c, "method": "session/close", "session_id": c},
            {"id": d, "code": "os._exit(3)", "session_id": d},
        )
        answers = _by_id(kept, 4)
        for name in (a, d):
            assert (answers[name]["reason"], answers[name]["session_state"]["undone"]) == ("crash", [])
            assert kept.value("x", session_id=name) == "7"
            kept.ask("session/close", session_id=name)


# -- the end of one ----------------------------------------------------------------------------------------------------


def test_a_closed_session_finishes_what_came_before_and_refuses_what_came_later(kept: Session, tmp_path: Path) -> None:
    kept.clone("b")
    pid = int(kept.value("__import__('os').getpid()", session_id="b"))
    kept.send({"id": 1, "code": WAIT_FOR_GO, "session_id": "b"})
    wait_until((tmp_path / "begun").exists)
    kept.send({"id": 2, "method": "session/close", "session_id": "b"}, {"id": 3, "code": "1", "session_id": "b"})
    (tmp_path / "go").touch()
    answers = _by_id(kept, 3)
    assert answers[1]["result"] == "'done'" and "error" not in answers[2]
    assert answers[3]["error"]["code"] == SESSION_NOT_FOUND
    assert not lives(pid) and [*_listed(kept)] == ["default"]
    assert kept.run("1", session_id="b")["error"]["code"] == SESSION_NOT_FOUND
    kept.clone("b")
    assert kept.value("6 * 7", session_id="b") == "42"


def test_the_default_session_cannot_be_closed(worker: Session) -> None:
    for params in ({}, {"session_id": "default"}):
        error = worker.ask("session/close", **params)["error"]
        assert error["code"] == INVALID_PARAMS and "shutdown" in error["message"]
    assert worker.value("6 * 7") == "42"


def test_a_close_at_the_end_of_stdin_is_answered(kept: Session) -> None:
    kept.clone("b")
    kept.run("import atexit, time; atexit.register(time.sleep, 0.5)", session_id="b")
    kept.send({"id": 1, "method": "session/close", "session_id": "b"})
    answers, _, status = kept.finish()
    assert ([answer["id"] for answer in answers], status) == ([1], 0)


@pytest.mark.parametrize("ending", ["SIGKILL", "SIGTERM", "stdin"])
def test_all_clones_end_with_the_process_even_while_they_run(kept: Session, tmp_path: Path, ending: str) -> None:
    for name in "bcd":
        kept.clone(name)
        kept.keep("import subprocess; p = subprocess.Popen(['sleep', '600'], start_new_session=True)", session_id=name)
    kept.send({"id": 1, "code": WAIT_FOR_GO, "session_id": "d"})
    wait_until((tmp_path / "begun").exists)
    family = psutil.Process(kept.pid).children(recursive=True)
    assert len(family) >= 3 * 3
    if ending == "stdin":
        (tmp_path / "go").touch()
        kept.finish()
    else:
        kept.process.send_signal(signal.Signals[ending])
    wait_until(lambda: not any(lives(process.pid) for process in family if process.is_running()))
