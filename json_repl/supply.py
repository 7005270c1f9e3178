"""Parent side: where a session's worker comes from: a fresh process, or a parked copy of an earlier one.

revive --> the given copy, else the next older one, ...
       --> then a fresh process: spawn, wait for READY; up to three more times with pauses; then given up
"""

from __future__ import annotations

import os
import sys
from time import monotonic

from json_repl import leftovers, processes
from json_repl.core import log, wire
from json_repl.core.errors import WorkerUnavailable
from json_repl.core.snapshot import CLONE, MARK, SUCCESSOR
from json_repl.loop import Loop, Timer
from json_repl.shelf import Shelf, Snapshot
from json_repl.turn import RESTARTS
from json_repl.worker_link import WORKER_FILE, WorkerLink

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from json_repl.turn import End

    class Customer(Protocol):
        """Who the worker is for."""

        def on_ready(self, origin: Snapshot | None) -> None:
            """The worker can take requests. It was made from `origin`, or is fresh."""

        def on_given_up(self, why: str) -> None:
            """There will be no worker."""

        def on_frame(self, kind: int, payload: bytes) -> None:
            """A frame of the ready worker."""

        def on_output(self, owner: int, pieces: list[tuple[int, bytes]]) -> None:
            """Output of request `owner`, or of none (0)."""

        def on_snapshot(self, snapshot: Snapshot) -> None:
            """The worker has parked a copy."""

        def on_lost(self, end: End) -> None:
            """The ready worker has ended."""


PAUSES = (0.05, 0.2, 0.8)  # seconds before each restart of a worker that did not come up
BOOT_SECONDS = 20.0  # a worker that has not said that it is ready by then is not coming
REVIVE_SECONDS = 5.0  # the same for one that is made from a copy, on a busy machine too
HEALTHY_SECONDS = 10.0  # a worker that lived so long has its failed starts forgiven, as in jupyter_client's restarter
ORPHANS_SECONDS = 0.5  # copies that were made about the time of a worker's end have reported by then
_MOST_WORDS = 4096  # bytes; the last line tells why
REFUSED = 3  # exit status of a worker that cannot boot and has said why (gunicorn's WORKER_BOOT_ERROR)


class Supply:
    """Holds the worker of one session.

    Args:
        customer: gets the news.
        source: the settings `python` (by default the interpreter that runs this), `helpers` and `snapshots`.
        role: what a worker that is made from a copy is for, one of those in core/snapshot.py.
    """

    def __init__(
        self, customer: Customer, loop: Loop, shelf: Shelf, source: dict[str, str | None], role: bytes = SUCCESSOR
    ) -> None:
        self.link: WorkerLink | None = None
        self.ready = False  # the worker can take a request
        self.given_up: str | None = None  # why there will be no worker, until `forgive`
        self.failed_starts = 0
        self._dead: set[int] = set()  # workers whose orphans have not been looked for
        self._sweeping = False
        self.has_served = False  # it has answered something since it was made
        self._customer = customer
        self._loop = loop
        self._shelf = shelf
        python, helpers, snapshots = (source[name] for name in ("python", "helpers", "snapshots"))
        self._command = [python or sys.executable, "-u", WORKER_FILE, "{first}", helpers or "", snapshots or "auto"]
        self._mark = leftovers.new_mark()
        self._role = role
        self._timer: Timer | None = None  # until the worker is ready, or the next start
        self._born = 0.0
        self._why = ""  # it is killed, if it is
        self._words = b""  # what a worker that does not come up says
        self._origin: Snapshot | None = None  # of the worker that is being made

    @property
    def under_way(self) -> bool:
        """A worker is there, or is coming."""
        return self.link is not None or self._timer is not None

    def revive(self, origin: Snapshot | None) -> None:
        """Make a worker from `origin`, or the next older copy that still can; a fresh one where there is none."""
        self._origin = origin
        self._words = b""
        self._why = ""
        self.has_served = False
        self._born = monotonic()
        leftovers.expect(self._mark)
        try:
            self.link = WorkerLink(
                self._loop, self._beget, self._on_frame, self._on_output, self._on_end, self._customer.on_snapshot
            )
        except WorkerUnavailable as error:
            self._timer = None
            self._failed(str(error), hopeless=error.hopeless, for_want_of_files=error.for_want_of_files)
            return
        self._timer = self._loop.call_in(REVIVE_SECONDS if origin else BOOT_SECONDS, self._is_late)

    def forgive(self) -> None:
        """Begin to count failures anew."""
        self.given_up = None
        self.failed_starts = 0

    def let_go(self) -> WorkerLink | None:
        """Give the worker out of hand: nothing more is heard of it here."""
        if self._timer is not None:
            self._timer.cancel()
        link, self.link, self.ready, self._timer = self.link, None, False, None
        return link

    def end_what_is_left(self, pid: int) -> None:
        """End what a dead worker has left behind: its group at once, and what has left that a little later."""
        leftovers.end_group(pid)
        if leftovers.are_there(pid):
            self._dead.add(pid)

    def end_all(self, pid: int) -> None:
        """End all that this session's workers have left behind, the last of which has ended."""
        leftovers.end_all(self._mark, pid)

    def _sweep_after(self, successor: int) -> None:
        """Look for orphans of dead workers once all copies that their successor makes right now have reported."""
        if not self._dead or self._sweeping:
            return
        dead, birth = self._dead, leftovers.birth(successor)
        self._dead, self._sweeping = set(), True

        def sweep() -> None:
            self._sweeping = False
            leftovers.end_orphans(self._mark, dead, birth)
            if self.link is not None and self.link.process is not None:
                self._sweep_after(self.link.process.pid)

        self._loop.call_in(ORPHANS_SECONDS, sweep)

    def _beget(self, files: list[int], out: int, err: int) -> processes.Process | None:
        if self._origin is None:
            return processes.spawn(self._command, {**os.environ, MARK: self._mark}, files, out, err)
        self._origin.make_worker(self._role, self._mark, [*files, out, err])
        return None

    def _is_late(self) -> None:
        self._timer = None
        if self.link is not None:
            self._why = "the worker did not become ready in time"
            self.link.kill()

    def _on_frame(self, kind: int, payload: bytes) -> None:
        if self.link is None:  # it was let go
            return
        if self.ready or kind != wire.READY:
            self._customer.on_frame(kind, payload)
            return
        pid = int(wire.unpack_texts(payload)[0] or 0)
        try:
            if self.link.process is None:
                self.link.adopt(processes.Process(pid))
        except ProcessLookupError:  # it has ended again
            self.link.kill()
            return
        self.ready = True
        if self._role == CLONE:  # further ones go on for this one
            self._role = SUCCESSOR
        self._sweep_after(pid)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        log.debug(f"worker {pid} is ready" + (f", as after request {self._origin.number}" if self._origin else ""))
        self._customer.on_ready(self._origin)

    def _on_output(self, owner: int, pieces: list[tuple[int, bytes]]) -> None:
        if self.ready or self.link is None:
            self._customer.on_output(owner, pieces)
        else:
            self._words = (self._words + b"".join(data for _, data in pieces))[-_MOST_WORDS:]

    def _on_end(self, link: WorkerLink, end: End) -> None:
        if link is not self.link:  # it was let go, and somebody waits for this
            return
        was_ready = self.ready
        self.let_go()
        if link.process is not None:
            self.end_what_is_left(link.process.pid)
        if was_ready and (self.has_served or self._origin is not None or link.busy):
            if monotonic() - self._born >= HEALTHY_SECONDS:
                self.failed_starts = 0
            self._customer.on_lost(end)
            return
        words = self._words.decode("utf-8", "replace").strip().splitlines()
        when = "before it had taken a request" if was_ready else "before it was ready"
        why = self._why or f"the worker {end.text} {when}" + (f": {words[-1]}" if words else "")
        self._failed(why, hopeless=end.code == REFUSED)

    def _failed(self, why: str, *, hopeless: bool, for_want_of_files: bool = False) -> None:
        origin = self._origin
        if origin is not None and not for_want_of_files:
            log.warning(f"{why}; an older state is taken")
            self._shelf.drop(origin.number)
            self.revive(self._shelf.newest())
            return
        self.failed_starts += 1
        if hopeless or self.failed_starts > RESTARTS:
            self.given_up = why
            self._customer.on_given_up(why)
            return
        pause = PAUSES[self.failed_starts - 1]
        log.warning(f"{why}; trying again in {pause:g} s ({self.failed_starts} of {RESTARTS})")
        self._timer = self._loop.call_in(pause, lambda: self.revive(origin))
