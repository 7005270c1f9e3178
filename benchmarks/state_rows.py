"""What is measured of state that survives: recovery, snapshots, time travel, clones, memory, sessions at once."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from benchmarks.crowds import Clones, memory, memory_each
from benchmarks.rows import HELD_1_GB, HELD_100_MB, PEER, Goal, Row, expression, expression_after_a_pause, spawn
from benchmarks.systems import IPyKernel, Session, System, execute, request

SETTLED = 0.1  # seconds after which a copy of the state has been made, on a busy machine too
LONGEST_POLL = 3.0  # seconds between two looks of jupyter_client's restarter
BUSY_CODE = "sum(range(400_000))"
TIMES = 25  # that each session runs it
LOOK_AT_CLOCK = "import time; print(time.perf_counter())"
SIZES = {"": "kept = 0", ", 100 MB held": HELD_100_MB, ", 1 GB held": HELD_1_GB}
SNAPSHOTS = {"worker, snapshots off": "F2", "worker": "F2", "worker, snapshots always": "F2"}


def recovery(system: System) -> float:
    """From a kill -9 of what runs the code to the next answer; of a session, with its state."""
    time.sleep(random.uniform(0, LONGEST_POLL) if isinstance(system, IPyKernel) else SETTLED)
    began = time.perf_counter()
    system.break_down()
    text = system.round_trip("print(globals().get('kept', 'lost'))")
    took = time.perf_counter() - began
    if isinstance(system, Session) and text != "0\n":
        raise ValueError(f"kept is {text!r} after the worker was killed")
    return took


def of_sessions(
    measure: Callable[[Session], float], others: Callable[[System], float] = expression
) -> Callable[[System], float]:
    """A measure that takes something else of what is no session."""
    return lambda system: measure(system) if isinstance(system, Session) else others(system)


def between_two(session: Session) -> float:
    """From the end of a request's code to the begin of the next one's, where both were sent at once."""
    for _ in range(2):
        session.send(execute(LOOK_AT_CLOCK))
    first, second = (float(session.take_output()) for _ in range(2))
    return second - first


def rollback(session: Session) -> float:
    time.sleep(SETTLED)  # there is a copy to return to then
    session.round_trip("kept += 1")
    time.sleep(SETTLED)
    began = time.perf_counter()
    session.call("rollback", steps=1)
    return checked(session, began)


def reset(session: Session) -> float:
    began = time.perf_counter()
    session.call("reset")
    took = time.perf_counter() - began
    session.round_trip("kept = 0")
    time.sleep(SETTLED)
    return took


def dry_run(session: Session) -> float:
    time.sleep(SETTLED)
    began = time.perf_counter()
    session.send(execute("kept += 1", dry_run=True))
    session.take_output()
    return checked(session, began)


def undone_error(session: Session) -> float:
    time.sleep(SETTLED)
    began = time.perf_counter()
    session.call("execute", code="kept += 1; 1/0", on_error="rollback")
    return checked(session, began)


def checked(session: Session, began: float) -> float:
    """The time since then, once it is sure that the state is as it should be."""
    took = time.perf_counter() - began
    text = session.round_trip("print(kept)")
    if text != "0\n":
        raise ValueError(f"kept is {text!r}, not 0")
    return took


def clone(session: Session, **params: object) -> float:
    """From the request for a clone to its first answer."""
    time.sleep(SETTLED)
    began = time.perf_counter()
    session.send(request("session/clone", new_session_id="clone", **params))
    session.send(execute("1+1", session_id="clone"))
    session.receive()
    session.take_output()
    took = time.perf_counter() - began
    session.call("session/close", session_id="clone")
    return took


def anew(system: System) -> float:
    """From nothing to the first answer, also of a system that runs."""
    system.close()
    return spawn(system)


def all_at_once(code: str) -> Callable[[System], float]:
    """Seconds that one request takes when each of several sessions always has one to run."""

    def measure(system: System) -> float:
        began = time.perf_counter()
        if isinstance(system, Clones):
            system.work(code, TIMES)
            return (time.perf_counter() - began) / TIMES / system.size
        for _ in range(TIMES):
            system.round_trip(code)
        return (time.perf_counter() - began) / TIMES

    return measure


def for_sizes(
    name: str,
    measure: Callable[[System], float],
    contenders: dict[str, str],
    sizes: tuple[str, ...] = tuple(SIZES),
    *,
    blocks: int = 10,
    samples_per_block: int = 1,
) -> list[Row]:
    return [
        Row(name + size, measure, contenders, blocks=blocks, samples_per_block=samples_per_block, setup=SIZES[size])
        for size in sizes
    ]


SMALL, MIDDLE, LARGE = SIZES
OF_IDLE_MEMORY = {"local": "idle python", "worker": "idle python", PEER: "idle python"}
CROWDS = {"20 clones of 100 MB": "20 sessions, empty", "20 sessions of 100 MB": "20 sessions, empty"}
AT_ONCE = ("1 at once", "2 at once", "4 at once")

ROWS = [
    Row(
        "kill -9 to the next answer",
        recovery,
        {"worker": "P", PEER: "P"},
        goals=(Goal("worker", "P", must=0.5, aim=0.15), Goal("worker", PEER, must=100, aim=100)),
        blocks=10,
        samples_per_block=1,
        setup=SIZES[SMALL],
    ),
    *for_sizes("kill -9 to the next answer", recovery, {"worker": "P"}, (MIDDLE, LARGE)),
    *for_sizes("snapshots, 1+1 5 ms apart", expression_after_a_pause, SNAPSHOTS, samples_per_block=10),
    *for_sizes("snapshots, 1+1 back to back", expression, SNAPSHOTS, samples_per_block=20),
    *for_sizes(
        "snapshots, between two requests sent at once", of_sessions(between_two), SNAPSHOTS, samples_per_block=10
    ),
    *for_sizes("rollback", of_sessions(rollback), {"worker": "P"}, (SMALL, MIDDLE)),
    *for_sizes("reset", of_sessions(reset), {"worker": "P"}, (SMALL,)),
    *for_sizes("dry run", of_sessions(dry_run), {"worker": "P"}, (SMALL, MIDDLE)),
    *for_sizes("an error that is rolled back", of_sessions(undone_error), {"worker": "P"}, (SMALL, MIDDLE)),
    *for_sizes("clone to its first answer", of_sessions(clone), {"worker": "P"}),
    Row(
        "new session, a clone of the first state",
        of_sessions(lambda session: clone(session, at=0), others=anew),
        {"worker": "P", PEER: "P"},
        goals=(Goal("worker", "P", must=0.5, aim=0.2), Goal("worker", PEER, must=100, aim=100)),
        blocks=10,
        samples_per_block=1,
    ),
    Row(
        "memory of an idle session",
        memory,
        OF_IDLE_MEMORY,
        goals=tuple(Goal(system, PEER, must=4, aim=5) for system in ("local", "worker")),
        blocks=5,
        samples_per_block=1,
        setup="kept = 0",
        unit="MiB",
    ),
    Row("memory of 20, together", memory, CROWDS, blocks=3, samples_per_block=1, unit="MiB"),
    Row("memory of 20, each", memory_each, CROWDS, blocks=3, samples_per_block=1, unit="MiB"),
    Row("requests a second, 1+1", all_at_once("1+1"), dict.fromkeys(AT_ONCE, "F2"), samples_per_block=1, unit="rate"),
    Row(
        f"requests a second, {BUSY_CODE}",
        all_at_once(BUSY_CODE),
        dict.fromkeys(AT_ONCE[1:], AT_ONCE[0]),
        samples_per_block=1,
        unit="rate",
    ),
]
