"""Systems of many sessions: clones of one, and as many that were each started by themselves."""

from __future__ import annotations

import time

import psutil

from benchmarks.systems import Session, System, execute

MEBIBYTE = 1 << 20
SETTLED = 0.5  # seconds after which all copies have been made, without which their share of the pages is missed


class Clones(Session):
    """A session and its clones, each of which has been written to. Requests go to all clones at the same time."""

    def __init__(self, name: str, size: int, setup: str = "kept = 0") -> None:
        super().__init__(name, USE_SUBPROCESS_WORKER="1")
        self.size = size
        self.setup = setup
        self.names = [f"clone {number}" for number in range(size)]

    def start(self) -> None:
        super().start()
        super().round_trip(self.setup)
        time.sleep(SETTLED)
        self.before = memory(self)
        for name in self.names:
            self.call("session/clone", new_session_id=name)
        self.round_trip("kept += 1")
        time.sleep(SETTLED)

    def round_trip(self, code: str) -> str:
        for name in self.names:
            self.send(execute(code, session_id=name))
        return "".join(self.take_output() for _ in self.names)

    def work(self, code: str, times: int) -> None:
        """Have each clone run the code so often, with one request of each on its way all the time."""
        for name in self.names:
            self.send({**execute(code, session_id=name), "id": name})
        for left in range(times * self.size - 1, -1, -1):
            answer = self.receive()
            if answer.get("result", {}).get("status") != "ok":
                raise ValueError(f"{self.name} answered {answer}")
            if left >= self.size:
                self.send({**execute(code, session_id=answer["id"]), "id": answer["id"]})


class Several(System):
    """Sessions that were started one by one."""

    def __init__(self, name: str, size: int, setup: str) -> None:
        self.name = name
        self.size = size
        self.setup = setup
        self.before = 0.0
        self.sessions = [Session(name, USE_SUBPROCESS_WORKER="1") for _ in range(size)]

    def start(self) -> None:
        for session in self.sessions:
            session.start()
            session.round_trip(self.setup)

    def round_trip(self, code: str) -> str:
        return "".join(session.round_trip(code) for session in self.sessions)

    def close(self) -> None:
        for session in self.sessions:
            session.close()

    def pids(self) -> list[int]:
        return [pid for session in self.sessions for pid in session.pids()]


def memory(system: System) -> float:
    """MiB that all its processes hold together; a page that several share is counted once, in shares (PSS)."""
    total = 0
    for pid in system.pids():
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            try:
                total += process.memory_full_info().pss
            except psutil.NoSuchProcess:  # a copy that was let go of meanwhile
                continue
    return total / MEBIBYTE


def memory_each(system: System) -> float:
    """What one more has cost."""
    assert isinstance(system, (Clones, Several))
    return (memory(system) - system.before) / system.size
