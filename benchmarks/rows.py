"""What is measured: a row is one function that takes a system and returns one sample, and a line in ROWS."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from benchmarks.crowds import Clones, Several
from benchmarks.systems import BarePython, Floor, IdlePython, IPyKernel, Session, System

PEER = "ipykernel"

HELD_100_MB = "held = bytes([1]) * (100 << 20); kept = 0"
HELD_1_GB = "held = bytes([1]) * (1 << 30); kept = 0"

SYSTEMS: dict[str, Callable[[], System]] = {
    "P": BarePython,
    "F": lambda: Floor("F", "echo"),
    "F2": lambda: Floor("F2", "relay"),
    "local": lambda: Session("local", USE_SUBPROCESS_WORKER="0"),
    "worker": lambda: Session("worker", USE_SUBPROCESS_WORKER="1"),
    "worker, snapshots off": lambda: Session(
        "worker, snapshots off", USE_SUBPROCESS_WORKER="1", JSON_REPL_SNAPSHOTS="off"
    ),
    "worker, snapshots always": lambda: Session(
        "worker, snapshots always", USE_SUBPROCESS_WORKER="1", JSON_REPL_SNAPSHOTS="always"
    ),
    "idle python": IdlePython,
    **{f"{size} at once": partial(lambda size: Clones(f"{size} at once", size), size) for size in (1, 2, 4)},
    "20 clones of 100 MB": lambda: Clones("20 clones of 100 MB", 20, HELD_100_MB),
    "20 sessions, empty": lambda: Several("20 sessions, empty", 20, "kept = 1"),
    "20 sessions of 100 MB": lambda: Several("20 sessions of 100 MB", 20, HELD_100_MB),
    PEER: IPyKernel,
}


@dataclass(frozen=True)
class Goal:
    """A system's median is at most so many times another's; or, against the peer, at least so many times faster."""

    system: str
    against: str
    must: float
    aim: float


@dataclass(frozen=True)
class Row:
    name: str
    measure: Callable[[System], float]
    contenders: dict[str, str]  # {"worker": "F2"}: a system, and the floor it stands on
    goals: tuple[Goal, ...] = ()
    blocks: int = 20
    samples_per_block: int = 50
    running: bool = True  # False: measure gets a system that has not been started
    setup: str = ""  # code that each system runs first
    unit: str = "s"  # "rate": seconds for one, shown as how many in a second

    def systems(self) -> list[str]:
        """Floors first, each once."""
        return list(dict.fromkeys([*self.contenders.values(), *self.contenders]))


def expression(system: System) -> float:
    began = time.perf_counter()
    system.round_trip("1+1")
    return time.perf_counter() - began


def assignment(system: System) -> float:
    began = time.perf_counter()
    system.round_trip("x = 1")
    return time.perf_counter() - began


def expression_after_a_pause(system: System) -> float:
    time.sleep(0.005)
    return expression(system)


def spawn(system: System) -> float:
    began = time.perf_counter()
    system.start()
    system.round_trip("1+1")
    took = time.perf_counter() - began
    system.close()
    return took


LINES_CODE = "for n in range(100_000): print(f'line {n}')"
LINES_TEXT = "".join(f"line {n}\n" for n in range(100_000))


def printed_lines(system: System) -> float:
    began = time.perf_counter()
    text = system.round_trip(LINES_CODE)
    took = time.perf_counter() - began
    if text != LINES_TEXT:
        raise ValueError(f"{text.count(chr(10)):,} of 100,000 lines are in the answer")
    return took


def print_to_client(system: System) -> float:
    if isinstance(system, Floor):
        return expression(system)
    arrived, told = 0.0, ""
    for text in system.stream("import time; time.sleep(0.002); print(repr(time.time()))"):
        arrived = arrived or time.time()
        told += text
    return arrived - float(told)


def streamed_lines(system: System) -> float:
    began = time.perf_counter()
    text = "".join(system.stream(LINES_CODE))
    took = time.perf_counter() - began
    if text != LINES_TEXT:
        raise ValueError(f"{text.count(chr(10)):,} of 100,000 lines were streamed")
    return took


EVERYONE = {"local": "F", "worker": "F2", "worker, snapshots off": "F2", PEER: "F"}

ROWS = [
    Row(
        "round trip 1+1",
        expression,
        EVERYONE,
        goals=(
            Goal("local", "F", must=3, aim=2),
            Goal("local", PEER, must=30, aim=60),
            Goal("worker, snapshots off", "F2", must=2, aim=1.4),
            Goal("worker, snapshots off", PEER, must=15, aim=15),
            Goal("worker", PEER, must=1.5, aim=4),
        ),
    ),
    Row("round trip x = 1", assignment, EVERYONE),
    Row(
        "round trip 1+1, 5 ms apart",
        expression_after_a_pause,
        {"worker": "F2", PEER: "F"},
        goals=(Goal("worker", "F2", must=6, aim=3), Goal("worker", PEER, must=6, aim=6)),
        samples_per_block=10,
    ),
    Row(
        "spawn to first answer",
        spawn,
        {"local": "P", "worker": "P", PEER: "P"},
        goals=(
            Goal("local", "P", must=3, aim=2),
            Goal("local", PEER, must=12, aim=12),
            Goal("worker", "P", must=5, aim=3),
            Goal("worker", PEER, must=12, aim=12),
        ),
        blocks=15,
        samples_per_block=1,
        running=False,
    ),
    Row(
        "100,000 lines printed",
        printed_lines,
        {"local": "P", "worker": "P", PEER: "P"},
        goals=(Goal("local", PEER, must=3, aim=6), Goal("worker", PEER, must=3, aim=6)),
        blocks=12,
        samples_per_block=1,
    ),
    Row(
        "print to client, while the code runs",
        print_to_client,
        {"local": "F", "worker": "F", PEER: "F"},
        goals=(
            Goal("local", "F", must=3, aim=1.3),
            Goal("local", PEER, must=4, aim=4),
            Goal("worker", "F", must=5, aim=3),
            Goal("worker", PEER, must=4, aim=4),
        ),
        samples_per_block=10,
    ),
    Row(
        "100,000 lines streamed",
        streamed_lines,
        {"local": "P", "worker": "P", PEER: "P"},
        goals=(Goal("local", PEER, must=3, aim=6), Goal("worker", PEER, must=3, aim=6)),
        blocks=12,
        samples_per_block=1,
    ),
]
