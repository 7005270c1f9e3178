"""Top-level await, tasks that go on between requests, and code that brings its own event loop."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import Session, Shared


@pytest.fixture(scope="module", params=["local", "worker"])
def shared(request: pytest.FixtureRequest) -> Iterator[Shared]:
    """One session of each backend for all cheap cases."""
    shared = Shared(request.param)
    yield shared
    shared.end()


ASYNC = {
    "await": ("import asyncio\nawait asyncio.sleep(0, 5)", "5"),
    "await in a statement": ("import asyncio\na = await asyncio.sleep(0, 5)\na + 1", "6"),
    "await in a block": ("import asyncio\nfor n in range(3):\n    a = await asyncio.sleep(0, n)\na", "2"),
    "async for": ("async def g():\n    yield 1\n    yield 2\nt = 0\nasync for n in g(): t += n\nt", "3"),
    "async with": (
        "import contextlib\n@contextlib.asynccontextmanager\nasync def c():\n    yield 5\nasync with c() as a: pass\na",
        "5",
    ),
    "an async comprehension": ("async def g():\n    yield 1\n    yield 2\n[n async for n in g()]", "[1, 2]"),
    "await in a comprehension": ("import asyncio\n[await asyncio.sleep(0, n) for n in range(3)]", "[0, 1, 2]"),
    "gather": ("import asyncio\nawait asyncio.gather(*(asyncio.sleep(0, n) for n in range(3)))", "[0, 1, 2]"),
    "a time limit": (
        "import asyncio\ntry: await asyncio.wait_for(asyncio.Event().wait(), 0.01)\n"
        "except asyncio.TimeoutError: a = 'late'\na",
        "'late'",
    ),
    "asyncio.run": ("import asyncio\nasync def f(): return 5\nasyncio.run(f())", "5"),
    "asyncio.run after await": ("import asyncio\nasync def f(): return 5\nasyncio.run(f()) + asyncio.run(f())", "10"),
    "a coroutine that is not awaited": ("async def f(): pass\nc = f()\nc.close()\ntype(c).__name__", "'coroutine'"),
    "a subprocess": (
        "import asyncio\np = await asyncio.create_subprocess_exec('true')\nawait p.wait()",
        "0",
    ),
    "a thread": ("import asyncio\nawait asyncio.to_thread(lambda: 5)", "5"),
    "the running loop": ("import asyncio\nawait asyncio.sleep(0)\nasyncio.get_running_loop().is_running()", "True"),
    "no running loop in plain code": (
        "import asyncio\ntry: asyncio.get_running_loop()\nexcept RuntimeError: a = 'none'\na",
        "'none'",
    ),
    "a context variable": ("import contextvars\nv = contextvars.ContextVar('v')\nt = v.set(5)\nv.get()", "5"),
}


@pytest.mark.parametrize(("code", "result"), ASYNC.values(), ids=ASYNC.keys())
def test_asynchronous_code_runs_as_in_pythons_own_asyncio_repl(shared: Shared, code: str, result: str) -> None:
    answer = shared.run(code)
    assert (answer["status"], answer["result"], answer["stderr"]) == ("ok", result, "")


def test_objects_of_the_loop_live_on_from_one_request_to_the_next(session: Session) -> None:
    session.run("import asyncio\nqueue = asyncio.Queue()\nawait queue.put(5)")
    session.run("lock = asyncio.Lock()\nawait lock.acquire()")
    assert session.value("await queue.get()") == "5"
    assert session.value("lock.locked()") == "True"


def test_a_task_goes_on_between_requests(session: Session, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "done")
    session.run(f"""
import asyncio
async def work():
    for n in range(5): await asyncio.sleep(0.001)
    print("worked")
    with open({str(tmp_path / "done")!r}, "w") as done: done.write("done")
task = asyncio.create_task(work())
await asyncio.sleep(0)
""")
    assert (tmp_path / "done").read_text() == "done"
    answer = session.run("await task")
    assert answer["late_output"] + answer["stdout"] == "worked\n"


@pytest.mark.parametrize("task", ["task = asyncio.create_task(server.serve_forever())", ""], ids=["a task", "no task"])
def test_a_server_answers_between_requests(session: Session, task: str) -> None:
    port = session.value(f"""
import asyncio
async def echo(reader, writer):
    writer.write(await reader.readline())
    writer.close()
server = await asyncio.start_server(echo, "127.0.0.1", 0)
{task}
server.sockets[0].getsockname()[1]
""")
    for _ in range(2):
        with socket.create_connection(("127.0.0.1", int(port)), timeout=10) as connection:
            connection.sendall(b"hello\n")
            assert connection.recv(100) == b"hello\n"
    assert session.value("1 + 1") == "2"


@pytest.mark.parametrize(
    "end", ["raise ValueError('late')", "raise SystemExit(3)", "raise KeyboardInterrupt", "loop.stop()"]
)
def test_a_task_that_fails_between_requests_costs_no_request(session: Session, tmp_path: Path, end: str) -> None:
    os.mkfifo(tmp_path / "done")
    session.run(f"""
import asyncio
first = 41
async def fail():
    await asyncio.sleep(0.001)
    loop = asyncio.get_running_loop()
    with open({str(tmp_path / "done")!r}, "w") as done: done.write("done")
    {end}
task = asyncio.create_task(fail())
await asyncio.sleep(0)
""")
    assert (tmp_path / "done").read_text() == "done"
    session.send({"id": 1, "code": "first + 1"}, {"id": 2, "code": "await asyncio.sleep(0, 5)"})
    answers = [session.read(), session.read()]
    assert [(answer["id"], answer["result"]) for answer in answers] == [(1, "42"), (2, "5")], answers
    assert answers[0]["session_state"]["state"] == "kept"


BROKEN = {
    "closed": "asyncio.get_event_loop_policy().get_event_loop().close()",
    "replaced": "asyncio.set_event_loop(asyncio.new_event_loop())",
    "forgotten": "asyncio.set_event_loop(None)",
    "stopped": "asyncio.get_running_loop().stop(); await asyncio.sleep(0)",
    "closed while it runs": "await asyncio.sleep(0); asyncio.get_running_loop().close()",
    "its own policy": "asyncio.set_event_loop_policy(asyncio.DefaultEventLoopPolicy())",
    "all tasks cancelled": "[task.cancel() for task in asyncio.all_tasks()]; await asyncio.sleep(0)",
    "a debugged loop": "asyncio.get_running_loop().set_debug(True); await asyncio.sleep(0)",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("code", BROKEN.values(), ids=BROKEN.keys())
def test_await_works_after_user_code_has_broken_its_loop(session: Session, code: str) -> None:
    session.run("import asyncio\nfirst = 41\nawait asyncio.sleep(0)")
    session.send({"id": 1, "code": code, "timeout": 10}, {"id": 2, "code": "await asyncio.sleep(0, first + 1)"})
    answers = [session.read(), session.read()]
    assert [answer["id"] for answer in answers] == [1, 2]
    assert answers[0]["reason"] in (None, "exception"), answers[0]["stderr"]
    assert answers[1]["result"] == "42", answers[1]["stderr"]
    assert session.value("asyncio.run(asyncio.sleep(0, 5))") == "5"


def test_a_wait_is_interrupted_and_its_cleaning_up_runs(session: Session) -> None:
    session.run("import asyncio\nfirst = 41\nlog = []")
    code = "try: await asyncio.Event().wait()\nfinally: log.append('cleaned up')"
    answer = session.run(code, timeout=0.2)
    assert (answer["reason"], answer["session_state"]["state"]) == ("timeout", "kept")
    assert session.value("log, await asyncio.sleep(0, first)") == "(['cleaned up'], 41)"


def test_an_interrupt_leaves_other_tasks_running(session: Session) -> None:
    session.run("""
import asyncio
go = asyncio.Event()
async def other():
    await go.wait()
    return "went on"
task = asyncio.create_task(other())
await asyncio.sleep(0)
""")
    assert session.run("await asyncio.Event().wait()", timeout=0.2)["reason"] == "timeout"
    assert session.value("go.set()\nawait task") == "'went on'"


@pytest.mark.parametrize("end", ["raise SystemExit(3)", "raise KeyboardInterrupt", "raise GeneratorExit", "1 / 0"])
def test_what_awaited_code_raises_ends_its_request_alone(shared: Shared, end: str) -> None:
    shared.run("import asyncio")
    answer = shared.run(f"async def f():\n    await asyncio.sleep(0)\n    {end}\nawait f()")
    assert answer["status"] == "error"
    assert end.split("(")[0].removeprefix("raise ") in answer["error"]["ename"] or "/" in end
    assert shared.value("await asyncio.sleep(0, 5)") == "5"


def test_a_loop_that_is_busy_between_requests_does_not_keep_a_request_waiting(session: Session) -> None:
    session.run("""
import asyncio
async def spin():
    while True: await asyncio.sleep(0)
task = asyncio.create_task(spin())
await asyncio.sleep(0)
""")
    for n in range(20):
        assert session.value(str(n)) == str(n)
    assert session.value("task.cancel()") == "True"
