"""What `status` tells of a session while it runs code, without disturbing it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from harness import BOUND, Session, wait_until

BODIES = {
    "a loop": "def culprit():\n    begin()\n    while True: pass",
    "a sleep": "def culprit():\n    begin()\n    time.sleep(1000)",
    "a call into C that holds the lock": "def culprit():\n    begin()\n    sum(range(10**11))",
}


def begin(session: Session, body: str, tmp_path: Path) -> None:
    """Have the session run a function called culprit, and wait until it does."""
    session.run(
        f"""
import threading, time
def begin(): open({str(tmp_path / "begun")!r}, "w").close()
def lurking(): time.sleep(1000)
threading.Thread(target=lurking, daemon=True).start()
"""
    )
    session.send({"id": "run", "code": f"{body}\nculprit()"})
    wait_until((tmp_path / "begun").exists)


def end(session: Session) -> Any:
    """Interrupt what runs; its answer."""
    session.send({"id": "interrupt", "method": "interrupt"})
    answers = {answer["id"]: answer for answer in (session.read(), session.read())}
    return answers["run"]


@pytest.mark.parametrize("name", [name for name in BODIES if "lock" not in name])
def test_it_tells_the_stack_of_every_thread_and_what_the_process_takes(
    session: Session, tmp_path: Path, name: str
) -> None:
    begin(session, BODIES[name], tmp_path)
    status = session.ask("status")
    assert (status["state"], status["running"]["execution_id"]) == ("busy", "e2")
    stacks = status["running"]["stacks"]
    assert "in culprit" in stacks and "in lurking" in stacks and stacks.count("hread 0x") == 2
    assert "json_repl" not in stacks
    assert status["usage"]["rss_bytes"] > 1_000_000 and status["usage"]["threads"] >= 2
    assert end(session)["reason"] == "interrupted"


def test_it_tells_the_stacks_though_c_code_holds_the_interpreters_lock(worker: Session, tmp_path: Path) -> None:
    begin(worker, BODIES["a call into C that holds the lock"], tmp_path)
    assert "in culprit" in worker.ask("status")["running"]["stacks"]


def test_a_worker_that_does_not_know_how_to_tell_is_left_alone(worker: Session, tmp_path: Path) -> None:
    worker.value("import signal; signal.signal(signal.SIGRTMIN + 7, signal.SIG_DFL) and None")
    begin(worker, BODIES["a loop"], tmp_path)
    assert worker.ask("status")["running"]["stacks"] == ""
    assert end(worker)["session_state"]["state"] == "kept"


def test_it_costs_no_answer_and_no_state_however_often_it_is_asked(session: Session, tmp_path: Path) -> None:
    begin(session, BODIES["a loop"], tmp_path)
    session.send(*({"id": number, "method": "status"} for number in range(200)))
    answers = [session.read() for _ in range(200)]
    assert sorted(answer["id"] for answer in answers) == list(range(200))
    assert end(session)["session_state"]["state"] == "kept"


def test_while_nothing_runs_there_are_no_stacks(session: Session) -> None:
    session.run("block = b'x' * 50_000_000")
    status = session.ask("status")
    assert (status["state"], status["running"]) == ("idle", None)
    assert status["usage"]["rss_bytes"] > 50_000_000


def test_the_session_does_not_end_before_it_has_told(session: Session, tmp_path: Path) -> None:
    os.mkfifo(go := tmp_path / "go")
    session.run("1")
    session.send({"id": "run", "code": f"open({str(go)!r}).read()"})
    wait_until(lambda: session.ask("status")["state"] == "busy", BOUND)
    session.send({"id": "status", "method": "status"})
    go.write_text("")
    answers, _, status = session.finish()
    assert sorted(answer["id"] for answer in answers) == ["run", "status"]
    assert status == 0
