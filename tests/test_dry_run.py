"""Dry runs: code runs in a copy of the session as it is now, tells what it would do, and changes nothing."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import Session, lives, wait_until

Start = Callable[..., Session]
ALWAYS = {"JSON_REPL_SNAPSHOTS": "always"}
OFF = {"JSON_REPL_SNAPSHOTS": "off"}
KEPT = {"state": "kept", "epoch": 0, "undone": [], "lost_names": [], "warning": None}


@pytest.fixture
def kept(start: Start, tmp_path: Path) -> Session:
    """A session that keeps its state after every answer."""
    return start("worker", env=ALWAYS, cwd=tmp_path)


def _changes(answer: Any) -> tuple[list[str], list[str], list[str]]:
    assert answer["status"] == "ok", answer["stderr"]
    assert {*answer["changes"]} == {"added", "changed", "removed"}
    return tuple(answer["changes"][kind] for kind in ("added", "changed", "removed"))  # type: ignore[return-value]


# what is done, to what: (setup, code, added, changed, removed)
CHANGES: dict[str, tuple[str, str, list[str], list[str], list[str]]] = {
    "nothing": ("x = 1", "x + 1", [], [], []),
    "new names": ("x = 1", "import json; y = 2\ndef f(): pass\nclass C: pass", ["json", "y", "f", "C"], [], []),
    "another value": ("x = 1; y = 2", "x = 3", [], ["x"], []),
    "another type": ("x = 1", "x = True", [], ["x"], []),
    "the same value again": ("x = [1, {'a': 2}]", "x = [1, {'a': 2}]", [], [], []),
    "a change in depth": ("x = {'a': [{'b': [1]}]}", "x['a'][0]['b'].append(2)", [], ["x"], []),
    "a change that is undone": ("x = [1]", "x.append(2); x.pop()", [], [], []),
    "one object under two names": ("x = [1]; y = x; z = [1]", "x.append(2)", [], ["x", "y"], []),
    "a removed name": ("x = 1; y = 2", "del x", [], [], ["x"]),
    "removed and made anew": ("x = 1", "del x; x = 1", [], [], []),
    "an attribute": ("class C: pass\nx = C(); x.a = 1", "x.a = 2", [], ["x"], []),
    "a function of the same text": ("def f(): return 1", "def f(): return 1", [], ["f"], []),
    "a generator that goes on": ("x = iter(range(3)); y = (i for i in x)", "z = next(y)", ["z"], ["x"], []),
    "an unpicklable value": ("import threading; x = threading.Lock()", "x.acquire()", [], [], []),
    "another unpicklable value": ("x = lambda: 1; y = open('/dev/null')", "x = lambda: 1", [], ["x"], []),
    "a large value": ("x = bytearray(20 << 20); y = [1]", "x[0] = 1; y.append(2)", [], ["y"], []),
    "another large value": ("x = bytearray(20 << 20)", "x = bytearray(x)", [], ["x"], []),
    "a value below the bound": ("x = bytearray(8 << 20)", "x[-1] = 1", [], ["x"], []),
    "equal parts that are no longer one object": ("x = ['abc', 'abc']", "x = 'abc abc'.split()", [], [], []),
    "a value that holds itself": ("x = [1]; x.append(x); y = [x]", "x.append(2)", [], ["x", "y"], []),
    "all at once": ("x = 1; y = 2; z = 3", "x = 0; del y; w = 4", ["w"], ["x"], ["y"]),
    "many names": ("", "globals().update({f'n{i}': i for i in range(300)})", [f"n{i}" for i in range(300)], [], []),
    "what a failed statement leaves": (
        "x = [1]",
        "try:\n x.append(2); 1 / 0\nexcept Exception as e: pass",
        [],
        ["x"],
        [],
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_dry_run_tells_which_names_would_be_added_changed_and_removed(worker: Session, what: str) -> None:
    setup, code, added, changed, removed = CHANGES[what]
    worker.run(setup)
    names = worker.ask("variables")
    assert _changes(worker.run(code, dry_run=True)) == (added, changed, removed)
    assert worker.ask("variables") == names


# how the code ends: (code, reason, stdout)
ENDINGS = {
    "well": ("print('out'); x.append(2); y = 1; del z; x", None, "out\n"),
    "an exception": ("print('out'); x.append(2); y = 1; del z; 1 / 0", "exception", "out\n"),
    "no Python": ("x.append(2", "exception", ""),
    "an exit": ("print('out'); x.append(2); del z; raise SystemExit(0)", "exit", "out\n"),
    "an end of the process": ("print('out', flush=True); x.append(2); import os; os._exit(0)", "crash", "out\n"),
    "a crash": ("print('out', flush=True); x.append(2); import os; os.kill(os.getpid(), 11)", "crash", "out\n"),
    "a kill": ("print('out', flush=True); x.append(2); import os; os.kill(os.getpid(), 9)", "crash", "out\n"),
    "a timeout": ("print('out', flush=True); x.append(2)\nwhile True: pass", "timeout", "out\n"),
    "a timeout of C code": (
        "print('out', flush=True); x.append(2); import itertools; any(itertools.repeat(0))",
        "timeout",
        "out\n",
    ),
}


@pytest.mark.parametrize("env", [ALWAYS, OFF], ids=["always", "off"])
@pytest.mark.parametrize("how", ENDINGS)
def test_a_dry_run_changes_nothing_however_it_ends(start: Start, how: str, env: dict[str, str]) -> None:
    code, reason, stdout = ENDINGS[how]
    session = start("worker", env=env)
    session.run("x = [1]; z = 3; import random; random.seed(1)")
    pid = session.worker_pid()
    answer = session.run(code, dry_run=True, timeout=0.4 if reason == "timeout" else None)
    assert (answer["reason"], answer["stdout"], answer["backend"]) == (reason, stdout, "worker")
    assert (answer["status"] == "ok") is (reason is None) and answer["session_state"] == KEPT
    assert answer["result"] == ("[1, 2]" if reason is None else None)
    assert answer["error"] is None or answer["error"]["ename"] in answer["stderr"]
    following = session.run("x, z, 'y' in globals()")
    assert (following["result"], following["session_state"]) == ("([1], 3, False)", KEPT)
    assert session.worker_pid() == pid


def test_an_interrupted_dry_run_tells_what_it_had_done(kept: Session, tmp_path: Path) -> None:
    kept.run("x = [1]; import time")
    kept.send({"code": "x.append(2); open('begun', 'w')\ntime.sleep(600)", "dry_run": True})
    wait_until((tmp_path / "begun").exists)
    assert kept.ask("status")["running"] is not None
    assert kept.ask("interrupt")["interrupted"] is True
    answer = kept.read()
    assert (answer["reason"], answer["changes"]["changed"]) == ("interrupted", ["x"])
    assert kept.value("x") == "[1]"


def test_a_dry_run_that_has_not_begun_can_be_interrupted(start: Start, tmp_path: Path) -> None:
    session = start("worker", env=OFF, cwd=tmp_path)  # so that the copy it runs in is made when it is asked for
    pid = session.worker_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        session.send({"id": 1, "code": "open('ran', 'w')", "dry_run": True})
        wait_until(lambda: session.ask("status")["running"])
        session.send({"id": 2, "method": "interrupt"})
        first, second = session.read(), session.read()
    finally:
        os.kill(pid, signal.SIGCONT)
    answers = {answer["id"]: answer for answer in (first, second)}
    assert answers[2]["interrupted"] is True and answers[1]["reason"] in ("cancelled", "interrupted")
    assert not (tmp_path / "ran").exists()


def test_a_dry_run_for_which_no_copy_can_be_had_is_not_run_and_does_not_claim_a_backend(
    start: Start, tmp_path: Path
) -> None:
    session = start("worker", env=OFF, cwd=tmp_path)
    pid = session.worker_pid()
    os.kill(pid, signal.SIGSTOP)
    answer = session.run("open('ran', 'w')", dry_run=True)
    os.kill(pid, signal.SIGCONT)
    assert (answer["status"], answer["reason"], answer["error"]["ename"]) == ("error", "cancelled", "NoSnapshot")
    assert answer["backend"] == "worker" and not (tmp_path / "ran").exists()
    assert session.worker_pid() == pid


# -- user code that runs while names are compared ------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        "raise ValueError",
        "raise SystemExit",
        "raise KeyboardInterrupt",
        "return 1, 2",
        "return self.__reduce__()",
        "print('seen'); return C, ()",
        "x.append(2); raise ValueError",
    ],
)
def test_an_object_that_refuses_to_be_pickled_is_compared_by_identity(worker: Session, body: str) -> None:
    worker.run(f"x = [1]\nclass C:\n def __reduce__(self):\n  {body}\no = C()")
    answer = worker.run("y = 1; print('out')", dry_run=True)
    assert (answer["changes"]["added"], answer["stdout"]) == (["y"], "out\n")
    assert worker.run("x")["result"] == "[1]"


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("body", "reason"),
    [("while True: pass", "timeout"), ("__import__('os')._exit(3)", "crash"), ("__import__('os').abort()", "crash")],
)
def test_an_object_that_ends_or_holds_up_who_pickles_it_costs_the_dry_run_only(
    worker: Session, body: str, reason: str, when: str
) -> None:
    hostile = f"class C:\n def __reduce__(self):\n  {body}\no = C()"
    worker.run("x = [1]\n" + (hostile if when == "before" else ""))
    code = "x.append(2)\n" + (hostile if when == "after" else "")
    answer = worker.run(code, dry_run=True, timeout=0.4 if reason == "timeout" else 20)
    assert (answer["status"], answer["reason"], answer["session_state"]) == ("error", reason, KEPT)
    assert worker.value("x") == "[1]"


def test_an_interrupt_ends_a_dry_run_that_is_held_up_by_an_object(kept: Session, tmp_path: Path) -> None:
    kept.run("class C:\n def __reduce__(self):\n  open('begun', 'w')\n  while True: pass\no = C()")
    kept.send({"code": "1", "dry_run": True, "timeout": 0})
    wait_until((tmp_path / "begun").exists)
    kept.send({"id": 2, "method": "interrupt"})
    assert {kept.read(10).get("id"), kept.read(10).get("id")} == {None, 2}
    assert kept.value("6 * 7") == "42"


# -- what else the session has ---------------------------------------------------------------------------------------


def test_a_dry_run_sees_what_threads_have_done_up_to_now(kept: Session, tmp_path: Path) -> None:
    kept.keep(
        "import os, threading, time; n = 0\ndef work():\n global n\n"
        " while not os.path.exists('go'): time.sleep(0.01)\n n = 1; open('done', 'w')\n threading.Event().wait()\n"
        "t = threading.Thread(target=work, daemon=True); t.start()"
    )
    (tmp_path / "go").touch()
    wait_until((tmp_path / "done").exists)
    answer = kept.run("n, t.is_alive()", dry_run=True)
    assert answer["result"] == "(1, False)" and answer["session_state"]["threads_lost"] == 1
    assert kept.value("n, t.is_alive()") == "(1, True)"


def test_a_dry_run_sees_what_tasks_have_done_up_to_now_and_they_go_on(kept: Session, tmp_path: Path) -> None:
    kept.keep(
        "import asyncio, os; n = 0\nasync def work():\n global n\n"
        " while not os.path.exists('go'): await asyncio.sleep(0.01)\n n = 1; open('done', 'w')\n"
        " while True: await asyncio.sleep(0.01); n += 1\nt = asyncio.create_task(work()); await asyncio.sleep(0)"
    )
    (tmp_path / "go").touch()
    wait_until((tmp_path / "done").exists)
    assert kept.value("n > 0, (m := n), await asyncio.sleep(0.1), n > m", dry_run=True).endswith("None, True)")
    assert kept.value("(m := n) > 0, await asyncio.sleep(0.1), n > m") == "(True, None, True)"


def test_the_dice_of_a_dry_run_fall_as_those_of_the_session_will(kept: Session) -> None:
    kept.keep("import random; random.seed(3)")
    roll = "[random.random() for _ in range(3)]"
    found = [kept.value(roll, dry_run=True), kept.value(roll, dry_run=True), kept.value(roll)]
    assert len({*found}) == 1


def test_a_dry_run_has_no_hold_on_the_sessions_sockets_and_pipes(kept: Session) -> None:
    kept.keep(
        "import os, socket, subprocess; s = socket.create_server(('127.0.0.1', 0)); a, b = socket.socketpair()\n"
        "p = subprocess.Popen(['cat'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)"
    )
    answer = kept.run("s.close(); p.stdin.close()\ntry: a.send(b'dry')\nexcept OSError: 'no'", dry_run=True)
    assert answer["status"] == "ok"
    assert kept.value("b.setblocking(False); a.send(b'live'), b.recv(9)") == "(4, b'live')"
    assert (
        kept.value("c = socket.create_connection(s.getsockname()); s.accept()[0].send(b'x'), c.recv(1)") == "(1, b'x')"
    )
    assert kept.value("p.communicate(b'fed', timeout=20), p.returncode") == "((b'fed', None), 0)"


@pytest.mark.parametrize("own_session", [False, True])
def test_processes_that_a_dry_run_starts_end_with_it(kept: Session, own_session: bool) -> None:
    start = f"import subprocess; subprocess.Popen(['sleep', '600'], start_new_session={own_session}).pid"
    pid = int(kept.value(start, dry_run=True))
    wait_until(lambda: not lives(pid), 5)


def test_processes_of_the_session_outlive_a_dry_run_that_kills_its_own(kept: Session) -> None:
    kept.keep("import os, subprocess; p = subprocess.Popen(['sleep', '600'])")
    assert kept.run("os.killpg(0, 9)", dry_run=True, retries=0)["reason"] == "crash"
    assert kept.value("p.poll() is None") == "True"


def test_exit_handlers_and_buffers_of_the_session_are_not_flushed_by_a_dry_run(kept: Session, tmp_path: Path) -> None:
    kept.keep(
        "import atexit; f = open('f', 'w'); f.write('once'); atexit.register(lambda: open('ended', 'a').write('x'))"
    )
    for code in ("1", "1 / 0", "import os; os._exit(0)"):
        kept.run(code, dry_run=True)
    assert (tmp_path / "f").read_text() == "" and not (tmp_path / "ended").exists()
    kept.value("f.close()")
    kept.finish()
    assert (tmp_path / "f").read_text() == "once" and (tmp_path / "ended").read_text() == "x"


# -- beside other requests -------------------------------------------------------------------------------------------


def test_a_dry_run_is_counted_and_filed_as_any_request_but_is_no_state_of_the_session(kept: Session) -> None:
    kept.keep("x = 1")
    first = kept.run("x = 2", dry_run=True)
    second = kept.run("x = 3", dry_run=True, silent=True)
    assert [(a["execution_count"], a["execution_id"]) for a in (first, second)] == [(2, "e2"), (2, "e3")]
    assert [entry["code"] for entry in kept.ask("history")["entries"]] == ["x = 1", "x = 2"]
    assert kept.kept() == ["e0", "e1"]
    kept.keep("x = 4")
    assert kept.ask("rollback", steps=1)["undone"] == ["e4"]
    assert kept.value("x") == "1"


def test_code_in_a_dry_run_can_ask_for_the_history(kept: Session) -> None:
    kept.run("x = 1")
    assert kept.value("get_recent_executions(1)[0]['code']", dry_run=True) == "'x = 1'"


def test_output_of_children_and_of_fd_1_and_2_is_in_a_dry_runs_answer(kept: Session) -> None:
    answer = kept.run(
        "import os; os.system('echo child; echo err >&2'); os.write(1, b'raw\\n'); print('py')", dry_run=True
    )
    assert (answer["stdout"], answer["stderr"]) == ("child\nraw\npy\n", "err\n")


def test_a_dry_run_whose_worker_is_taken_away_runs_again(kept: Session, tmp_path: Path) -> None:
    kept.run("x = [1]; import os, time")
    code = (
        "x.append(2); open('pids', 'a').write('%d ' % os.getpid())\n"
        "if len(open('pids').read().split()) < 2: time.sleep(600)\nx"
    )
    kept.send({"code": code, "dry_run": True})
    pids = tmp_path / "pids"
    wait_until(lambda: pids.exists() and pids.read_text())
    os.kill(int(pids.read_text()), signal.SIGKILL)
    answer = kept.read()
    assert (answer["result"], answer["attempts"], answer["session_state"]) == ("[1, 2]", 2, KEPT)
    assert kept.value("x") == "[1]"


def test_the_session_survives_the_loss_of_its_worker_during_a_dry_run(kept: Session, tmp_path: Path) -> None:
    kept.keep("x = [1]; import os, time; pid = os.getpid()")
    kept.send({"code": "open('begun', 'w')\nwhile not os.path.exists('go'): time.sleep(0.01)\nx", "dry_run": True})
    wait_until((tmp_path / "begun").exists)
    os.kill(kept.ask("status")["worker"]["pid"], signal.SIGKILL)
    wait_until(lambda: kept.ask("status")["worker"]["restarts"] == 1)
    (tmp_path / "go").touch()
    answer = kept.read()
    assert answer["result"] == "[1]"
    assert answer["session_state"] == {"state": "restored", "epoch": 1, "undone": [], "lost_names": [], "warning": None}
    assert kept.value("x") == "[1]"


def test_a_dry_run_with_errors_undone_is_a_dry_run(kept: Session) -> None:
    kept.run("x = 1")
    answer = kept.run("x = 2; 1 / 0", dry_run=True, on_error="rollback")
    assert (answer["reason"], answer["changes"]["changed"], answer["session_state"]) == ("exception", ["x"], KEPT)
