"""Every way in which a worker can fail, at every moment: each request gets one answer, and a true one."""

from __future__ import annotations

import fcntl
import os
import signal
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from harness import Lasting, Session, impatient, wait_until

Start = Callable[..., Session]
LARGER_THAN_A_PIPE = 200_000  # bytes
PATIENT = 25  # seconds
SNAPSHOTS = ("auto", "off")

# Holds the interpreter where no signal reaches it.
HANG = "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()); libc.sleep(600)"
# How it fails, and in the answer to a request that runs at that moment: reason, signal, exit status.
HOWS: dict[str, tuple[str, tuple[str, str | None, int | None]]] = {
    "exit": ("os._exit(9)", ("crash", None, 9)),
    "signal": ("os.kill(os.getpid(), signal.SIGSEGV)", ("crash", "SIGSEGV", None)),
    "kill": ("os.kill(os.getpid(), signal.SIGKILL)", ("crash", "SIGKILL", None)),
    "exception": ("raise RuntimeError('fault')", ("exception", None, None)),
    "hang": (
        "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()); libc.sleep(600)",
        ("timeout", None, None),
    ),
}

# What a cell's session begins with. A thread waits until `fifo` is opened, holds the interpreter from then on, and acts
# when it has read a byte.
SET_UP = """
import ctypes, gc, os, signal, sys, threading, time
libc = ctypes.PyDLL(None)
sys.setswitchinterval(1000)
gc.disable()
seen = ["base"]
def fault(*args): {fault}
class Shown:
    def __repr__(self): fault(); return "shown"
class Bomb:
    def __init__(self): self.me = self
    def __del__(self): fault()
def act(): {act}
def wait():
    fd = os.open({fifo!r}, os.O_RDONLY)
    libc.creat({held!r}.encode(), 0o600)
    libc.read(fd, ctypes.create_string_buffer(1), 1)
    act()
{more}
"""
THREAD = "threading.Thread(target=wait, daemon=True).start()"
NOTE = "globals().setdefault('seen', []).append({!r})\n"


class Cell(NamedTuple):
    """One cell of the matrix."""

    moment: str
    how: str
    size: int
    snapshots: str

    def __str__(self) -> str:
        return f"{self.how}, {self.moment}, {'large' if self.size else 'small'}, {self.snapshots}"

    @property
    def when(self) -> str:
        """It fails "before" the request is begun, "during" it, or "after" it is answered."""
        if self.moment == "while the answer is written":
            return "during" if self.size and self.how in ("exit", "signal", "kill") else "after"
        return MOMENTS[self.moment][0]


def _idle(run: Run) -> None:
    run.begin("signal.signal(signal.SIGUSR1, fault)")
    os.kill(run.worker, signal.SIGUSR1)
    if run.cell.how == "hang":
        wait_until(run.is_asleep)
    run.send_case()


def _reading(run: Run) -> None:
    """Of a small request nothing was read when it fails, of a large one a part."""
    run.begin(THREAD)
    if not run.cell.size:
        with run.holding() as trigger:
            run.send_case()
            run.await_busy()
            if run.cell.how != "hang":
                trigger()
            run.read_case()
        return
    read_before = _read_bytes(run.worker)
    with run.stopped(run.worker):
        run.send_case()
        run.await_busy()
        os.kill(run.session.pid, signal.SIGSTOP)
        wait_until(lambda: _status(run.session.pid) == psutil.STATUS_STOPPED)
    with run.stopped(run.session.pid):
        wait_until(lambda: _read_bytes(run.worker) > read_before + 4096)
        assert _read_bytes(run.worker) < read_before + run.cell.size
        run.trigger()


def _in_code(run: Run) -> None:
    run.begin()
    run.send_case("fault()")


def _in_repr(run: Run) -> None:
    run.begin()
    run.send_case("Shown()")


def _writing(run: Run) -> None:
    """Of a small answer all was written when it fails, of a large one a part."""
    run.begin(THREAD)
    begun, go = run.folder / "begun", run.folder / "go"
    run.send_case(
        f"open({str(begun)!r}, 'w').close()\n"
        f"while not os.path.exists({str(go)!r}): time.sleep(0.005)\n'y' * {run.cell.size}"
    )
    wait_until(begun.exists)
    with run.stopped(run.session.pid):
        go.touch()
        wait_until(run.is_asleep)
        run.trigger()


def _collected(run: Run) -> None:
    run.begin(THREAD, act="gc.collect()")
    run.send_case("Bomb() and None")
    run.await_answer()
    run.trigger()


def _in_a_thread(run: Run) -> None:
    run.begin(THREAD)
    run.send_case()
    run.await_answer()
    run.trigger()


def _at_exit(run: Run) -> None:
    run.begin("import atexit; atexit.register(fault)")
    run.send_case()
    run.read_case()
    assert run.session.ask("restart")["epoch"] > run.epoch
    run.entries.clear()


MOMENTS: dict[str, tuple[str, Callable[[Run], None]]] = {
    "idle": ("before", _idle),
    "while the request is read": ("before", _reading),
    "in user code": ("during", _in_code),
    "in repr": ("during", _in_repr),
    "while the answer is written": ("", _writing),
    "in garbage that is collected after it": ("after", _collected),
    "in a thread after it": ("after", _in_a_thread),
    "in a handler of atexit": ("never", _at_exit),
}
CELLS = [Cell(*cell) for cell in product(MOMENTS, HOWS, (0, LARGER_THAN_A_PIPE), SNAPSHOTS)]


class Run:
    """One cell in a session, and what is known of the session's state."""

    def __init__(self, cell: Cell, session: Session, folder: Path) -> None:
        self.cell, self.session, self.folder = cell, session, folder
        self.entries: list[str] = ["base"]  # what `seen` has to be
        self._executions: dict[str, str] = {}  # e.g. {"e7": "case"}
        self._answers: dict[str, Any] = {}
        self._fifo = folder / "fifo"

    def begin(self, more: str = "", act: str = "fault()") -> None:
        """Begin with an empty session."""
        os.mkfifo(self._fifo)
        self.session.ask("reset")
        values = {"fault": HOWS[self.cell.how][0], "fifo": str(self._fifo), "held": str(self.folder / "held")}
        code = SET_UP.format(**values, act=act, more=more)
        answer = self.session.keep(code) if self.cell.snapshots == "auto" else self.session.run(code)
        assert answer["status"] == "ok", answer["stderr"]
        self.epoch = answer["session_state"]["epoch"]
        self.names = {found["name"] for found in self.session.ask("variables")["variables"]}
        self.worker = self.session.ask("status")["worker"]["pid"]

    def send(self, name: str, code: str = "", *, hangs: bool = False) -> None:
        """Send a request whose code first notes that it has run; both it and its output have the cell's size."""
        size = self.cell.size
        code = f"{NOTE.format(name)}print('x' * {size})\n{code}\n#{'-' * size}"
        self.session.send({"id": name, "code": code, "timeout": 0.1 if hangs else PATIENT})

    def send_case(self, code: str = "") -> None:
        """Send the request that the cell is about."""
        self.send("case", code, hangs=self.cell.how == "hang" and self.cell.when in ("before", "during"))

    def read(self, name: str) -> Any:
        """The next answer, which must be that to request `name` and true to what is known."""
        if name in self._answers:
            return self._answers[name]
        answer = self._answers[name] = self.session.read()
        assert answer["id"] == name, answer
        self._executions[answer["execution_id"]] = name
        state = answer["session_state"]
        if state["state"] == "lost":
            assert (set(state["lost_names"]), state["lost_count"]) == (self.names, len(self.names))
            self.entries.clear()
            self.names = {"seen"}
        for undone in state["undone"]:
            self.entries.remove(self._executions[undone])
        self.epoch += state["state"] != "kept"
        assert (answer["reason"] is None) == (answer["status"] == "ok") == (answer["error"] is None)
        has_run = answer["reason"] in (None, "exception")
        if has_run:
            self.entries.append(name)
            assert answer["stdout"] == "x" * self.cell.size + "\n"
        else:
            assert answer["stdout"] in ("", "x" * self.cell.size + "\n") and state["state"] != "kept"
        assert (answer["backend"], answer["fallback"]) == ("worker", None)
        return answer

    def read_case(self) -> Any:
        """The answer to the request that the cell is about."""
        return self.read("case")

    def await_answer(self) -> None:
        """Until the case is answered, and the state after it is kept, if any is."""
        execution = self.read_case()["execution_id"]
        wait_until(lambda: self.cell.snapshots == "off" or execution in self.session.kept())

    def await_busy(self) -> None:
        """Until the request that was sent is handed over."""
        wait_until(lambda: self.session.ask("session/list")["sessions"][0]["state"] == "busy")

    def is_asleep(self) -> bool:
        """The worker's main thread sits in a call, and stays there."""
        return _is_asleep(self.worker)

    @contextmanager
    def stopped(self, pid: int) -> Iterator[None]:
        """A process does not go on meanwhile."""
        os.kill(pid, signal.SIGSTOP)
        try:
            wait_until(lambda: _status(pid) == psutil.STATUS_STOPPED)
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    @contextmanager
    def holding(self) -> Iterator[Callable[[], object]]:
        """The worker's thread holds the interpreter; yields what lets it act."""
        fd = wait_until(lambda: _open_for_writing(self._fifo))
        try:
            wait_until((self.folder / "held").exists)
            yield lambda: os.write(fd, b"!")
        finally:
            os.close(fd)

    def trigger(self) -> None:
        """Have the worker's thread act, and wait until it has."""
        with self.holding() as act:
            act()
            if self.cell.how in ("exit", "signal", "kill"):
                wait_until(lambda: _status(self.worker) in (None, psutil.STATUS_ZOMBIE))


def _open_for_writing(fifo: Path) -> int | None:
    try:
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:  # nobody reads yet
        return None


def _status(pid: int) -> str | None:
    try:
        return psutil.Process(pid).status()
    except psutil.NoSuchProcess:
        return None


def _is_asleep(pid: int) -> bool:
    return {_status(pid) for _ in range(200)} == {psutil.STATUS_SLEEPING}


def _read_bytes(pid: int) -> int:
    return int(psutil.Process(pid).io_counters().read_chars)


@pytest.fixture(scope="module")
def lasting() -> Iterator[dict[str, Lasting]]:
    found = {name: Lasting("worker", **impatient({"JSON_REPL_SNAPSHOTS": name})) for name in SNAPSHOTS}
    yield found
    for each in found.values():
        each.end()


@pytest.mark.parametrize("cell", CELLS, ids=str)
def test_a_request_and_those_that_follow_are_answered_once_and_truly(
    lasting: dict[str, Lasting], tmp_path: Path, cell: Cell
) -> None:
    session = lasting[cell.snapshots].session()
    run = Run(cell, session, tmp_path)
    try:
        MOMENTS[cell.moment][1](run)
        case = run.read_case()
        run.send("next", hangs=cell.how == "hang" and cell.when == "after")
        following = run.read("next")
        run.send("last", "def fault(*args): pass")
        last = run.read("last")
        look = session.run("seen")
        assert session.ask("ping", id="ping")["id"] == "ping"
    except BaseException:
        session.process.kill()
        raise
    assert look["result"] == str(run.entries)
    _check_reasons(cell, case, following)
    _check_states(cell, case, following)
    assert (last["reason"], last["session_state"]["state"]) == (None, "kept")
    if cell.how == "exception" and cell.moment != "in a handler of atexit":
        answers = [case, following, last, look]

        def is_told() -> bool:  # a thread prints its traceback piece by piece, between requests and during them
            answers.append(session.run("0"))
            return "RuntimeError: fault" in "".join(answer["late_output"] + answer["stderr"] for answer in answers)

        wait_until(is_told)


@pytest.mark.parametrize("snapshots", SNAPSHOTS)
def test_a_worker_that_is_killed_while_nobody_reads_its_answer_costs_no_answer(start: Start, snapshots: str) -> None:
    session = start("worker", env={"JSON_REPL_SNAPSHOTS": snapshots})
    session.run("x = 41")
    worker = session.ask("status")["worker"]["pid"]
    session.send({"id": "case", "code": f"'y' * {20 * LARGER_THAN_A_PIPE}", "max_output_bytes": 1 << 23})
    assert session.process.stdout is not None
    waiting = partial(fcntl.ioctl, session.process.stdout, termios.FIONREAD, bytes(4))
    wait_until(lambda: int.from_bytes(waiting(), "little") > 4096 and _is_asleep(session.pid) and _is_asleep(worker))
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: _status(worker) == psutil.STATUS_ZOMBIE)
    session.send({"id": "next", "code": "globals().get('x')"})
    case, following = session.read(), session.read()
    assert (case["id"], len(case["result"]), case["attempts"]) == ("case", 20 * LARGER_THAN_A_PIPE + 2, 1)
    assert (following["id"], following["result"]) == ("next", "41" if snapshots == "auto" else None)
    state = following["session_state"]
    expected = ("restored", [], []) if snapshots == "auto" else ("lost", [], ["x"])
    assert (state["state"], state["undone"], state["lost_names"]) == expected


def _check_reasons(cell: Cell, case: Any, following: Any) -> None:
    """What the answers say of the fault."""
    hit: Any = None
    runs_again = cell.how == "kill" and cell.snapshots == "auto" and cell.when == "during"
    if cell.when == "during" and not (runs_again and cell.moment == "while the answer is written"):
        hit = case
    elif cell.how == "hang" and cell.when != "never":
        hit = following if cell.when == "after" else case
    for answer in (case, following):
        error = answer["error"] or {}
        found = (answer["reason"], error.get("signal"), error.get("exit_status"))
        assert found == (HOWS[cell.how][1] if answer is hit else (None, None, None)), answer["stderr"]
    attempts = 1 if not runs_again else 4 if hit else 2
    assert (case["attempts"], following["attempts"]) == (attempts, 1)


def _check_states(cell: Cell, case: Any, following: Any) -> None:
    """A loss is told once, by the first answer that comes after it, and as the setting promises."""
    expected = ["kept", "kept"]
    if cell.how != "exception" and cell.when != "never":
        expected[cell.when == "after"] = "restored" if cell.snapshots == "auto" else "lost"
    states = [answer["session_state"] for answer in (case, following)]
    assert [state["state"] for state in states] == expected
    # What hangs as soon as its answer is there leaves no time for a copy.
    may_be_undone = cell.how == "hang" and cell.moment == "while the answer is written"
    assert [state["undone"] for state in states] == [[], []] or may_be_undone
