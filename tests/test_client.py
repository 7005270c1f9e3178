"""What a program that uses the client library can rely on: with threads and with asyncio, over both backends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from conftest import assert_none_left
from harness import BOUND, wait_until

from json_repl.client import AsyncCall, AsyncSession, NoAnswer, RequestError, Session, SessionEnded

Spawn = Callable[..., Any]
FOREVER = "import time\nprint('begun', flush=True)\nwhile True: time.sleep(0.01)"


class InLoop:
    """An object of asyncio's as the tests see one for threads: what is called runs in an event loop elsewhere."""

    def __init__(self, loop: asyncio.AbstractEventLoop, inner: Any) -> None:
        self._loop = loop
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return self._call(found) if callable(found) else found

    def __enter__(self) -> InLoop:
        self._call(self._inner.__aenter__)()
        return self

    def __exit__(self, *exception: object) -> None:
        self._call(self._inner.__aexit__)(*exception)

    def _call(self, method: Callable[..., Any]) -> Callable[..., Any]:
        async def run(*args: Any, **options: Any) -> Any:
            made = method(*args, **options)
            made = await made if asyncio.iscoroutine(made) else made
            return InLoop(self._loop, made) if isinstance(made, (AsyncSession, AsyncCall)) else made

        def call(*args: Any, **options: Any) -> Any:
            plain = [arg._inner if isinstance(arg, InLoop) else arg for arg in args]
            return asyncio.run_coroutine_threadsafe(run(*plain, **options), self._loop).result(BOUND)

        return call


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that runs in a thread."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join(BOUND)
    loop.close()


@pytest.fixture(params=["threads", "asyncio"])
def kind(request: pytest.FixtureRequest, loop: asyncio.AbstractEventLoop) -> Any:
    """Each kind of session in turn."""
    return Session if request.param == "threads" else InLoop(loop, AsyncSession)


@pytest.fixture
def spawn(kind: Any) -> Iterator[Spawn]:
    """Starts sessions of each kind, and closes them; fails if any process of theirs is left."""
    mark = uuid.uuid4().hex
    sessions = []

    def start(backend: str, *argv: str, **options: Any) -> Any:
        env = {"JSON_REPL_TEST_MARK": mark, **options.pop("env", {})}
        sessions.append(kind.spawn(*argv, worker=backend == "worker", env=env, **options))
        return sessions[-1]

    yield start
    for session in sessions:
        session.close()
    assert_none_left(mark)


@pytest.fixture
def session(spawn: Spawn, backend: str) -> Any:
    """A session of each kind, over each backend."""
    return spawn(backend)


@pytest.fixture
def worker(spawn: Spawn) -> Any:
    """A session of each kind with a worker."""
    return spawn("worker")


def begin(session: Any) -> Any:
    """A call whose code runs by now, until it is interrupted."""
    call = session.submit(FOREVER, timeout=0)

    def has_begun() -> bool:
        running = session.request("status", within=BOUND)["running"]
        if running is None:
            return False
        return "begun" in session.request("output/read", execution_id=running["execution_id"], within=BOUND)["text"]

    wait_until(has_begun)
    return call


# -- answers -----------------------------------------------------------------------------------------------------------


def test_an_answers_fields_are_attributes_of_the_result(session: Any, backend: str) -> None:
    result = session.execute("print('hello')\n6 * 7", within=BOUND)
    assert (result.ok, result.status, result.result, result.stdout) == (True, "ok", "42", "hello\n")
    assert (result.backend, result.execution_count, result.execution_id) == (backend, 1, "e1")
    assert result.answer["success"] is True


def test_an_error_of_the_code_is_a_result(session: Any) -> None:
    result = session.execute("1 / 0", within=BOUND)
    assert (result.ok, result.reason, result.error["ename"]) == (False, "exception", "ZeroDivisionError")


def test_an_error_of_the_protocol_is_raised_with_its_code_and_its_reason(session: Any) -> None:
    with pytest.raises(RequestError, match="no method 'nonsense'") as caught:
        session.request("nonsense", within=BOUND)
    assert (caught.value.code, caught.value.reason) == (-32601, "method_not_found")
    with pytest.raises(RequestError, match="timeout") as caught:
        session.execute("1", timeout="soon", within=BOUND)
    assert caught.value.reason == "invalid_params"
    assert session.execute("1", within=BOUND).ok


def test_what_is_no_json_is_refused_before_it_is_sent(session: Any) -> None:
    with pytest.raises(TypeError):
        session.execute("1", filename=object())
    with pytest.raises(ValueError, match="JSON"):
        session.execute("1", timeout=float("nan"))
    assert session.execute("1", within=BOUND).ok


def test_a_request_that_is_too_long_for_the_session_gets_its_error(spawn: Spawn, backend: str) -> None:
    session = spawn(backend, env={"JSON_REPL_MAX_LINE": "10000"})
    other = begin(session)
    with pytest.raises(RequestError) as caught:
        session.execute("#" * 20_000, within=BOUND)
    assert caught.value.reason == "limit_exceeded"
    assert session.interrupt(within=BOUND)
    assert other.result(BOUND).reason == "interrupted"


def test_large_requests_and_answers_come_whole(session: Any) -> None:
    text = "ü" * 3_000_000
    result = session.execute(f"text = {text!r}; print(text); len(text)", max_output_bytes=10_000_000, within=BOUND)
    assert (result.result, result.stdout) == ("3000000", text + "\n")


def test_a_result_can_be_asked_for_again(session: Any) -> None:
    call = session.submit("6 * 7")
    assert call.result(BOUND).result == call.result(0).result == "42"


def test_variables_and_history_are_lists(session: Any) -> None:
    session.execute("x = 41", within=BOUND)
    session.execute("1 / 0", within=BOUND)
    assert [(found["name"], found["repr"]) for found in session.variables(within=BOUND)] == [("x", "41")]
    assert [entry["code"] for entry in session.history(within=BOUND)] == ["x = 41", "1 / 0"]
    assert [entry["code"] for entry in session.history(1, failed=True, search="/", within=BOUND)] == ["1 / 0"]


def test_what_looks_around_has_a_call_of_its_own(session: Any) -> None:
    session.execute("data = {'key': [1, 2]}; text = 'a'", within=BOUND)
    assert [found["name"] for found in session.variables("t*", type="str", limit=1, within=BOUND)] == ["text"]
    assert session.variable("data", "key", offset=1, within=BOUND)["children"][0]["repr"] == "2"
    assert session.complete("text.up", within=BOUND)["matches"] == ["upper"]
    assert session.inspect("len(text)", 2, detail_level=1, within=BOUND)["metadata"]["name"] == "len"
    assert session.is_complete("if text:", within=BOUND)["indent"] == "    "


def test_a_session_starts_from_any_folder_with_variables_and_options(
    spawn: Spawn, backend: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    session = spawn(backend, "--timeout", "0", env={"COLOUR": "blue"}, cwd="elsewhere")
    code = "import os\nos.environ['COLOUR'], os.getcwd()"
    assert session.execute(code, within=BOUND).result == str(("blue", str(tmp_path / "elsewhere")))


def test_a_command_that_is_not_there_is_told_at_once(kind: Any) -> None:
    with pytest.raises(FileNotFoundError):
        kind.spawn(command=["/no/such/command"])


# -- many at once ------------------------------------------------------------------------------------------------------


def test_a_thousand_requests_from_four_threads_get_each_its_own_answer(session: Any) -> None:
    def ask(first: int) -> list[str]:
        return [session.execute(str(number), within=BOUND).result for number in range(first, first + 250)]

    with ThreadPoolExecutor(4) as threads:
        answers = [answer for part in threads.map(ask, range(0, 1000, 250)) for answer in part]
    assert answers == [str(number) for number in range(1000)]


def test_requests_that_are_under_way_together_are_answered_in_their_order(session: Any) -> None:
    calls = [session.submit(f"number = {number}; number") for number in range(200)]
    assert [call.result(BOUND).result for call in reversed(calls)] == [str(number) for number in range(199, -1, -1)]


def test_clones_run_at_the_same_time_each_with_its_own_state(worker: Any) -> None:
    worker.execute("x = 1", within=BOUND)
    with worker.clone("left", within=BOUND) as left, worker.clone(within=BOUND) as right:
        calls = [begin(clone) for clone in (left, right)]
        assert worker.execute("x = 2; x", within=BOUND).result == "2"
        for clone, call in zip((left, right), calls):
            assert clone.interrupt(within=BOUND)
            assert call.result(BOUND).reason == "interrupted"
            assert clone.execute("x", within=BOUND).result == "1"
        assert left.session_id == "left"
    assert len(worker.request("session/list", within=BOUND)["sessions"]) == 1


def test_what_clones_print_goes_to_who_has_asked_for_it(worker: Any) -> None:
    heard: dict[int, list[str]] = {}
    sessions = [worker, worker.clone(within=BOUND), worker.clone(within=BOUND)]

    def run(number: int) -> str:
        listen = heard.setdefault(number, []).append
        code = f"for n in range(200): print({number}, n, flush=True)"
        return str(sessions[number].execute(code, on_stream=lambda _, text: listen(text), within=BOUND).stdout)

    with ThreadPoolExecutor(3) as threads:
        printed = list(threads.map(run, range(3)))
    assert ["".join(heard[number]) for number in range(3)] == printed
    assert printed[2].startswith("2 0\n2 1\n")


def test_closing_a_clone_ends_it_alone_though_its_code_runs(worker: Any) -> None:
    clone = worker.clone("other", within=BOUND)
    running, waiting = begin(clone), clone.submit(FOREVER)
    clone.close()
    assert running.result(BOUND).reason in ("interrupted", "cancelled")
    assert waiting.result(BOUND).reason == "cancelled"
    with pytest.raises(RequestError, match="other"):
        clone.execute("1", within=BOUND)
    clone.close()
    assert worker.execute("6 * 7", within=BOUND).result == "42"


# -- what is told meanwhile --------------------------------------------------------------------------------------------


def test_output_is_told_while_the_code_runs_and_before_the_answer(session: Any) -> None:
    heard: list[tuple[str, str]] = []
    code = "import sys\nprint('one', flush=True)\nprint('two', file=sys.stderr)"
    result = session.execute(code, on_stream=lambda *piece: heard.append(piece), within=BOUND)
    assert result.ok
    for name, text in (("stdout", result.stdout), ("stderr", result.stderr)):
        assert "".join(text for stream, text in heard if stream == name) == text


def test_output_goes_to_the_call_whose_code_printed_it(session: Any) -> None:
    heard: list[list[str]] = [[], [], []]

    def listener(number: int) -> Callable[[str, str], None]:
        return lambda _, text: heard[number].append(text)

    calls = [session.submit(f"print({number})", on_stream=listener(number)) for number in (0, 1)]
    calls += [session.submit("print('unheard')"), session.submit("print(2)", on_stream=listener(2))]
    for call in reversed(calls):
        assert call.result(BOUND).ok
    assert ["".join(texts) for texts in heard] == ["0\n", "1\n", "2\n"]


def test_what_a_callback_raises_comes_out_of_the_call_and_costs_nothing_else(session: Any) -> None:
    def refuse(name: str, text: str) -> None:
        raise LookupError(text)

    code = "for n in range(1000): print(n, flush=True)"
    with pytest.raises(LookupError, match="0"):
        session.execute(code, on_stream=refuse, within=BOUND)
    assert session.execute("6 * 7", within=BOUND).result == "42"


def test_a_callback_may_use_the_session(session: Any, loop: asyncio.AbstractEventLoop) -> None:
    tasks: list[Any] = []

    def interrupt(name: str, text: str) -> None:
        inner = getattr(session, "_inner", None)
        tasks.append(session.interrupt(within=BOUND) if inner is None else loop.create_task(inner.interrupt()))

    result = session.execute(FOREVER, timeout=0, on_stream=interrupt, within=BOUND)
    assert result.reason == "interrupted"


def test_what_a_thread_prints_late_is_in_the_next_answer_and_goes_to_no_other_call(session: Any) -> None:
    code = "import threading; go = threading.Event(); t = threading.Thread(target=lambda: [go.wait(), print('late')])"
    heard: list[tuple[str, str]] = []
    session.execute(code + "; t.start()", on_stream=lambda *told: heard.append(told))
    answer = session.execute("go.set(); t.join(); print('mine')", on_stream=lambda *told: heard.append(told))
    assert (answer.stdout, answer.late_output) == ("mine\n", "late\n")
    assert "".join(text for _, text in heard) == "mine\n"
    assert session.execute("1").late_output == ""


def test_a_retry_is_told(worker: Any, tmp_path: Path) -> None:
    heard: list[tuple[str, int]] = []
    code = (
        "import os, pathlib, signal\n"
        f"if not (mark := pathlib.Path({str(tmp_path / 'mark')!r})).exists(): mark.touch(); os.kill(os.getpid(), 9)"
    )
    result = worker.execute(code, on_notification=lambda name, told: heard.append((name, told["attempt"])))
    assert (result.ok, result.attempts) == (True, 2)
    assert heard == [("retry", 2)]


# -- interrupting, cancelling, waiting ---------------------------------------------------------------------------------


def test_an_interrupt_hits_what_runs_and_only_what_it_names(session: Any) -> None:
    assert not session.interrupt(within=BOUND)
    call = begin(session)
    assert not session.interrupt("e99", within=BOUND)
    assert session.interrupt("e1", within=BOUND)
    assert call.result(BOUND).reason == "interrupted"


def test_a_call_can_be_cancelled_while_it_waits_and_while_it_runs(session: Any) -> None:
    running, waiting = begin(session), session.submit("1 / 0")
    assert session.cancel(waiting, within=BOUND)
    assert waiting.result(BOUND).reason == "cancelled"
    assert session.cancel(running, within=BOUND)
    assert running.result(BOUND).reason == "interrupted"
    assert not session.cancel(running, within=BOUND)


def test_a_wait_ends_in_time_and_the_call_goes_on(session: Any) -> None:
    call = begin(session)
    with pytest.raises(NoAnswer, match=r"'execute' within 0\.01 s") as caught:
        call.result(0.01)
    assert isinstance(caught.value, TimeoutError)
    with pytest.raises(NoAnswer):
        session.variables(within=0)
    assert session.cancel(caught.value.call, within=BOUND)
    assert call.result(BOUND).reason == "interrupted"


def test_a_detached_execution_is_waited_for_and_its_output_is_told_whole(session: Any, tmp_path: Path) -> None:
    go_on = tmp_path / "go on"
    code = f"import os, time\nprint('one', flush=True)\nwhile not os.path.exists({str(go_on)!r}): time.sleep(0.01)"
    heard: list[str] = []

    def listen(name: str, text: str) -> None:
        heard.append(text)

    first = session.execute(code + "\nprint('two')\n6 * 7", wait=0, on_stream=listen, within=BOUND)
    assert (first.status, first.result) == ("running", None)
    assert session.wait(first.execution_id, 0, within=BOUND).status == "running"
    go_on.touch()
    last = session.wait(first.execution_id, within=BOUND, on_stream=listen)
    assert (last.ok, last.result, last.execution_id) == (True, "42", first.execution_id)
    assert "".join(heard) == last.stdout == "one\ntwo\n"


def test_rollback_returns_to_an_earlier_state(worker: Any) -> None:
    def is_kept(execution_id: str) -> bool:
        found = worker.request("snapshots", within=BOUND)["snapshots"]
        return execution_id in [snapshot["execution_id"] for snapshot in found]

    for code in ("x = 1", "x = 2"):
        result = worker.execute(code, within=BOUND)
        wait_until(lambda: is_kept(result.execution_id))  # noqa: B023
    assert worker.rollback(steps=1, within=BOUND)["undone"] == ["e2"]
    assert worker.execute("x", within=BOUND).result == "1"


# -- the end -----------------------------------------------------------------------------------------------------------


def test_a_session_that_is_killed_fails_every_call_with_one_error(session: Any) -> None:
    calls = [begin(session), session.submit("1"), session.submit("2")]
    os.kill(session.pid, signal.SIGKILL)
    for call in calls:
        with pytest.raises(SessionEnded, match="exit status -9") as caught:
            call.result(BOUND)
        assert caught.value.exit_status == -9
    with pytest.raises(SessionEnded, match="exit status -9"):
        session.execute("3", within=BOUND)
    assert session.close() == -9


def test_an_end_is_noticed_though_a_forked_process_holds_the_sessions_files(spawn: Spawn) -> None:
    session = spawn("local")
    child = int(session.execute("import os, time\nos.fork() or time.sleep(1000)", within=BOUND).result)
    call = begin(session)
    os.kill(session.pid, signal.SIGKILL)
    try:
        with pytest.raises(SessionEnded):
            call.result(BOUND)
    finally:
        os.kill(child, signal.SIGKILL)


def test_the_end_of_a_session_is_told_with_the_last_of_its_stderr(kind: Any) -> None:
    script = "import sys; print('x' * 100_000 + 'last words', file=sys.stderr); sys.exit(3)"
    session = kind.spawn(command=[sys.executable, "-c", script])
    with pytest.raises(SessionEnded, match="exit status 3\n") as caught:
        session.execute("1", within=BOUND)
    assert session.close() == caught.value.exit_status == 3
    assert caught.value.stderr.endswith("last words\n")
    assert len(caught.value.stderr) < 10_000


def test_what_is_no_session_is_not_trusted(kind: Any) -> None:
    session = kind.spawn(command=[sys.executable, "-c", "print('hello', flush=True); input()"])
    with pytest.raises(SessionEnded, match="no message: b'hello'"):
        session.execute("1", within=BOUND)
    session.close()


def test_a_session_that_ends_as_asked_fails_later_calls(session: Any) -> None:
    assert session.request("shutdown", within=BOUND) == {}

    def end() -> SessionEnded | None:
        try:
            session.request("ping", within=BOUND)
        except SessionEnded as ended:
            return ended
        return None

    assert wait_until(end).exit_status == 0


def test_close_ends_a_session_whose_code_runs_and_fails_its_calls(session: Any) -> None:
    calls = [begin(session), session.submit("1")]
    assert session.close() is not None
    for call in calls:
        with pytest.raises(SessionEnded, match="closed"):
            call.result(BOUND)
    with pytest.raises(SessionEnded, match="closed"):
        session.execute("1", within=BOUND)
    session.close()


def test_close_kills_a_session_that_does_not_end(kind: Any) -> None:
    script = "import signal\nwhile True: signal.pause()"
    session = kind.spawn(command=[sys.executable, "-c", script])
    assert session.close(0.05) == -signal.SIGKILL


def test_leaving_the_with_block_ends_an_idle_session_as_it_should(kind: Any) -> None:
    with kind.spawn() as session:
        assert session.execute("6 * 7", within=BOUND).result == "42"
    assert session.close() == 0


def test_files_do_not_add_up(kind: Any, backend: str) -> None:
    def files_after(sessions: int) -> int:
        for _ in range(sessions):
            with kind.spawn(worker=backend == "worker") as session:
                assert session.execute("1", within=BOUND).ok
        return len(os.listdir("/proc/self/fd"))

    assert files_after(1) == files_after(5)
