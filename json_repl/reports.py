"""Parent side: what the copies of a worker report: each sends its number and our end of its channel, once."""

from __future__ import annotations

import os
from _socket import AF_UNIX, CMSG_SPACE, MSG_CMSG_CLOEXEC, SOCK_SEQPACKET, socket, socketpair
from collections import deque
from select import POLLIN, poll
from time import monotonic

from json_repl.core.snapshot import REPORT
from json_repl.shelf import Snapshot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_LAST_SECONDS = 1.0  # for a copy that was made right before its worker's end to say so, on a busy machine too
_MOST_REMEMBERED = 16  # copies


def make_channel() -> tuple[int, int]:
    """Our end and the worker's of what the reports come by.

    Raises:
        OSError: there are too many open files.
    """
    ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
    ours.setblocking(False)
    return ours.detach(), theirs.detach()


class Reports:
    """Of one worker's copies.

    Args:
        fd: our end.
        made: how many copies the worker has begun to make, and did not fail to.
        on_snapshot: gets each.
    """

    def __init__(self, fd: int, made: Callable[[], int], on_snapshot: Callable[[Snapshot], object]) -> None:
        self.fd = fd
        self.on_snapshot = on_snapshot
        self._made = made
        self._seen = 0
        self._numbers: deque[int] = deque(maxlen=_MOST_REMEMBERED)  # the requests after which they were made

    def __contains__(self, number: int) -> bool:
        return number in self._numbers

    @property
    def are_missing(self) -> bool:
        """Copies were made, or are being made, that have not reported yet."""
        return self._made() > self._seen

    def read(self) -> bool:
        """Take what is there; whether more can come."""
        reports = socket(AF_UNIX, SOCK_SEQPACKET, 0, self.fd)
        try:
            while True:
                report, ancillary, _, _ = reports.recvmsg(REPORT.size, CMSG_SPACE(4), MSG_CMSG_CLOEXEC)
                if not report:
                    return False
                channels = [int.from_bytes(data[:4], "little") for *_, data in ancillary]
                if len(report) != REPORT.size or len(channels) != 1:  # user code has written here
                    for channel in channels:
                        os.close(channel)
                    continue
                number, pid, threads, moves, made_at = REPORT.unpack(report)
                self._numbers.append(number)
                self._seen += 1
                self.on_snapshot(Snapshot(number, pid, channels[0], threads, moves=moves, made_at=made_at))
        except BlockingIOError:
            return True
        finally:
            reports.detach()

    def read_last(self) -> None:
        """The worker has ended: take what its copies, which are in the making still, have to say."""
        waiting = poll()
        waiting.register(self.fd, POLLIN)
        deadline = monotonic() + _LAST_SECONDS
        while self.are_missing and monotonic() < deadline:
            if waiting.poll((deadline - monotonic()) * 1000) and not self.read():
                return
