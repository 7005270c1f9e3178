"""The systems that are measured, one small class each: start, round_trip, pids, close.

A system that talks over a pipe is driven by os.read, os.write and orjson, so that the client costs the same for a
session and for the floor under it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from benchmarks import floors
from benchmarks.floors import read_lines, write_all

ROOT = Path(__file__).resolve().parent.parent


class System(ABC):
    """Something that takes code and answers; an instance may be started again after close."""

    name = ""

    @abstractmethod
    def start(self) -> None:
        """Return when the system has said that it can take a request, or at once where it says nothing."""

    @abstractmethod
    def round_trip(self, code: str) -> str:
        """Have the code run, wait for the answer, and return what was printed; raise where the code failed."""

    def stream(self, code: str) -> Iterator[str]:
        """Have the code run, and give what it prints as it comes, where the system can."""
        yield self.round_trip(code)

    @abstractmethod
    def close(self) -> None:
        """End every process of the system; harmless when there is none."""

    def pids(self) -> list[int]:
        """Its processes, without their children."""
        return []

    def break_down(self) -> None:
        """Kill what runs the code, where the system can go on after that."""
        return


class BarePython(System):
    """P: an interpreter that starts, runs the code, and ends."""

    name = "P"

    def start(self) -> None:
        pass

    def round_trip(self, code: str) -> str:
        return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, encoding="utf-8").stdout

    def close(self) -> None:
        pass


class LineProcess(System):
    """A process that answers a JSON line with a JSON line."""

    process: subprocess.Popen[bytes] | None = None
    answers: Iterator[bytes]
    stdin: int
    environment: dict[str, str]

    def __init__(self, name: str, command: list[str], **environment: str) -> None:
        self.name = name
        self.command = command
        self.environment = {**os.environ, **environment}

    def start(self) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(self.command, stdin=pipe, stdout=pipe, bufsize=0, env=self.environment)
        assert self.process.stdin and self.process.stdout
        self.stdin = self.process.stdin.fileno()
        self.answers = read_lines(self.process.stdout.fileno())

    def send(self, message: dict[str, Any]) -> None:
        write_all(self.stdin, orjson.dumps(message) + b"\n")

    def receive(self) -> dict[str, Any]:
        for line in self.answers:
            message: dict[str, Any] = orjson.loads(line)
            return message
        raise EOFError(f"{self.name} ended without an answer")

    def close(self) -> None:
        if self.process is not None:
            end(self.process)
            self.process = None

    def pids(self) -> list[int]:
        return [self.process.pid] if self.process is not None else []


class Floor(LineProcess):
    """F or F2: echoes the very request a session would get."""

    def __init__(self, name: str, role: str) -> None:
        super().__init__(name, [sys.executable, floors.__file__, role])

    def round_trip(self, code: str) -> str:
        self.send(execute(code))
        self.receive()
        return ""


class Session(LineProcess):
    """json-repl-session, started as an editor starts it."""

    def __init__(self, name: str, **environment: str) -> None:
        super().__init__(name, [sys.executable, str(ROOT / "json_repl_session.py")], **environment)

    def start(self) -> None:
        super().start()
        ready = self.receive()
        if ready.get("method") != "ready":
            raise ValueError(f"{self.name} said {ready} instead of ready")

    def round_trip(self, code: str) -> str:
        self.send(execute(code))
        return self.take_output()

    def stream(self, code: str) -> Iterator[str]:
        self.send(execute(code, stream=True))
        while "method" in (message := self.receive()):
            yield message["params"]["text"]
        if message["result"]["status"] != "ok":
            raise ValueError(f"{self.name} answered {message}")

    def take_output(self) -> str:
        """What was printed, of the next answer to an `execute`."""
        answer = self.receive()
        if answer.get("result", {}).get("status") != "ok":
            raise ValueError(f"{self.name} answered {answer}")
        return str(answer["result"]["stdout"])

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """The result of any method."""
        self.send(request(method, **params))
        answer = self.receive()
        if "result" not in answer:
            raise ValueError(f"{self.name} answered {answer}")
        return dict(answer["result"])

    def break_down(self) -> None:
        os.kill(self.call("status")["worker"]["pid"], signal.SIGKILL)


class IdlePython(LineProcess):
    """An interpreter that has said that it is there, and waits."""

    def __init__(self) -> None:
        super().__init__("idle python", [sys.executable, "-c", "print('{}', flush=True); open(0).read()"])

    def start(self) -> None:
        super().start()
        self.receive()

    def round_trip(self, code: str) -> str:
        return ""


class IPyKernel(System):
    """ipykernel through jupyter_client; an answer is complete at the kernel's reply and its idle message."""

    name = "ipykernel"
    restarter: AutoRestart | None = None

    def start(self) -> None:
        from jupyter_client.manager import KernelManager

        self.folder = tempfile.TemporaryDirectory(prefix="bench-ipykernel-")
        os.environ.update(dict.fromkeys(("JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR"), self.folder.name))
        self.manager = KernelManager()
        self.manager.start_kernel(stderr=subprocess.DEVNULL)
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def round_trip(self, code: str) -> str:
        return "".join(self.stream(code))

    def stream(self, code: str) -> Iterator[str]:
        request = self.client.execute(code)
        while True:
            message = self.client.get_iopub_msg(timeout=60)
            if message["parent_header"].get("msg_id") != request:
                continue
            if message["msg_type"] == "stream":
                yield message["content"]["text"]
            elif message["content"].get("execution_state") == "idle":
                break
        reply = self.client.get_shell_msg(timeout=60)
        while reply["parent_header"].get("msg_id") != request:  # those of `break_down`, which asks more than once
            reply = self.client.get_shell_msg(timeout=60)
        if reply["content"]["status"] != "ok":
            raise ValueError(f"{self.name} answered {reply['content']}")

    def pids(self) -> list[int]:
        return [self.manager.provisioner.pid]

    def break_down(self) -> None:
        """Kill the kernel, and wait until another one answers, as a client has to that does not know when it will."""
        if self.restarter is None:
            self.restarter = AutoRestart(self.manager)
        os.kill(self.manager.provisioner.pid, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            self.client.kernel_info()
            with contextlib.suppress(queue.Empty):
                self.client.get_shell_msg(timeout=0.1)
                self.client.get_iopub_msg(timeout=0.1)  # without this, output may be lost
                return
        raise TimeoutError(f"{self.name} was not restarted")

    def close(self) -> None:
        if self.restarter is not None:
            self.restarter.stop()
            self.restarter = None
        if hasattr(self, "client"):
            self.client.stop_channels()
            self.manager.shutdown_kernel(now=True)
            del self.client
            self.folder.cleanup()


class AutoRestart:
    """jupyter_client's own restarter, in a thread, as it needs a loop that turns."""

    def __init__(self, manager: Any) -> None:
        from jupyter_client.ioloop.restarter import IOLoopKernelRestarter

        # The ports stay, for the client's sake, and the kernel may die as often as we like.
        self._restarter = IOLoopKernelRestarter(
            kernel_manager=manager, random_ports_until_alive=False, restart_limit=1_000_000
        )
        self._loop = asyncio.new_event_loop()
        self._loop.call_soon(self._restarter.start)
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._restarter.stop)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


def execute(code: str, **params: Any) -> dict[str, Any]:
    return request("execute", code=code, **params)


def request(method: str, **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def end(process: subprocess.Popen[bytes]) -> None:
    """By the end of its input, and by force where that is not enough."""
    assert process.stdin and process.stdout
    process.stdin.close()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


@contextlib.contextmanager
def within(seconds: int, what: str) -> Iterator[None]:
    """Bound a measurement by a signal, which costs nothing on its path."""

    def give_up(*_: object) -> None:
        raise TimeoutError(f"{what} took longer than {seconds} s")

    previous = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
