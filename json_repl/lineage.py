"""Parent side: one session's workers, one after the other, and which state each goes on from.

supply.py --worker--> lineage --ready, frames, output--> worker_manager.py
past.py <--states---/    |
                         +-- lost: the next one, from the newest state that there is
"""

from __future__ import annotations

from time import perf_counter

from json_repl import leftovers, memory
from json_repl.core import log, wire
from json_repl.core.snapshot import GUARDS, KEEPER, SUCCESSOR
from json_repl.loop import Loop
from json_repl.past import Past
from json_repl.shelf import Shelf, Snapshot
from json_repl.supply import Supply

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from json_repl.turn import End
    from json_repl.worker_link import WorkerLink

    class Owner(Protocol):
        """Who the workers are for."""

        def on_ready(self) -> None:
            """A worker can take requests."""

        def on_given_up(self, why: str) -> None:
            """There will be no worker."""

        def on_lost(self, end: End) -> None:
            """The worker has ended, and the state is again what it will be, see `Past.loss`."""

        def on_frame(self, kind: int, payload: bytes) -> None:
            """A frame of the worker."""

        def on_output(self, owner: int, pieces: list[tuple[int, bytes]]) -> None:
            """Output of request `owner`, or of none (0)."""


REAP_SECONDS = 0.3  # after which what a dead worker was making has ended
STOP_SECONDS = 2.0  # for a worker that was asked to end: the user's atexit handlers run then
MEASURE_SECONDS = 1.0  # after a snapshot, until the memory that all of them take is looked at
MEASURE_FACTOR = 20  # and until the next look, in times what a look costs
PARK_SECONDS = 5.0  # for a copy that was asked for to report


class Lineage:
    """Where a session's state lives.

    Args:
        owner: gets the news.
        source: the settings of `Supply`.
        keep, snapshot_memory: as in the settings JSON_REPL_SNAPSHOT_KEEP and JSON_REPL_SNAPSHOT_MEMORY.
        past, role: of a lineage that branches off from another, see `branch`.
    """

    def __init__(
        self,
        owner: Owner,
        loop: Loop,
        source: dict[str, str | None],
        *,
        keep: int,
        snapshot_memory: int,
        past: Past | None = None,
        role: bytes = SUCCESSOR,
    ) -> None:
        self.loop = loop
        self.past = past or Past(Shelf(loop, keep))
        self.epoch = 0  # grows whenever the namespace is not the live continuation of what it was
        self.restarts = 0
        self._owner = owner
        self._source = source
        self._keep = keep
        self._memory = snapshot_memory
        self._measuring = False
        self._shelf = self.past.shelf
        self._shelf.on_gone = self._replace
        self._supply = Supply(self, loop, self._shelf, source, role)
        self._then: Callable[[Snapshot | None], None] | None = None  # what comes first when the next worker is ready
        self._settling: Callable[[], None] | None = None  # who waits for the copies that are on their way
        self._synced = False  # the worker has begun no more of them meanwhile
        self._wants: list[Callable[[Snapshot | str], None]] = []  # who waits for a copy of the present

    @property
    def link(self) -> WorkerLink | None:
        """The worker, if there is one, ready or not."""
        return self._supply.link

    @property
    def ready(self) -> bool:
        """The worker can take a request."""
        return self._supply.ready and self._then is None

    @property
    def is_returning(self) -> bool:
        """A worker is made from a kept state."""
        return self._then is not None

    @property
    def given_up(self) -> str | None:
        """Why there will be no worker, until `restart`."""
        return self._supply.given_up

    def prepare(self) -> None:
        """Make the worker now, as it will be needed."""
        if not self._supply.under_way and self.given_up is None:
            self._supply.revive(self._shelf.newest())

    def note_served(self) -> None:
        """The worker has answered something."""
        self._supply.has_served = True
        self._shelf.settle_early(answered=True)
        leftovers.reap()

    def state(self) -> dict[str, object]:
        """For people who ask how it is."""
        process = self.link.process if self.link else None
        return {
            "pid": process.pid if process else None,
            "ready": self.ready,
            "restarts": self.restarts,
            "failed_starts": self._supply.failed_starts,
            "epoch": self.epoch,
            "given_up": self.given_up,
            "snapshots": len([*self._shelf]),
        }

    # -- states ------------------------------------------------------------------------------------------------------

    def at_present(self, then: Callable[[Snapshot | str], None]) -> None:
        """Call `then` with a copy of the state as it is now, made if need be, or with why there is none."""
        self._wants.append(then)
        present = self.past.present
        found = self._shelf.get(present)
        if self.given_up is not None:
            self._give_copy(f"there is no worker: {self.given_up}")
        elif not self.ready or self.link is None:
            self.prepare()  # and `on_ready` comes back to this
        elif found is not None and not found.moves:
            self._give_copy(found)
        else:
            self.link.ask_for_snapshot(present)
            self.loop.call_in(PARK_SECONDS, lambda: self._lose_patience(then))

    def _lose_patience(self, then: Callable[[Snapshot | str], None]) -> None:
        if then in self._wants:
            self._wants.remove(then)
            then("no copy of the state came in time")

    def when_settled(self, then: Callable[[], None]) -> None:
        """Call `then` once all copies have reported that were made of the states until now."""
        if not self.ready or self.link is None:  # and then there is nobody who makes any
            then()
            return
        self._settling, self._synced = then, False
        self.link.send(wire.SYNC)
        self.loop.call_in(PARK_SECONDS, lambda: self._settle(then))

    def _settle(self, then: Callable[[], None] | None) -> None:
        if then is not None and self._settling is then:
            self._settling = None
            then()

    def _look_whether_settled(self) -> None:
        if self._synced and (self.link is None or not self.link.reports.are_missing):
            self._settle(self._settling)

    def _give_copy(self, copy: Snapshot | str) -> None:
        wants, self._wants = self._wants, []
        for then in wants:
            then(copy)

    def return_to(self, snapshot: Snapshot, arrived: Callable[[Snapshot | None], None]) -> None:
        """Go back; `arrived` is told where to: to an older state, where `snapshot` could not be had any more."""
        link = self._supply.let_go()
        if link is not None:
            link.abandon()
            if link.process is not None:
                self._supply.end_what_is_left(link.process.pid)
        self.epoch += 1
        self._then = arrived
        self._supply.revive(snapshot)

    def undo(self, number: int, done: Callable[[], None]) -> None:
        """Go back to the state after request `number`, or what is left of it; the next answer tells."""
        snapshot = self._shelf.newest(number)
        if snapshot is not None:
            self.return_to(snapshot, lambda origin: done())
        else:  # all copies were ended from outside meanwhile
            self.epoch += 1
            self.past.lose(None)
            self.stop()
            done()

    def reset(self, done: Callable[[], None]) -> None:
        """Return to the state before the first request: from the copy that was made then, else in a new worker."""

        def arrived(origin: Snapshot | None) -> None:
            self.past.take_loss()
            done()

        pristine = self._shelf.get(0)
        if pristine is None:
            self.restart()
            done()
        else:
            self.return_to(pristine, arrived)

    def restart(self) -> None:
        """End the worker and begin anew, with an empty namespace; a session that had fallen back has workers again."""
        self.epoch += bool(self.past.requests)
        self.stop()
        self._supply.forgive()
        self.past.return_to(None)
        self.prepare()

    def branch(self, snapshot: Snapshot, *, alone: bool = False) -> Past:
        """The past of a second lineage, which goes on from `snapshot`, see `Past.branch`."""
        return self.past.branch(snapshot, Shelf(self.loop, self._keep), alone=alone)

    def begin(self, arrived: Callable[[Snapshot | None], None]) -> None:
        """Make the first worker of a lineage that branches off; `arrived` is called as by `return_to`."""
        self._then = arrived
        self.prepare()

    # -- the end -----------------------------------------------------------------------------------------------------

    def kill(self) -> None:
        """End the worker and all that it has started, at once, from within a signal's handler too."""
        link = self._supply.let_go()
        if link is not None and link.process is not None:
            link.kill()
            link.process.reap(wait=True)
            self._supply.end_all(link.process.pid)
        self._shelf.clear()

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """End the worker and all that it has started: ask, wait, kill. Returns when it is gone."""
        gone: list[bool] = []
        self.close(lambda: gone.append(True), seconds)
        while not gone:
            self.loop.turn()

    def close(self, done: Callable[[], None], seconds: float = STOP_SECONDS) -> None:
        """As `stop`, but return at once, and call `done` when it is gone."""
        link = self._supply.let_go()

        def ended() -> None:
            if link is not None:
                patience.cancel()
                if link.process is not None:
                    self._supply.end_all(link.process.pid)
            self._shelf.clear()  # last, as the keeper is among them
            done()

        if link is None:
            ended()
        else:
            patience = self.loop.call_in(seconds, link.kill)
            link.bid_farewell(ended)

    def discard(self, done: Callable[[], None] = lambda: None) -> None:
        """End the worker and let go of all copies, at once; nothing is heard any more but that all are `done`."""
        link = self._supply.let_go()

        def ended() -> None:
            if link is not None and link.process is not None:
                self._supply.end_all(link.process.pid)
            self.loop.call_in(REAP_SECONDS, leftovers.reap)
            done()

        if link is None:
            ended()
        else:
            link.abandon(ended)
        self._shelf.clear()

    # -- news of the supply ------------------------------------------------------------------------------------------

    def on_ready(self, origin: Snapshot | None) -> None:
        """A worker is there, made from `origin`, or fresh."""
        if origin is not None or self.past.requests:
            self.past.lose(origin)
        if origin is not None:  # of the last worker a copy may have been in the making, which nobody has heard of
            self.loop.call_in(REAP_SECONDS, leftovers.reap)
        self._arrive(origin)
        self._settle(self._settling)
        if self.ready:
            self._owner.on_ready()
            wants, self._wants = self._wants, []
            for then in wants:
                self.at_present(then)

    def on_given_up(self, why: str) -> None:
        """There will be none."""
        if self.past.requests:
            self.past.lose(None)
        self._arrive(None)
        self._settle(self._settling)
        self._give_copy(f"there is no worker: {why}")
        self._owner.on_given_up(why)

    def on_lost(self, end: End) -> None:
        """The worker has ended: another one from the newest state that there is, and then the owner is told."""
        self.restarts += 1
        self.epoch += 1
        self._shelf.settle_early(answered=False)
        newest = self._shelf.newest()
        if newest is None:
            self.past.lose(None)
            self._owner.on_lost(end)
            self.prepare()
        else:
            self._then = lambda origin: self._owner.on_lost(end)
            self._supply.revive(newest)

    def _arrive(self, origin: Snapshot | None) -> None:
        then, self._then = self._then, None
        if then is not None:
            then(origin)

    def on_snapshot(self, snapshot: Snapshot) -> None:
        """The worker has parked a copy of itself."""
        if snapshot.number == KEEPER:
            self._shelf.keep_keeper(snapshot)
            return
        is_early = self.link is not None and self.link.busy == snapshot.number > 0
        (self._shelf.add_early if is_early else self._shelf.add)(snapshot)
        self._measure_in(MEASURE_SECONDS)
        if snapshot.number == self.past.present:
            self._give_copy(snapshot)
        self._look_whether_settled()

    def _replace(self, gone: Snapshot) -> None:
        """A copy was ended from outside: have another one made of what can be had again."""
        if not self.ready or self.link is None or self.link.busy or self._source["snapshots"] == "off":
            return
        if gone.number in GUARDS:
            self.link.ask_for_snapshot(KEEPER)
        elif gone.number == self.past.present:
            self.link.ask_for_snapshot(gone.number)

    def _measure_in(self, seconds: float) -> None:
        if not self._measuring:
            self._measuring = True
            self.loop.call_in(seconds, self._measure)

    def _measure(self) -> None:
        """Let go of copies until the rest fit into their memory."""
        self._measuring = False
        if self.link is None or self.link.process is None:
            return
        self._memory = self._memory or memory.a_quarter()
        started = perf_counter()
        copies = [snapshot.pid for snapshot in self._shelf]
        if memory.extra_bytes(self.link.process.pid, copies) > self._memory and self._shelf.evict():
            log.debug("the snapshots take more memory than they may; one was let go of")
            self._measure_in(MEASURE_FACTOR * (perf_counter() - started))

    def on_frame(self, kind: int, payload: bytes) -> None:
        """A frame of the worker."""
        if kind == wire.UNPARKED:
            self._give_copy(f"no copy of the state can be made: {wire.unpack_texts(payload)[0]}")
        elif kind == wire.SYNC:
            self._synced = True
            self._look_whether_settled()
        else:
            self._owner.on_frame(kind, payload)

    def on_output(self, owner: int, pieces: list[tuple[int, bytes]]) -> None:
        """Output of request `owner`, or of none."""
        self._owner.on_output(owner, pieces)
