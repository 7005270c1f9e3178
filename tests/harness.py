"""A client for the tests: speaks to a session over its pipes, and never waits without a bound."""

from __future__ import annotations

import faulthandler
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from threading import Thread
from time import monotonic, sleep
from typing import Any

import psutil

HOME = Path(__file__).resolve().parent.parent
FRONT_DOOR = HOME / "json_repl_session.py"
BOUND = 30.0  # seconds that any wait may take, also on a busy machine


class TookTooLong(AssertionError):
    """A bounded wait is over; the stacks of both sides are on stderr."""


class Session:
    """A session in a process of its own.

    Args:
        backend: "local" or "worker".
        env: variables on top of this process's.
        command: how to start it, instead of by the path of the front door.
        stdout: another stdout than a pipe that is read here.
    """

    def __init__(
        self,
        backend: str = "local",
        *args: str,
        mark: str = "",
        env: dict[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        command: list[str] | None = None,
        **popen: Any,
    ) -> None:
        environ = {key: value for key, value in os.environ.items() if not key.startswith("JSON_REPL_")}
        environ.update(JSON_REPL_TEST_MARK=mark, USE_SUBPROCESS_WORKER="1" if backend == "worker" else "0")
        environ.update(env or {})
        self.backend = backend
        options: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen(
            [*(command or [sys.executable, str(FRONT_DOOR)]), *args], env=environ, cwd=cwd, **{**options, **popen}
        )
        self.notifications: list[Any] = []
        self._rest = b""

    @property
    def pid(self) -> int:
        """Of the session itself."""
        return self.process.pid

    def write(self, data: bytes) -> None:
        """Send bytes as they are."""
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def send(self, *requests: Any) -> None:
        """Send requests, a line each, in one write."""
        self.write(b"".join(json.dumps(request).encode() + b"\n" for request in requests))

    def read_line(self, bound: float = BOUND) -> bytes:
        """The next line on stdout, without its newline; b"" at the end."""
        assert self.process.stdout is not None
        fd = self.process.stdout.fileno()
        deadline = monotonic() + bound
        parts = [self._rest]
        while b"\n" not in parts[-1]:
            ready, _, _ = select.select([fd], [], [], max(0.0, deadline - monotonic()))
            if not ready:
                self._expired(b"".join(parts))
            data = os.read(fd, 1 << 20)
            if not data:
                self._rest = b""
                return b"".join(parts)
            parts.append(data)
        line, _, self._rest = b"".join(parts).partition(b"\n")
        return line

    def read(self, bound: float = BOUND) -> Any:
        """The next answer; notifications on the way go to `notifications`. None at the end of stdout."""
        while True:
            line = self.read_line(bound)
            if not line:
                return None
            answer = json.loads(line, parse_constant=_refuse)
            if isinstance(answer, dict) and "method" in answer:
                self.notifications.append(answer)
                continue
            return answer

    def ask(self, method: str, **params: Any) -> Any:
        """Send one bare request and return its answer."""
        self.send({"method": method, **params})
        return self.read()

    def run(self, code: str, **params: Any) -> Any:
        """Execute code and return the answer."""
        return self.ask("execute", code=code, **params)

    def value(self, code: str, **params: Any) -> Any:
        """The `result` of code that must succeed."""
        answer = self.run(code, **params)
        assert answer["status"] == "ok", answer["stderr"]
        return answer["result"]

    def kept(self, **params: Any) -> list[str]:
        """The execution_ids of the states that can be returned to, in the order in which they are listed."""
        return [snapshot["execution_id"] for snapshot in self.ask("snapshots", **params)["snapshots"]]

    def keep(self, code: str, **params: Any) -> Any:
        """Execute code that must succeed, and wait until a copy of the state after it is kept."""
        answer = self.run(code, **params)
        assert answer["status"] == "ok", answer["stderr"]
        names = {name: value for name, value in params.items() if name == "session_id"}
        wait_until(lambda: answer["execution_id"] in self.kept(**names))
        return answer

    def clone(self, name: str, **params: Any) -> Any:
        """Make a second session of that name."""
        answer = self.ask("session/clone", new_session_id=name, **params)
        assert answer.get("session_id") == name, answer
        return answer

    def worker_pid(self) -> int:
        """Of the process that runs the code."""
        return int(self.value("__import__('os').getpid()"))

    def close_stdin(self) -> None:
        """No more requests come."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def wait(self, bound: float = BOUND) -> int:
        """Its exit status."""
        try:
            return self.process.wait(bound)
        except subprocess.TimeoutExpired:
            return int(self._expired(b""))

    def finish(self) -> tuple[list[Any], str, int]:
        """Close stdin; the answers that still come, stderr, and the exit status."""
        self.close_stdin()
        answers = list(iter(self.read, None))
        assert self.process.stderr is not None
        return answers, self.process.stderr.read().decode(), self.wait()

    def end(self) -> None:
        """End it, whatever state it is in."""
        for file in (self.process.stdin, self.process.stdout):
            if file is not None and not file.closed:
                try:
                    file.close()
                except BrokenPipeError:
                    pass
        try:
            self.process.wait(BOUND)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            if self.process.stderr is not None:
                self.process.stderr.close()

    def _expired(self, so_far: bytes) -> Any:
        faulthandler.dump_traceback(all_threads=True)
        status = Path(f"/proc/{self.pid}/stack")
        self.process.send_signal(signal.SIGKILL)
        raise TookTooLong(f"nothing came in time; so far: {so_far[-2000:]!r} {status}")


class Shared:
    """One session for many cheap cases; after a case that has broken it, the next has a new one."""

    def __init__(self, backend: str) -> None:
        self.backend = backend
        self._session: Session | None = None

    def run(self, code: str, **params: Any) -> Any:
        """The answer to code, after which the session lives: exactly one answer, and the state is still there."""
        session = self._session or Session(self.backend)
        self._session = None
        try:
            session.run("first = 41")
            session.send({"id": "case", "code": dedent(code), **params}, {"id": "next", "code": "first + 1"})
            answer, following = session.read(), session.read()
            assert (answer["id"], following["id"], following["result"]) == ("case", "next", "42"), following
            assert following["session_state"]["state"] == "kept", answer["stderr"]
        except BaseException:
            session.process.kill()
            session.end()
            raise
        self._session = session
        return answer

    def value(self, code: str, **params: Any) -> Any:
        """The `result` of code that must succeed."""
        answer = self.run(code, **params)
        assert answer["status"] == "ok", answer["stderr"]
        return answer["result"]

    def ask(self, method: str, **params: Any) -> Any:
        """Send one bare request and return its answer."""
        assert self._session is not None
        return self._session.ask(method, **params)

    def exchange(self, data: bytes) -> list[bytes]:
        """All lines that answer `data`, after which the session lives."""
        session = self._session or Session(self.backend)
        self._session = None
        following = b'{"id": "after", "code": "first + 1"}\n'
        try:
            session.run("first = 41")
            Thread(target=session.write, args=(data + following,), daemon=True).start()
            lines = []
            while not (line := session.read_line()).startswith(b'{"id":"after"'):
                assert line, "the session has ended"
                lines.append(line)
            assert json.loads(line)["result"] == "42", line
        except BaseException:
            session.process.kill()
            session.end()
            raise
        self._session = session
        return lines

    def end(self) -> None:
        """End the session."""
        if self._session is not None:
            self._session.end()


class Lasting:
    """One session for many cases that do not mind each other's state; a new one where a case has ended it."""

    def __init__(self, backend: str, **options: Any) -> None:
        self._backend = backend
        self._options = options
        self._session: Session | None = None

    def session(self) -> Session:
        """The session."""
        if self._session is None or self._session.process.poll() is not None:
            self.end()
            self._session = Session(self._backend, **self._options)
        return self._session

    def end(self) -> None:
        """End the session."""
        if self._session is not None:
            self._session.end()


def impatient(env: dict[str, str], boot_seconds: float = 20) -> dict[str, Any]:
    """How to start a session that waits less long for what hangs: options of `Session`."""
    start = (
        f"import sys; sys.path.insert(0, {str(HOME)!r})\n"
        "import json_repl_session\nfrom json_repl import ending, supply\n"
        "assert ending.GRACE_SECONDS and supply.BOOT_SECONDS\n"
        f"ending.GRACE_SECONDS, supply.BOOT_SECONDS = 0.2, {boot_seconds}\n"
        "json_repl_session.main()"
    )
    return {"command": [sys.executable, "-c", start], "env": env}


def wait_until(condition: Callable[[], Any], bound: float = BOUND) -> Any:
    """Look again and again until `condition` is true; returns what it returned then."""
    deadline = monotonic() + bound
    while not (found := condition()):
        if monotonic() > deadline:
            faulthandler.dump_traceback(all_threads=True)
            raise TookTooLong(f"{condition} has not become true in {bound:g} s")
        sleep(0.005)
    return found


def _refuse(text: str) -> None:
    raise AssertionError(f"{text} is not JSON")


def lives(pid: int) -> bool:
    """Whether there is a process of this number that has not ended; a zombie has."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
