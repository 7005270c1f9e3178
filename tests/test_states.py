"""State of every kind goes on in every copy of a session, whatever it holds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import Session, wait_until

Start = Callable[..., Session]
ALWAYS = {"JSON_REPL_SNAPSHOTS": "always"}

# kind of state: (what makes it, what goes on from it, what that gives each time)
STATES = {
    "an open generator": ("def g():\n yield from range(9)\nx = g(); next(x)", "next(x)", "1"),
    "a lambda that holds a list": ("x = (lambda seen: lambda: seen.append(1) or len(seen))([0])", "x()", "2"),
    "a held lock": ("import threading; x = threading.Lock(); x.acquire()", "x.locked(), x.release()", "(True, None)"),
    "a held re-entrant lock": ("import threading; x = threading.RLock(); x.acquire()", "x.release()", "None"),
    "a module made by hand": (
        "import sys, types; sys.modules['mine'] = types.ModuleType('mine')\nimport mine; mine.n = 1",
        "exec('mine.n += 1') or __import__('mine').n",
        "2",
    ),
    "a half-read iterator": ("x = iter('abcdef'); next(x)", "next(x)", "'b'"),
    "random's state": ("import random; random.seed(7); random.random()", "random.random()", "0.15084917392450192"),
    "an open asynchronous generator": (
        "async def g():\n for i in range(9): yield i\nx = g(); await x.__anext__()",
        "await x.__anext__()",
        "1",
    ),
    "a coroutine that has not begun": ("async def f(): return 5\nx = f()", "await x", "5"),
    "a context variable": ("import contextvars; x = contextvars.ContextVar('x'); x.set(4)", "x.get()", "4"),
    "the current folder": (
        "import os; os.mkdir('sub'); os.chdir('sub')",
        "os.path.basename(os.getcwd()), os.chdir('/')",
        "('sub', None)",
    ),
    "the environment": ("import os; os.environ['Q'] = '1'", "os.environ.pop('Q')", "'1'"),
    "a signal's handler": (
        "import signal; x = []; signal.signal(signal.SIGUSR1, lambda *_: x.append(1))",
        "signal.raise_signal(signal.SIGUSR1) or x",
        "[1]",
    ),
    "a thread's own value": ("import threading; x = threading.local(); x.n = 3", "vars(x).pop('n')", "3"),
    "a weak reference": ("import weakref\nclass C: pass\nx = C(); y = weakref.ref(x)", "y() is x", "True"),
    "a database in memory": (
        "import sqlite3; x = sqlite3.connect(':memory:'); _ = x.execute('create table t(n)')",
        "x.execute('insert into t values(5)').rowcount, x.execute('select count(*) from t').fetchall()",
        "(1, [(1,)])",
    ),
    "memory of its own": (
        "import mmap; x = mmap.mmap(-1, 8); x[:3] = b'abc'",
        "x.read(3), x.write(b'x')",
        "(b'abc', 1)",
    ),
    "redirected output": (
        "import contextlib, io; x = io.StringIO(); y = contextlib.redirect_stdout(x); y.__enter__(); print('in')",
        "print('on') or y.__exit__(None, None, None), x.getvalue()",
        "(None, 'in\\non\\n')",
    ),
    "a half-read text file": (
        "open('f', 'w').write('one\\ntwo\\nthree\\n'); x = open('f'); x.readline()",
        "x.readline(), x.read()",
        "('two\\n', 'three\\n')",
    ),
    "a half-read file descriptor": (
        "import os; open('f', 'w').write('onetwothree'); x = os.open('f', os.O_RDONLY); os.read(x, 3)",
        "os.read(x, 3)",
        "b'two'",
    ),
    "a file that has no name any more": (
        "import os; x = open('f', 'w+'); os.unlink('f'); x.write('onetwo'); x.seek(3)",
        "x.read()",
        "'two'",
    ),
    "a temporary file": (
        "import tempfile; x = tempfile.TemporaryFile('w+'); x.write('onetwo'); x.seek(3)",
        "x.read()",
        "'two'",
    ),
    "a file that is written": (
        "x = open('f', 'w'); x.write('one'); x.flush()",
        "x.tell(), x.write('two'), x.flush(), open('f').read()",
        "(3, 3, None, 'onetwo')",
    ),
    "what was written and not flushed": (
        "x = open('f', 'w'); x.write('one')",
        "x.write('two'), x.flush(), open('f').read()",
        "(3, None, 'onetwo')",
    ),
    "a file that is appended to": (
        "open('f', 'w').write('one'); x = open('f', 'a')",
        "x.write('+'), x.flush(), open('f').read()[:4]",
        "(1, None, 'one+')",
    ),
    "a live event loop with a task": (
        "import asyncio\nn = 0\nasync def tick():\n global n\n while True: n += 1; await asyncio.sleep(0)\n"
        "x = asyncio.create_task(tick()); await asyncio.sleep(0)",
        "x.done(), (m := n), await asyncio.sleep(0.01), n > m",
        None,
    ),
    "a task that waits for a queue": (
        "import asyncio; x = asyncio.Queue()\nasync def serve():\n while True: (await x.get()).set_result(7)\n"
        "y = asyncio.create_task(serve()); await asyncio.sleep(0)",
        "f = asyncio.get_running_loop().create_future(); x.put_nowait(f); await asyncio.wait_for(f, 20)",
        "7",
    ),
    "a process that has ended": ("import subprocess; x = subprocess.Popen('true'); x.wait()", "x.poll()", "0"),
    "numbers of hashes": ("x = hash('abc')", "x == hash('abc'), hash('abc') == x", "(True, True)"),
}


@pytest.fixture
def kept(start: Start, tmp_path: Path) -> Session:
    """A session that keeps its state after every answer."""
    return start("worker", env=ALWAYS, cwd=tmp_path)


@pytest.mark.parametrize("kind", STATES)
def test_state_of_every_kind_goes_on_in_a_dry_run_in_a_clone_and_after_each_rollback(kept: Session, kind: str) -> None:
    setup, going_on, expected = STATES[kind]
    kept.keep(setup)

    def check(way: str, answer: Any) -> None:
        assert answer["status"] == "ok", (way, answer["stderr"])
        found = str(answer["result"])
        assert found == str(expected) if expected else "False" in found and found.endswith("True)"), (way, found)

    check("a dry run", kept.run(going_on, dry_run=True))
    kept.clone("branch", at="e1")
    check("the session itself", kept.run(going_on))
    for way in ("a rollback", "a second rollback"):
        assert kept.ask("rollback", to="e1")["state"] == "restored"
        check(way, kept.run(going_on))
    check("a clone", kept.run(going_on, session_id="branch"))


def _warning(session: Session) -> str | None:
    answer = session.run("1")
    assert answer["session_state"]["state"] == "kept"
    return answer["session_state"]["warning"]


def test_a_session_with_threads_says_what_a_loss_would_cost(worker: Session, local: Session) -> None:
    code = "import threading; go = threading.Event(); t = threading.Thread(target=go.wait); t.start()"
    for session, words in ((worker, "threads (1) would not come back after a loss of the worker"), (local, None)):
        assert _warning(session) is None
        assert session.run(code)["session_state"]["warning"] == words
        assert _warning(session) == words
        session.run("go.set(); t.join()")
        assert _warning(session) is None


def test_a_session_that_is_too_large_says_so_as_long_as_it_is(worker: Session) -> None:
    worker.run("large = bytes([1]) * (1200 << 20)")
    found = wait_until(lambda: _warning(worker))
    assert "a copy of the state takes" in found and "a loss may undo earlier requests too" in found
    worker.run("del large")
    wait_until(lambda: _warning(worker) is None)
