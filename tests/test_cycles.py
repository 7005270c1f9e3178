"""Hundreds of snapshots, crashes, rollbacks and clones in one session: nothing grows, and nothing outlives it."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Callable
from threading import Timer
from typing import Any
from uuid import uuid4

import psutil
import pytest
from harness import Session, wait_until

Start = Callable[..., Session]
CYCLES = int(os.environ.get("JSON_REPL_TEST_CYCLES", "150"))
KILLS = 50
GONE_SECONDS = float(os.environ.get("JSON_REPL_TEST_GONE_SECONDS", "10"))  # a second where nothing else is at work
ENV = {"JSON_REPL_SNAPSHOTS": "always", "JSON_REPL_HISTORY_SIZE": "10"}
# Bytes, of what the session's own process takes, over any number of cycles: what it remembers of the last half minute.
LARGEST_GROWTH = 12 << 20

CRASHES = (
    "os._exit(9)",
    "os.abort()",
    "__import__('ctypes').string_at(0)",
    "subprocess.Popen(['sleep', '600'], start_new_session=True); os._exit(9)",
)


def _cycle(number: int) -> list[dict[str, Any]]:
    """The requests of one cycle, after which there is one number more in `x`, and nothing else is left."""
    clone = f"clone {number}"
    return [
        {"code": f"x.append({number})"},
        {"code": CRASHES[number % len(CRASHES)]},
        {"code": "x.append('undone')"},
        {"method": "rollback", "steps": 1},
        {"method": "session/clone", "new_session_id": clone},
        {"code": f"x.append({clone!r}); x[-2:]", "session_id": clone},
        {"code": "os._exit(3)", "session_id": clone},
        {"method": "session/close", "session_id": clone},
        {"code": "x[-1]"},
    ]


def _run_cycle(session: Session, number: int) -> None:
    requests = [{"id": place, **request} for place, request in enumerate(_cycle(number))]
    session.send(*requests[:5])  # a session's requests are answered in order, those of two are not
    answers = {answer["id"]: answer for answer in (session.read() for _ in range(5))}
    session.send(*requests[5:])
    answers.update((answer["id"], answer) for answer in (session.read() for _ in range(4)))
    assert answers[1]["reason"] == "crash" and answers[1]["session_state"]["state"] == "restored", answers[1]
    assert answers[3].get("state") == "restored", answers[3]
    assert answers[4].get("session_id") == f"clone {number}", answers[4]
    assert answers[5]["result"] == f"[{number}, 'clone {number}']", answers[5]
    assert (answers[6]["reason"], answers[7].get("error"), answers[8]["result"]) == ("crash", None, str(number))


def _begin(session: Session) -> None:
    assert session.keep("import os, subprocess\nx = []")["status"] == "ok"


def _settled(session: Session) -> tuple[int, int, int]:
    """Once all is quiet: files, descendants and zombies of a session."""
    seen: list[tuple[int, int, int]] = []

    def is_quiet() -> bool:
        family = psutil.Process(session.pid).children(recursive=True)
        zombies = sum(_status(process) == psutil.STATUS_ZOMBIE for process in family)
        seen.append((len(os.listdir(f"/proc/{session.pid}/fd")), len(family), zombies))
        session.ask("ping")
        return len(seen) > 40 and len(set(seen[-40:])) == 1

    wait_until(is_quiet)
    return seen[-1]


def _status(process: psutil.Process) -> str | None:
    try:
        return str(process.status())
    except psutil.NoSuchProcess:
        return None


def test_neither_files_nor_processes_nor_memory_grow_over_many_cycles(start: Start) -> None:
    session = start("worker", env=ENV)
    _begin(session)
    warm_up = CYCLES // 4
    for number in range(warm_up):
        _run_cycle(session, number)
    files, processes, _ = _settled(session)
    memory = psutil.Process(session.pid).memory_info().rss
    for number in range(warm_up, warm_up + CYCLES):
        _run_cycle(session, number)
    after = _settled(session)
    assert after[2] == 0
    assert after[0] <= files + 2 and after[1] <= processes + 1, (files, processes)
    assert psutil.Process(session.pid).memory_info().rss - memory < LARGEST_GROWTH
    assert len(session.ask("session/list")["sessions"]) == 1
    family = psutil.Process(session.pid).children(recursive=True)
    assert session.finish()[2] == 0
    wait_until(lambda: all(_status(process) in (None, psutil.STATUS_ZOMBIE) for process in family), GONE_SECONDS)


@pytest.mark.parametrize("seed", range(5))
def test_all_is_gone_when_the_session_is_killed_at_any_moment_of_a_cycle(seed: int) -> None:
    dice = random.Random(seed)
    for _ in range(KILLS // 5):
        mark = uuid4().hex
        session = Session("worker", mark=mark, env=ENV)
        try:
            _begin(session)
            killer = Timer(dice.random() * 0.3, session.process.kill)
            killer.start()
            session.send(*(request for number in range(10) for request in _cycle(number)))
            while session.read() is not None:
                pass
            killer.join()
            assert session.wait() == -signal.SIGKILL
            wait_until(lambda: not [pid for pid in psutil.pids() if _wears(pid, mark)], GONE_SECONDS)  # noqa: B023
        finally:
            session.end()


def _wears(pid: int, mark: str) -> bool:
    try:
        return psutil.Process(pid).environ().get("JSON_REPL_TEST_MARK") == mark
    except psutil.Error:
        return False
