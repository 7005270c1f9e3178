"""Nothing is left behind: no process, zombie or file grows over the life of a session, and all ends with it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from harness import HOME, Session, wait_until

Start = Callable[..., Session]
NO_SNAPSHOTS = {"JSON_REPL_SNAPSHOTS": "off"}

# A worker's family: a child, its child, one in a session of its own, and a daemon that has lost its parent.
FAMILY = """
import os, subprocess, sys, time
sleeper = ['sleep', '600']
pids = [subprocess.Popen(sleeper).pid, subprocess.Popen(sleeper, start_new_session=True).pid]
nested = subprocess.Popen(['sh', '-c', 'sleep 600 & echo $!; wait'], stdout=subprocess.PIPE, text=True)
pids += [nested.pid, int(nested.stdout.readline())]
read, write = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(write, b'%d' % os.getpid())
        os.closerange(0, 256)
        os.execvp('sleep', sleeper)
    os._exit(0)
os.wait3(0)
pids.append(int(os.read(read, 20)))
pids
"""


def _is_gone(process: psutil.Process) -> bool:
    """Also a zombie is gone, if it is not ours: whoever adopted it reaps it in its own time."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _are_gone(processes: list[psutil.Process]) -> None:
    wait_until(lambda: all(map(_is_gone, processes)), 10)


def _family(session: Session) -> list[psutil.Process]:
    """A worker and all that it has started."""
    answer = session.run(FAMILY)
    assert (answer["status"], answer["backend"]) == ("ok", "worker"), answer["stderr"]
    worker = int(session.ask("status")["worker"]["pid"])
    return [psutil.Process(pid) for pid in [*map(int, answer["result"].strip("[]").split(",")), worker]]


def _descendants(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def _zombies(pid: int) -> list[psutil.Process]:
    return [process for process in _descendants(pid) if _status(process) == psutil.STATUS_ZOMBIE]


def _status(process: psutil.Process) -> str | None:
    try:
        return process.status()
    except psutil.NoSuchProcess:
        return None


def _files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


# -- while the session lives -------------------------------------------------------------------------------------------


def _quiet(session: Session, code: str = "0") -> tuple[int, int, int]:
    """Once all is settled after `reset` and `code`: zombies, descendants and files of a session."""
    session.ask("reset")
    session.run(code)
    counts: list[tuple[int, int, int]] = []

    def has_settled() -> bool:
        counts.append((len(_zombies(session.pid)), len(_descendants(session.pid)), _files(session.pid)))
        return len(counts) > 300 and len(set(counts[-300:])) == 1

    wait_until(has_settled)
    return counts[-1]


ONE_SNAPSHOT = {"JSON_REPL_SNAPSHOT_KEEP": "1"}  # beside the first, so that there are as many before as after


@pytest.mark.parametrize(
    ("env", "losses"), [(ONE_SNAPSHOT, 200), (NO_SNAPSHOTS, 80)], ids=["with snapshots", "without"]
)
def test_no_process_or_file_grows_over_many_losses(start: Start, env: dict[str, str], losses: int) -> None:
    session = start("worker", env=env)
    endings: tuple[tuple[str, dict[str, float], str], ...] = (
        ("import os; os._exit(1)", {}, "crash"),
        ("import os; os.kill(os.getpid(), 9)", {"retries": 1}, "crash"),
        ("import os, subprocess; subprocess.Popen(['sleep', '600']); os.abort()", {}, "crash"),
        ("while True: pass", {"timeout": 0.01}, "timeout"),
        ("1 / 0", {}, "exception"),
    )
    for code, params, _ in endings:
        session.run(code, **params)
    before = _quiet(session)
    for n in range(losses):
        code, params, reason = endings[n % len(endings)]
        assert session.run(code, **params)["reason"] == reason
        if n % 20 == 0:
            session.ask("restart")
    zombies, descendants, files = _quiet(session)
    assert zombies == 0
    assert descendants <= before[1] + 1 and files <= before[2] + 2, f"before: {before}"


def test_orphans_that_end_by_themselves_leave_no_zombies(worker: Session) -> None:
    worker.run("import os\nfor n in range(30): os.system('true & true &')")
    wait_until(lambda: worker.run("0") and not _zombies(worker.pid), 10)


@pytest.mark.parametrize("ending", ["a crash", "a kill", "a timeout", "restart", "idle death"])
def test_all_that_a_worker_started_ends_with_it(worker: Session, ending: str) -> None:
    family = _family(worker)
    if ending == "a crash":
        worker.run("os.abort()")
    elif ending == "a kill":
        worker.run("os.kill(os.getpid(), 9)", retries=0)
    elif ending == "a timeout":
        worker.run("import itertools; any(itertools.repeat(0))", timeout=0.1)
    elif ending == "restart":
        worker.ask("restart")
    else:
        family[-1].kill()
    _are_gone(family)
    assert worker.value("6 * 7") == "42"


# -- when the session ends ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["the end of stdin", "shutdown", "a closed stdout", "SIGTERM", "SIGHUP", "SIGKILL"])
def test_all_that_a_worker_started_ends_with_the_session(worker: Session, ending: str) -> None:
    family = _family(worker)
    if ending == "the end of stdin":
        assert worker.finish()[2] == 0
    elif ending == "shutdown":
        worker.ask("shutdown")
        assert worker.wait() == 0
    elif ending == "a closed stdout":
        assert worker.process.stdout is not None
        worker.process.stdout.close()
        worker.wait()
    else:
        worker.process.send_signal(signal.Signals[ending])
        assert worker.wait() == -signal.Signals[ending]
    try:
        _are_gone(family)
    finally:
        for process in family:
            if not _is_gone(process):
                process.kill()


BUSY = {
    "idle": "",
    "busy in Python": "while True: pass",
    "busy in C with the interpreter's lock": "import itertools; any(itertools.repeat(0))",
    "busy with signals blocked": (
        "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\nwhile True: pass"
    ),
    "waiting for a child": "import subprocess; subprocess.run(['sh', '-c', 'sleep 600; sleep 600'])",
    "stopped": "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)",
    "printing": "while True: print('x' * 1000)",
    "without its files": "import os; os.closerange(3, 65536)\nwhile True: pass",
}


@pytest.mark.parametrize("what", BUSY)
@pytest.mark.parametrize(
    ("signum", "env"),
    [(signal.SIGKILL, {}), (signal.SIGKILL, NO_SNAPSHOTS), (signal.SIGTERM, {})],
    ids=["SIGKILL", "SIGKILL without snapshots", "SIGTERM"],
)
def test_a_worker_ends_with_its_parent_whatever_it_is_at(
    start: Start, tmp_path: Path, what: str, env: dict[str, str], signum: int
) -> None:
    session = start("worker", env=env)
    session.run("x = 1")
    started = tmp_path / "started"
    session.send({"code": f"open({str(started)!r}, 'w').close()\n{BUSY[what]}"})
    wait_until(started.exists)
    if what == "waiting for a child":
        wait_until(lambda: any(process.name() == "sleep" for process in _descendants(session.pid)))
    family = _descendants(session.pid)
    assert family
    session.process.send_signal(signum)
    assert session.wait() == -signum
    try:
        _are_gone(family)
    finally:
        for process in family:
            if not _is_gone(process):
                process.kill()


def test_a_worker_that_is_starting_ends_with_its_parent(start: Start) -> None:
    for _ in range(10):
        session = start("worker")
        family = wait_until(lambda: _descendants(session.pid))  # noqa: B023
        session.process.kill()
        _are_gone(family)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("code", ["while True: pass", "import time; time.sleep(600)"])
def test_a_local_session_ends_with_the_signal_that_asks_it_to(
    local: Session, tmp_path: Path, signum: int, code: str
) -> None:
    local.send({"code": f"open({str(tmp_path / 'started')!r}, 'w').close()\n{code}"})
    wait_until((tmp_path / "started").exists)
    local.process.send_signal(signum)
    assert local.wait() == -signum


REFUSING = "import time\nwhile True:\n try:\n  while True: time.sleep(0.01)\n except BaseException: pass"


@pytest.mark.parametrize("code", ["while True: pass", REFUSING], ids=["willing", "refusing"])
def test_a_closed_stdout_ends_the_code_and_the_session(session: Session, tmp_path: Path, code: str) -> None:
    session.send({"code": f"open({str(tmp_path / 'started')!r}, 'w').close()\n{code}"})
    wait_until((tmp_path / "started").exists)
    assert session.process.stdout is not None
    session.process.stdout.close()
    session.wait()


# -- the end of stdin --------------------------------------------------------------------------------------------------


def test_code_that_runs_when_stdin_ends_is_finished_and_answered(session: Session, tmp_path: Path) -> None:
    go = tmp_path / "go"
    wait = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.005)\n'done'"
    session.send({"code": wait}, {"code": "6 * 7"})
    session.close_stdin()
    assert session.process.poll() is None
    go.touch()
    assert [session.read()["result"], session.read()["result"], session.read()] == ["'done'", "42", None]
    assert session.wait() == 0


@pytest.mark.parametrize("how", ["the end of stdin", "shutdown", "restart"])
def test_handlers_of_atexit_run_at_the_end(session: Session, tmp_path: Path, how: str) -> None:
    if how == "restart" and session.backend == "local":
        pytest.skip("a local session restarts in the same process")
    file = tmp_path / "bye"
    session.run(f"import atexit; atexit.register(lambda: open({str(file)!r}, 'w').write('bye'))")
    if how != "the end of stdin":
        session.ask(how)
    if how != "restart":
        assert session.finish()[2] == 0
    assert file.read_text() == "bye"


def test_what_atexit_handlers_print_is_told_on_stderr(session: Session) -> None:
    session.run("import atexit; atexit.register(print, 'last words')")
    _, errors, status = session.finish()
    assert "last words" in errors and status == 0


@pytest.mark.parametrize(
    "code",
    [
        "import threading, time; threading.Thread(target=time.sleep, args=[600]).start()",
        "import threading\ndef spin():\n while True: pass\nthreading.Thread(target=spin).start()",
        "import atexit, time; atexit.register(time.sleep, 600)",
        "import atexit, itertools; atexit.register(lambda: any(itertools.repeat(0)))",
    ],
    ids=["a thread that sleeps", "a thread that spins", "a handler that sleeps", "a handler that never lets go"],
)
def test_what_never_ends_does_not_keep_the_session_for_ever(session: Session, code: str) -> None:
    if session.backend == "local" and "itertools" in code:
        pytest.skip("nothing can end C code in the session's own process but a kill from outside")
    session.run(code)
    answers, _, status = session.finish()
    assert (answers, status) == ([], 0)


def test_a_stopped_worker_does_not_keep_the_session_for_ever(worker: Session) -> None:
    worker.run("x = 1")
    os.kill(worker.ask("status")["worker"]["pid"], signal.SIGSTOP)
    assert worker.finish()[2] == 0


# -- many requests -----------------------------------------------------------------------------------------------------


def _memory(session: Session) -> int:
    """Resident bytes of a session and its worker."""
    worker = session.ask("status")["worker"]
    pids = [session.pid, *([worker["pid"]] if worker and worker["pid"] else [])]
    return sum(psutil.Process(pid).memory_info().rss for pid in pids)


def _pipe_in(session: Session, many: int) -> None:
    """Send many requests in one go, while their answers are read."""
    before = int(session.value("n"))
    lines = b"".join(b'{"id":%d,"code":"n += 1; n"}\n' % number for number in range(many))
    writer = threading.Thread(target=session.write, args=[lines])
    writer.start()
    for number in range(many):
        answer = session.read()
        assert (answer["id"], answer["result"]) == (number, str(before + number + 1))
    writer.join()


def test_ten_thousand_requests_piped_in_one_go_are_answered_in_order_and_memory_is_bounded(
    start: Start, backend: str
) -> None:
    session = start(backend, env=NO_SNAPSHOTS)
    session.run("n = 0")
    _pipe_in(session, 10_000)
    before = _memory(session)
    _pipe_in(session, 4_000)
    assert _memory(session) - before < 4 << 20
    assert session.finish() == ([], "", 0)


def test_copies_of_a_worker_do_not_grow_over_many_requests(worker: Session) -> None:
    worker.run("n = 0")
    _pipe_in(worker, 200)
    before = _quiet(worker, "n = 0")
    _pipe_in(worker, 600)
    zombies, descendants, files = _quiet(worker, "n = 0")
    assert zombies == 0
    assert descendants <= before[1] + 1 and files <= before[2] + 2, f"before: {before}"


# -- in somebody else's program ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["pass", "sys.exit(0)", "1 / 0", "os._exit(0)", "os.kill(os.getpid(), 9)"])
def test_a_worker_ends_with_the_program_that_imported_us(start: Start, ending: str) -> None:
    code = (
        f"import os, sys; sys.path.insert(0, {str(HOME)!r})\n"
        "from json_repl_session import execute_code\n"
        "print(execute_code('__import__(\"os\").getpid()')['result'], flush=True)\n"
        f"sys.stdin.readline()\n{ending}"
    )
    program = start("worker", command=[sys.executable, "-c", code])
    worker = psutil.Process(int(program.read_line()))
    program.write(b"\n")
    program.wait()
    _are_gone([worker])


def test_what_the_importing_program_started_itself_is_left_alone_when_a_worker_dies(start: Start) -> None:
    code = f"""
import subprocess, sys; sys.path.insert(0, {str(HOME)!r})
children = [subprocess.Popen(['sleep', '600'], start_new_session=new) for new in (False, True)]
from json_repl_session import execute_code
execute_code("import os, subprocess; subprocess.Popen(['sleep', '600'])")
print(execute_code("os.abort()")['reason'], flush=True)
for n in range(100): execute_code("import time; time.sleep(0.01)")
print([child.poll() for child in children], flush=True)
for child in children: child.kill()
"""
    program = start("worker", command=[sys.executable, "-c", code])
    assert program.read_line() == b"crash"
    assert program.read_line() == b"[None, None]"
    assert program.wait() == 0
