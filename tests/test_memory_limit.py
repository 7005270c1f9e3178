"""What the kernel kills for want of memory: a real limit, in a control group of the test's own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from harness import Session, wait_until

Start = Callable[..., Session]
LIMIT = 200 << 20  # bytes
GREEDY = "eaten = bytearray(1 << 30)\nfor place in range(0, len(eaten), 4096): eaten[place] = 1"


def _parents() -> Iterator[tuple[Path, str]]:
    """Where a group could be made, and the name of the file that limits its memory."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, own = line.split(":", 2)
        for path in dict.fromkeys((own.strip("/"), "")):  # in a container its own group may be seen as the root
            if not controllers:
                yield Path("/sys/fs/cgroup", path), "memory.max"
            elif "memory" in controllers.split(","):
                yield Path("/sys/fs/cgroup/memory", path), "memory.limit_in_bytes"


def _remove(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError:  # a process is there still
        return False
    return True


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group that kills what takes more than LIMIT."""
    for parent, name in _parents() if os.path.exists("/proc/self/cgroup") else ():
        made = parent / f"json-repl-test-{uuid4().hex[:8]}"
        try:
            made.mkdir()
        except OSError:
            continue
        if (made / name).exists():
            (made / name).write_text(str(LIMIT))
            swap = made / name.replace("limit_in_bytes", "memsw.limit_in_bytes").replace(
                "memory.max", "memory.swap.max"
            )
            if swap.exists():
                swap.write_text(str(LIMIT if "memsw" in swap.name else 0))
            yield made
            wait_until(lambda: _remove(made))  # noqa: B023
            return
        made.rmdir()
    pytest.skip(
        "no control group with a limit of memory can be made: what the kernel kills for want of it is not tested"
    )


@pytest.mark.parametrize("snapshots", ["auto", "always"])
def test_code_that_the_kernel_kills_for_want_of_memory_is_told_so_and_costs_itself_alone(
    start: Start, group: Path, tmp_path: Path, snapshots: str
) -> None:
    def enter() -> None:
        (group / "cgroup.procs").write_text(str(os.getpid()))

    session = start("worker", env={"JSON_REPL_SNAPSHOTS": snapshots}, preexec_fn=enter)
    session.keep("x = 41; kept = bytes([1]) * (10 << 20)")
    ran = tmp_path / "ran"
    for epoch in (1, 2, 3):
        answer = session.run(f"open({str(ran)!r}, 'a').write('!')\nx = 0\n{GREEDY}")
        assert (answer["reason"], answer["attempts"]) == ("memory", 1)
        assert (answer["error"]["ename"], answer["error"]["signal"]) == ("MemoryLimit", "SIGKILL")
        state = answer["session_state"]
        assert (state["state"], state["epoch"], state["undone"]) == ("restored", epoch, [])
        assert session.value("x + 1, len(kept)") == f"(42, {10 << 20})"
    assert ran.read_text() == "!!!"
    assert session.finish()[2] == 0
