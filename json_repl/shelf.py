"""Parent side: the parked copies of one session's worker: which states can be returned to."""

from __future__ import annotations

import os
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_SEQPACKET, SOL_SOCKET, socket

from json_repl import processes
from json_repl.core.snapshot import BYE
from json_repl.loop import GONE, Loop

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_REAP_SECONDS = 0.02  # a copy that was let go of has ended by then, mostly


class Snapshot:
    """One parked copy.

    Args:
        number: of the request after which it was made; 0: before any.
        pid: of the copy.
        channel: our end of its channel; the copy ends when all of those are closed.
        threads: how many of the user's threads it lacks.
        moves: threads or tasks may have changed the state since it was made.
        made_at: when, as `time.time()`.
    """

    __slots__ = ("_holders", "channel", "made_at", "moves", "number", "pid", "threads")

    def __init__(self, number: int, pid: int, channel: int, threads: int, *, moves: bool, made_at: float) -> None:
        self.number = number
        self.pid = pid
        self.channel = channel
        self.threads = threads
        self.moves = moves
        self.made_at = made_at
        self._holders = [1]  # how many of them there are, in a list that all share

    def share(self) -> Snapshot:
        """The same copy, for one more shelf."""
        other = Snapshot(
            self.number, self.pid, os.dup(self.channel), self.threads, moves=self.moves, made_at=self.made_at
        )
        other._holders = self._holders
        self._holders[0] += 1
        return other

    def close(self) -> bool:
        """Let go of it; whether nobody else holds it, so that it ends."""
        self._holders[0] -= 1
        if not self._holders[0]:
            self._dismiss()  # just to close it would have it end what is left of the session
        os.close(self.channel)
        return not self._holders[0]

    def make_worker(self, role: bytes, mark: str, files: Sequence[int]) -> None:
        """Have the copy make a live worker of itself, which gets these files; it says READY on one of them.

        `role` is one of those in core/snapshot.py, `mark` what all that it starts will wear.

        Raises:
            OSError: the copy has ended.
        """
        channel = socket(AF_UNIX, SOCK_SEQPACKET, 0, self.channel)
        try:
            packed = b"".join(file.to_bytes(4, "little") for file in files)
            channel.sendmsg([role + b" " + mark.encode()], [(SOL_SOCKET, SCM_RIGHTS, packed)])
        finally:
            channel.detach()

    def _dismiss(self) -> None:
        channel = socket(AF_UNIX, SOCK_SEQPACKET, 0, self.channel)
        try:
            channel.send(BYE)
        except OSError:  # it has ended
            pass
        finally:
            channel.detach()


class Shelf:
    """Holds at most `keep` snapshots beside the first: the newer, the closer together."""

    def __init__(self, loop: Loop, keep: int) -> None:
        self.on_gone: Callable[[Snapshot], None] = lambda snapshot: None  # one has ended that nobody has let go of
        self.place: Callable[[int], int] = int  # of a request in the order of those that count
        self._loop = loop
        self._keep = max(keep, 1)
        self._snapshots: dict[int, Snapshot] = {}  # by number; a busy machine has them come in any order
        self._early: Snapshot | None = None
        self._keeper: Snapshot | None = None
        self._ending: list[int] = []  # pids of copies that were let go of

    def __iter__(self) -> Iterator[Snapshot]:
        return iter([self._snapshots[number] for number in sorted(self._snapshots)])

    def add(self, snapshot: Snapshot) -> None:
        """Put a new one there, and let go of the one that is missed least, if there are too many."""
        self.drop(snapshot.number)
        self._snapshots[snapshot.number] = snapshot
        processes.hold(snapshot.pid)
        self._loop.watch(snapshot.channel, lambda: self._gone(snapshot), GONE)
        if self._count() > self._keep:
            self.drop(self._least_missed())

    def add_early(self, snapshot: Snapshot) -> None:
        """Hold one of the state after a request that is not answered for yet; see `settle_early`."""
        processes.hold(snapshot.pid)
        self._early = snapshot

    def settle_early(self, *, answered: bool) -> None:
        """That request was answered for, or never will be."""
        early, self._early = self._early, None
        if early is not None:
            if answered:
                self.add(early)
            else:
                self._let_go_of(early)

    def evict(self) -> bool:
        """Let go of the one that is missed least; False where there is only the first and the newest."""
        if self._count() > 1:
            self.drop(self._least_missed())
            return True
        return False

    def keep_keeper(self, keeper: Snapshot) -> None:
        """Hold the copy that ends what is left when our end of its channel closes."""
        self._let_go_of_keeper()
        self._keeper = keeper
        processes.hold(keeper.pid)
        self._loop.watch(keeper.channel, lambda: self._gone(keeper), GONE)

    def newest(self, until: int | None = None) -> Snapshot | None:
        """The one of the latest state, or of the latest until request `until`."""
        numbers = [number for number in self._snapshots if until is None or number <= until]
        return self._snapshots[max(numbers)] if numbers else None

    def get(self, number: int | None) -> Snapshot | None:
        """That of the state after request `number`."""
        return None if number is None else self._snapshots.get(number)

    def drop(self, number: int) -> None:
        """Let go of one; it ends."""
        snapshot = self._snapshots.pop(number, None)
        if snapshot is not None:
            self._loop.forget(snapshot.channel)
            self._let_go_of(snapshot)

    def drop_after(self, number: int) -> None:
        """Let go of all later states."""
        for later in [found for found in self._snapshots if found > number]:
            self.drop(later)

    def clear(self) -> None:
        """Let go of all, and wait until they have ended."""
        for number in [*self._snapshots]:
            self.drop(number)
        self.settle_early(answered=False)
        self._let_go_of_keeper()
        for pid in self._ending:
            processes.reap_held(pid, wait=True)
        self._ending.clear()

    def _let_go_of_keeper(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            self._loop.forget(keeper.channel)
            self._let_go_of(keeper)

    def _let_go_of(self, snapshot: Snapshot) -> None:
        if snapshot.close():
            self._ending.append(snapshot.pid)
            self._loop.call_in(_REAP_SECONDS, self._reap)

    def _count(self) -> int:
        return len(self._snapshots) - (0 in self._snapshots)

    def _least_missed(self) -> int:
        # Spacing grows with age: the one goes whose neighbours lie closest together for how old they are. The newest
        # stays, and the one before it too, where there are others: one step back is what is wanted most often.
        numbers = sorted(number for number in self._snapshots if number)
        places = [self.place(number) for number in numbers]

        def gap_for_its_age(index: int) -> float:
            before = places[index - 1] if index else 0
            return (places[index + 1] - before) / (places[-1] - places[index] + 1)

        return numbers[min(range(max(1, len(numbers) - 2)), key=gap_for_its_age)]

    def _gone(self, snapshot: Snapshot) -> None:
        if snapshot is self._keeper:
            self._let_go_of_keeper()
        elif self._snapshots.get(snapshot.number) is snapshot:
            self.drop(snapshot.number)
        self.on_gone(snapshot)

    def _reap(self) -> None:
        self._ending = [pid for pid in self._ending if not processes.reap_held(pid)]
        if self._ending:
            self._loop.call_in(_REAP_SECONDS * 10, self._reap)
