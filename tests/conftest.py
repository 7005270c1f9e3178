"""Fixtures: real sessions in real processes, and the proof that none of them leaves anything behind."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator

import psutil
import pytest
from harness import Session

BACKENDS = ("local", "worker")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend in turn: one suite serves both."""
    return str(request.param)


@pytest.fixture
def start(tmp_path: object) -> Iterator[Callable[..., Session]]:
    """Starts sessions (`start("worker", env={...})`) and ends them; fails if any process of theirs is left."""
    mark = uuid.uuid4().hex
    sessions: list[Session] = []

    def start_session(backend: str = "local", *args: str, **options: object) -> Session:
        session = Session(backend, *args, mark=mark, **options)  # type: ignore[arg-type]
        sessions.append(session)
        return session

    yield start_session
    for session in sessions:
        session.end()
    assert_none_left(mark)


@pytest.fixture
def session(start: Callable[..., Session], backend: str) -> Session:
    """A session of each backend in turn."""
    return start(backend)


@pytest.fixture
def worker(start: Callable[..., Session]) -> Session:
    """A session with a worker."""
    return start("worker")


@pytest.fixture
def local(start: Callable[..., Session]) -> Session:
    """A session that runs code in its own process."""
    return start("local")


def assert_none_left(mark: str) -> None:
    """Every process that carries the mark in its environment is gone, now or within a moment."""
    left = [process for process in psutil.process_iter() if _carries(process, mark)]
    _, alive = psutil.wait_procs(left, timeout=5)
    lines = [f"{process.pid} {process.status()} {process.cmdline()}" for process in alive if process.is_running()]
    for process in alive:
        process.kill()
    assert not lines, f"left behind: {lines}"


def _carries(process: psutil.Process, mark: str) -> bool:
    try:
        return process.pid != os.getpid() and process.environ().get("JSON_REPL_TEST_MARK") == mark
    except psutil.Error:
        return False
