"""User code runs as if nobody ever made copies of its process: the same table with snapshots always, auto and off."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import Lasting, Session, wait_until

Start = Callable[..., Session]
WARN = "default::DeprecationWarning"  # also of modules that are not the user's
SETTINGS = ("always", "auto", "off")

# Every case begins with this, in a folder of its own.
SET_UP = """
import asyncio, fcntl, mmap, multiprocessing, os, random, select, signal, socket, sqlite3, subprocess, sys, tempfile
import threading, time
def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end: raise TimeoutError
        time.sleep(0.001)
def elsewhere(code):
    return subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL).returncode
"""
NOTHING = ("0", "0")  # a request in between, after which there is one copy more
LOCK = "\"import fcntl; fcntl.{0}(open('lock', 'w'), fcntl.LOCK_EX | fcntl.LOCK_NB)\""

# What is done, in requests of (code, its result).
CASES: dict[str, list[tuple[str, str | None]]] = {
    "waiting without children": [
        *[("try: os.wait()\nexcept ChildProcessError: x = 'none'\nx", "'none'")] * 2,
        ("try: os.waitpid(-1, os.WNOHANG)\nexcept ChildProcessError: x = 'no child'\nx", "'no child'"),
    ],
    "waiting for a child of an earlier request": [
        ("pid = os.fork()\nif not pid: os._exit(7)", None),
        NOTHING,
        ("found, status = os.wait(); found == pid, os.waitstatus_to_exitcode(status)", "(True, 7)"),
        ("try: os.wait()\nexcept ChildProcessError: x = 'none'\nx", "'none'"),
    ],
    "a handler of SIGCHLD": [
        (
            "seen = []\ndef handler(*_):\n    try: seen.append(os.waitpid(-1, os.WNOHANG)[0])\n"
            "    except ChildProcessError: seen.append('nobody')\n_ = signal.signal(signal.SIGCHLD, handler)",
            None,
        ),
        *[NOTHING] * 3,
        ("seen", "[]"),
        ("pid = os.fork()\nif not pid: os._exit(0)\nuntil(lambda: seen)\nseen == [pid]", "True"),
        *[NOTHING] * 3,
        ("seen == [pid]", "True"),
    ],
    "SIGCHLD that is ignored": [
        ("_ = signal.signal(signal.SIGCHLD, signal.SIG_IGN)", None),
        *[NOTHING] * 2,
        ("signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN", "True"),
        ("try: os.wait()\nexcept ChildProcessError: x = 'none'\nx", "'none'"),
    ],
    "a wake-up file of signals": [
        (
            "r, w = os.pipe2(os.O_NONBLOCK); _ = signal.set_wakeup_fd(w)\n"
            "for name in ('SIGCHLD', 'SIGUSR1'): _ = signal.signal(signal.Signals[name], lambda *_: None)",
            None,
        ),
        *[NOTHING] * 2,
        ("signal.raise_signal(signal.SIGUSR1); list(os.read(r, 9)) == [signal.SIGUSR1]", "True"),
        ("signal.set_wakeup_fd(-1) == w", "True"),
    ],
    "a pool of processes": [
        ("def double(n): return 2 * n\npool = multiprocessing.get_context('fork').Pool(2)", None),
        ("pool.map(double, range(5))", "[0, 2, 4, 6, 8]"),
        NOTHING,
        ("pool.map(double, range(3))", "[0, 2, 4]"),
        ("pool.close(), pool.join()", "(None, None)"),
    ],
    "a process and a queue": [
        (
            "fork = multiprocessing.get_context('fork'); queue = fork.Queue()\n"
            "process = fork.Process(target=queue.put, args=['hello']); process.start()",
            None,
        ),
        ("queue.get(timeout=20), process.join(20), process.exitcode", "('hello', None, 0)"),
        ("queue.close(), queue.join_thread()", "(None, None)"),
    ],
    "pipes to a command": [
        ("p = subprocess.Popen('cat', stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)", None),
        ("p.stdin.write('one\\n'), p.stdin.flush(), p.stdout.readline()", "(4, None, 'one\\n')"),
        ("p.communicate('two\\n', timeout=20), p.returncode", "(('two\\n', None), 0)"),
    ],
    "pipes to a command of the event loop": [
        ("pipe = subprocess.PIPE; p = await asyncio.create_subprocess_exec('cat', stdin=pipe, stdout=pipe)", None),
        NOTHING,
        ("await asyncio.wait_for(p.communicate(b'two'), 20), p.returncode", "((b'two', None), 0)"),
    ],
    "the end of a pipe": [
        ("r, w = os.pipe()", None),
        ("os.write(w, b'x'), os.close(w), os.read(r, 9), os.read(r, 9)", "(1, None, b'x', b'')"),
    ],
    "a pipe that nobody reads any more": [
        ("r, w = os.pipe()", None),
        ("os.close(r)\ntry: os.write(w, b'x')\nexcept BrokenPipeError: x = 'broken'\nx", "'broken'"),
    ],
    "the end of a socket": [("a, b = socket.socketpair()", None), ("a.close(), b.recv(9)", "(None, b'')")],
    "the end of a terminal": [
        ("a, b = os.openpty()", None),
        ("os.close(b)\ntry: os.read(a, 9)\nexcept OSError as error: x = error.errno\nx", "5"),
    ],
    "a port that is closed and opened again": [
        ("s = socket.create_server(('127.0.0.1', 0)); here = s.getsockname()", None),
        ("s.close(); s = socket.socket(); s.bind(here); s.listen()", None),
        ("socket.create_connection(here).close()\nwith s.accept()[0] as c: x = c.recv(9)\nx, s.close()", "(b'', None)"),
    ],
    "a port that is closed": [
        ("s = socket.create_server(('127.0.0.1', 0)); here = s.getsockname()", None),
        (
            "s.close()\ntry: socket.create_connection(here)\nexcept ConnectionRefusedError: x = 'refused'\nx",
            "'refused'",
        ),
    ],
    **{
        f"a lock of {call}": [
            (f"f = open('lock', 'w'); fcntl.{call}(f, fcntl.LOCK_EX)", None),
            (f"elsewhere({LOCK.format(call)})", "1"),
            (f"f.close(); f = open('lock', 'w'); fcntl.{call}(f, fcntl.LOCK_EX | fcntl.LOCK_NB)", None),
            (f"f.close(); elsewhere({LOCK.format(call)})", "0"),
        ]
        for call in ("flock", "lockf")
    },
    "a half-read file": [
        ("open('f', 'w').write('one\\ntwo\\nthree\\n' + 'x' * 100_000); f = open('f'); f.readline()", "'one\\n'"),
        ("f.readline()", "'two\\n'"),
        ("f.readline(), len(f.read())", "('three\\n', 100000)"),
    ],
    "a half-read file descriptor": [
        ("open('f', 'w').write('onetwothree'); f = os.open('f', os.O_RDONLY); os.read(f, 3)", "b'one'"),
        ("os.read(f, 3)", "b'two'"),
        ("os.read(f, 9), os.close(f)", "(b'three', None)"),
    ],
    "a temporary file": [
        ("f = tempfile.NamedTemporaryFile(); f.write(b'one')", "3"),
        NOTHING,
        ("f.write(b'two'), f.flush(), os.path.getsize(f.name)", "(3, None, 6)"),
        ("f.close(), os.path.exists(f.name)", "(None, False)"),
    ],
    "a temporary folder": [
        ("f = tempfile.TemporaryDirectory()", None),
        NOTHING,
        ("os.path.isdir(f.name), f.cleanup(), os.path.isdir(f.name)", "(True, None, False)"),
    ],
    "the dice": [
        ("random.seed(5); [random.random(), random.random()]", "DICE"),
        ("[random.random(), random.random()]", "DICE"),
        ("state = random.getstate()", None),
        ("state == random.getstate()", "True"),
    ],
    "the number of the process and of its threads": [
        ("ids = os.getpid(), os.getppid(), os.getpgid(0), os.getsid(0), threading.get_native_id()", None),
        NOTHING,
        ("ids == (os.getpid(), os.getppid(), os.getpgid(0), os.getsid(0), threading.get_native_id())", "True"),
        ("threading.active_count(), threading.current_thread() is threading.main_thread()", "(1, True)"),
    ],
    "a thread": [
        (
            "n, stop = 0, threading.Event()\ndef count():\n    global n\n    while not stop.wait(0.001): n += 1\n"
            "t = threading.Thread(target=count); t.start()",
            None,
        ),
        ("until(lambda: n > 9)", None),
        ("before = n; until(lambda: n > before + 9)", None),
        ("t.is_alive(), threading.active_count(), stop.set(), t.join(), t.is_alive()", "(True, 2, None, None, False)"),
    ],
    "a thread that waits for a lock": [
        ("lock = threading.Lock(); lock.acquire(); t = threading.Thread(target=lock.acquire); t.start()", None),
        NOTHING,
        ("t.is_alive(), lock.release(), t.join(20), t.is_alive(), lock.locked()", "(True, None, None, False, True)"),
    ],
    "a timer that rings again and again": [
        ("rings = []; _ = signal.signal(signal.SIGALRM, lambda *_: rings.append(1))", None),
        ("_ = signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)", None),
        *[("before = len(rings); until(lambda: len(rings) > before + 3)", None)] * 2,
        ("_ = signal.setitimer(signal.ITIMER_REAL, 0)", None),
        ("signal.getitimer(signal.ITIMER_REAL)", "(0.0, 0.0)"),
    ],
    "a timer that rings once": [
        ("rings = []; _ = signal.signal(signal.SIGALRM, lambda *_: rings.append(1))", None),
        ("_ = signal.setitimer(signal.ITIMER_REAL, 0.02)", None),
        NOTHING,
        ("until(lambda: rings)", None),
        ("rings", "[1]"),
    ],
    "signals that are blocked": [
        ("_ = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1}); os.kill(os.getpid(), signal.SIGUSR1)", None),
        NOTHING,
        ("signal.sigpending() == {signal.SIGUSR1} == signal.pthread_sigmask(signal.SIG_BLOCK, ())", "True"),
        ("signal.sigwait({signal.SIGUSR1}) == signal.SIGUSR1", "True"),
    ],
    "memory shared with a child": [
        ("m = mmap.mmap(-1, 8); r, w = os.pipe()", None),
        ("pid = os.fork()\nif not pid: os.read(r, 1); m[:3] = b'abc'; os._exit(0)", None),
        ("os.write(w, b'x'), os.waitpid(pid, 0)[0] == pid, m[:3]", "(1, True, b'abc')"),
    ],
    "memory that has a name": [
        ("from multiprocessing.shared_memory import SharedMemory; m = SharedMemory(create=True, size=8)", None),
        ("n = SharedMemory(m.name); n.buf[0] = 7; m.buf[0], n.close()", "(7, None)"),
        ("m.close(), m.unlink(), os.path.exists('/dev/shm/' + m.name)", "(None, None, False)"),
    ],
    "an epoll": [
        ("r, w = os.pipe(); e = select.epoll(); e.register(r, select.EPOLLIN)", None),
        ("os.write(w, b'x'), e.poll(0) == [(r, select.EPOLLIN)]", "(1, True)"),
        ("os.close(r), os.close(w), e.poll(0)", "(None, None, [])"),
        ("r, w = os.pipe(); e.register(w, select.EPOLLOUT), e.poll(0) == [(w, select.EPOLLOUT)]", "(None, True)"),
    ],
    "an eventfd": [
        ("import ctypes; libc = ctypes.CDLL(None); e = os.eventfd(0)", None),
        ("os.eventfd_write(e, 3)", None),
        ("os.eventfd_read(e)", "3"),
    ],
    "an inotify": [
        ("import ctypes; libc = ctypes.CDLL(None); i = libc.inotify_init1(os.O_NONBLOCK)", None),
        ("libc.inotify_add_watch(i, b'.', 0x100)", "1"),
        ("open('new', 'w').close(); os.read(i, 99)[16:19]", "b'new'"),
    ],
    "a transaction in a database": [
        (
            "d = sqlite3.connect('db'); _ = d.execute('create table t(n)'); d.commit()\n"
            "count = lambda: sqlite3.connect('db').execute('select count(*) from t').fetchall()[0][0]",
            None,
        ),
        ("_ = d.execute('insert into t values(1)'); d.in_transaction, count()", "(True, 0)"),
        ("elsewhere(\"import sqlite3; sqlite3.connect('db', 0).execute('insert into t values(2)')\")", "1"),
        ("d.in_transaction, d.commit(), count(), d.execute('select n from t').fetchall()", "(True, None, 1, [(1,)])"),
        (
            "d.close(), elsewhere(\"import sqlite3; sqlite3.connect('db', 0).execute('insert into t values(2)')\")",
            "(None, 0)",
        ),
    ],
    "a file that the event loop watches": [
        ("r, w = os.pipe(); got = []; loop = asyncio.get_running_loop(); await asyncio.sleep(0)", None),
        ("loop.add_reader(r, lambda: got.append(os.read(r, 9)))", None),
        ("os.write(w, b'x'); await asyncio.sleep(0.01); got", "[b'x']"),
        ("loop.remove_reader(r), os.write(w, b'y'), await asyncio.sleep(0.01), got", "(True, 1, None, [b'x'])"),
    ],
}


@pytest.fixture(scope="module")
def lasting() -> Iterator[dict[str, Lasting]]:
    found = {name: Lasting("worker", env={"JSON_REPL_SNAPSHOTS": name, "PYTHONWARNINGS": WARN}) for name in SETTINGS}
    yield found
    for each in found.values():
        each.end()


@pytest.mark.parametrize("snapshots", SETTINGS)
@pytest.mark.parametrize("what", CASES)
def test_nothing_is_different_from_a_session_without_copies(
    lasting: dict[str, Lasting], tmp_path: Path, what: str, snapshots: str
) -> None:
    session = lasting[snapshots].session()
    session.ask("reset")
    session.run(f"{SET_UP}\nos.chdir({str(tmp_path)!r})")
    dice = random.Random(5)
    for code, expected in CASES[what]:
        answer = session.run(code, timeout=25)
        assert answer["status"] == "ok", (code, answer["stderr"])
        wanted = str([dice.random(), dice.random()]) if expected == "DICE" else expected
        # Python 3.12 on warns user code that forks while it has threads; of our forks it shall say nothing.
        found = [answer["stderr"], answer["late_output"]] if "pool" not in what else ["", ""]
        assert (answer["result"], found) == (wanted, ["", ""]), code
        assert answer["session_state"]["state"] == "kept"


@pytest.mark.parametrize("snapshots", SETTINGS)
def test_tasks_go_on_between_requests(start: Start, snapshots: str) -> None:
    session = start("worker", env={"JSON_REPL_SNAPSHOTS": snapshots})
    session.run(
        "import asyncio\nticks = 0\nasync def tick():\n    global ticks\n"
        "    while True: await asyncio.sleep(0.001); ticks += 1\n"
        "task = asyncio.create_task(tick()); await asyncio.sleep(0)"
    )
    for _ in range(3):
        before = int(session.value("ticks"))
        wait_until(lambda: int(session.value("ticks")) > before + 20)  # noqa: B023
    assert session.value("task.done(), len(asyncio.all_tasks(task.get_loop()))") == "(False, 1)"


@pytest.mark.parametrize("snapshots", SETTINGS)
def test_what_is_done_at_the_end_is_done_once_and_at_the_end(start: Start, tmp_path: Path, snapshots: str) -> None:
    session = start("worker", env={"JSON_REPL_SNAPSHOTS": snapshots}, cwd=tmp_path)
    session.run(
        "import atexit, tempfile, weakref\nclass C: pass\nc = C(); note = open('notes', 'a', buffering=1).write\n"
        "atexit.register(note, 'atexit '); weakref.finalize(c, note, 'finalize ')\n"
        "unflushed = open('unflushed', 'w'); unflushed.write('once'); folder = tempfile.TemporaryDirectory(dir='.')"
    )
    for _ in range(12):  # more than are kept, so that some copies end
        session.run("0")
    left = {path.name for path in tmp_path.iterdir()}
    assert len(left) == 3 and {"notes", "unflushed"} < left
    assert [(tmp_path / name).read_text() for name in ("notes", "unflushed")] == ["", ""]
    answers, _, status = session.finish()
    assert (answers, status) == ([], 0)
    assert sorted((tmp_path / "notes").read_text().split()) == ["atexit", "finalize"]
    assert (tmp_path / "unflushed").read_text() == "once"
    assert {path.name for path in tmp_path.iterdir()} == {"notes", "unflushed"}


@pytest.mark.parametrize("snapshots", SETTINGS)
@pytest.mark.parametrize("warnings", ["always", "error"])
def test_python_warns_nobody_of_copies_that_are_made_while_threads_run(
    start: Start, snapshots: str, warnings: str
) -> None:
    session = start("worker", env={"JSON_REPL_SNAPSHOTS": snapshots, "PYTHONWARNINGS": warnings})
    session.run(
        "import threading\nthread = threading.Thread(target=threading.Event().wait, daemon=True); thread.start()"
    )
    for _ in range(3):
        answer = session.run("0") if snapshots == "off" else session.keep("0")
        assert (answer["stderr"], answer["late_output"]) == ("", "")
    assert session.value("thread.is_alive(), len(__import__('warnings').filters) > 0") == "(True, True)"
    assert session.finish() == ([], "", 0)
