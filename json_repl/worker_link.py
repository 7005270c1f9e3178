"""Parent side: one worker process and our ends of its files.

request pipe  --> frames to the worker; never blocks, what does not fit waits here
answer pipe   <-- frames from the worker
out, err      <-- what its C code and children print; the worker drains them itself, we where it cannot
page          <-> output that has no frame yet; survives the worker
stacks        <-- what faulthandler writes
life          --> never written: its end tells the kernel that we are gone
"""

from __future__ import annotations

import fcntl
import marshal
import mmap
import os
import signal

from json_repl import processes
from json_repl.core import log, wire
from json_repl.core.errors import WireError, WorkerUnavailable
from json_repl.core.imports import HOME
from json_repl.core.output import PAGE_BYTES, STDERR, STDOUT, OutputReader
from json_repl.core.streams import PIPE_BYTES
from json_repl.core.tracebacks import without_our_lines
from json_repl.loop import WRITE, Loop
from json_repl.reports import Reports, make_channel
from json_repl.shelf import Snapshot
from json_repl.turn import End

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

WORKER_FILE = os.path.join(HOME, "subprocess_worker.py")
_READ_BYTES = 1 << 16  # as much as a pipe holds; room for more costs a page fault each time
_PATIENCE = 0.002  # seconds that bytes may lie in a pipe of a busy worker before we take them instead of it
_MOST_STACK_BYTES = 100_000
_MOST_LOOKS = 4  # at a page that is handed over meanwhile: what stood in it at first has come then


class WorkerLink:
    """A worker. Its news come by `on_frame(kind, payload)`, `on_output(owner, pieces)`, `on_snapshot(snapshot)` and
    `on_end(link, end)`.

    `on_end` is called once, after all that the worker has left behind was delivered. `beget` makes the process from
    its files. `busy` is the number of the request that runs, or 0.

    Raises:
        WorkerUnavailable: it cannot be started.
    """

    def __init__(
        self,
        loop: Loop,
        beget: Callable[[list[int], int, int], processes.Process | None],
        on_frame: Callable[[int, bytes], None],
        on_output: Callable[[int, list[tuple[int, bytes]]], None],
        on_end: Callable[[WorkerLink, End], None],
        on_snapshot: Callable[[Snapshot], object],
    ) -> None:
        self.busy = 0
        self.process: processes.Process | None = None
        self._requests: int
        self._answers: int
        self._page: mmap.mmap
        self._pipes: dict[int, int]  # e.g. {7: STDOUT, 9: STDERR}
        self.loop = loop
        self._on_frame, self._on_output, self._on_end = on_frame, on_output, on_end
        self._frames = wire.FrameReader()
        self._unsent = bytearray()
        self.closed = False
        self._follows = self._ending = self._abandoned = False
        self._stacks_read = 0
        self._start(beget)
        self._output = OutputReader(self._page)
        self.reports = Reports(self._reports_fd, self._output.copies, on_snapshot)
        loop.watch(self._answers, self._read)
        loop.watch(self.reports.fd, self._read_reports)
        for fd in self._pipes:
            loop.watch(fd, self._pipe_is_ready)

    def adopt(self, process: processes.Process) -> None:
        """This is the process at the other end; one that was made from a snapshot tells its number when it is ready."""
        self.process = process
        self.loop.watch(process.end_fd, self._ended)

    def send(self, kind: int, payload: bytes = b"") -> None:
        """Send a frame, now or as soon as the worker reads."""
        self._unsent += wire.frame(kind, payload)
        self._write()

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the request that runs, and in no other; commands that it waits for get SIGINT."""
        self._output.aim_interrupt(self.busy)
        if self.process is not None:
            self.process.send_to_group(signal.SIGINT)

    def children(self) -> list[dict[str, object]]:
        """The processes that its code has started and that run now."""
        return processes.family(self.process.pid) if self.process is not None else []

    def stacks(self) -> list[str]:
        """Lines of Python stacks that were written since the last call, without frames of ours."""
        text = os.pread(self._stacks, _MOST_STACK_BYTES, self._stacks_read)
        self._stacks_read += len(text)
        return without_our_lines(text.decode("utf-8", "replace"))

    def stacks_size(self) -> int:
        """Bytes of stacks that were written since the last call of `stacks`."""
        return 0 if self.closed else os.fstat(self._stacks).st_size - self._stacks_read

    def follow(self, *, wanted: bool) -> None:
        """From here on deliver output while it is written, see `OutputReader.follow`, or not."""
        self._follows = wanted
        self._output.wait_for_more(wanted=wanted)

    def _follow_on(self) -> None:
        if self._follows and not self.closed:
            self._output.follow(
                lambda: self._collect_the_page(1), lambda seconds: self.loop.call_in(seconds, self._follow_on)
            )

    def ask_for_snapshot(self, number: int) -> None:
        """Have the worker leave a copy of its state, which is that after request `number`, if none is on its way."""
        if not (self.reports.are_missing and self._output.parked() == number):
            self.send(wire.PARK, marshal.dumps((number, number in self.reports), 4))

    def hang_up(self) -> None:
        """Close the request pipe: the worker ends by itself, after the user's atexit handlers."""
        if self._requests >= 0:
            self.loop.forget(self._requests)
            os.close(self._requests)
            self._requests = -1

    def bid_farewell(self, ended: Callable[[], None]) -> None:
        """Hang up; `ended` is called when it is gone, instead of `on_end`."""
        self._on_end = lambda link, end: ended()
        self.busy = 0
        self.hang_up()

    def kill(self) -> None:
        """End the process now; `on_end` follows."""
        if self.process is not None:
            self.process.send(signal.SIGKILL)
        else:  # it was to be made from a snapshot, and has not come
            self._finish(None)

    def abandon(self, ended: Callable[[], None] = lambda: None) -> None:
        """Kill the process, and hear no more of it but that it has `ended`."""
        self._on_frame = lambda kind, payload: None
        self._on_output = lambda owner, pieces: None
        self._on_end = lambda link, end: ended()
        self.reports.on_snapshot = Snapshot.close
        self._abandoned = True
        self.kill()

    def collect(self) -> None:
        """Take what the worker's own code has written until now: frames, then the page.

        What stands in the pipes has its place after that only while the worker writes nothing, see `_pipe_is_ready`.
        """
        if not self.closed:
            self._read()
        if not self.closed:
            self._collect_the_page()

    def _collect_all(self) -> None:
        if self.closed:
            return
        try:  # the worker holds it from its read of the pipes until the bytes stand in the page, or to its end
            fcntl.lockf(self._page_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return
        self._read()
        if not self.closed:
            self._collect_the_rest()
            fcntl.lockf(self._page_fd, fcntl.LOCK_UN)

    def _collect_the_rest(self) -> None:
        owner = self._collect_the_page()
        for fd, stream in () if self.closed else self._pipes.items():
            try:
                data = os.read(fd, PIPE_BYTES)
            except BlockingIOError:
                continue
            if data:  # the worker found nothing there if it has begun a request meanwhile, so that it is from this one
                self._on_output(owner or self._output.owner(), [(stream, data)])
            else:
                self.loop.forget(fd)

    def _collect_the_page(self, looks: int = _MOST_LOOKS) -> int:
        """The request whose output stands in the page now, or 0. Before a second look, frames are taken."""
        try:
            for looks_left in range(looks, 0, -1):
                found = self._output.peek()
                if found is not None:
                    owner, pieces = found
                    self._deliver(pieces)
                    return owner
                if self._ending or looks_left == 1:
                    break
                self._read()
        except WireError as error:  # user code has written into the page
            log.debug(f"output cannot be read: {error}")
        return self.busy

    # -- start and end -----------------------------------------------------------------------------------------------

    def _start(self, beget: Callable[[list[int], int, int], processes.Process | None]) -> None:
        ends: list[int] = []
        try:
            for _ in range(5):
                ends += os.pipe()
            page, self._stacks = processes.memory_file(PAGE_BYTES), processes.memory_file(0)
            ends += [page, self._stacks]
            ends += make_channel()
            requests, self._requests, self._answers, answers, life, self._life, out_read, out, err_read, err = ends[:10]
            self._reports_fd, reports = ends[12:]
            self._page = mmap.mmap(page, PAGE_BYTES)
            for fd in (self._requests, self._answers, out_read, err_read):
                os.set_blocking(fd, False)
            files = [requests, answers, life, out_read, err_read, page, self._stacks, reports, log.fd]
        except OSError as error:
            _close_all(ends)
            raise WorkerUnavailable(
                f"a worker's files cannot be made: {error.strerror}", for_want_of_files=True
            ) from None
        try:
            process = beget(files, out, err)
        except OSError:
            _close_all(ends)
            raise WorkerUnavailable("the copy of an earlier state has ended") from None
        except WorkerUnavailable:
            _close_all(ends)
            raise
        self._pipes = {out_read: STDOUT, err_read: STDERR}
        _close_all([requests, answers, life, out, err, reports])
        self._page_fd = page
        if process is not None:
            self.adopt(process)

    def _ended(self) -> None:
        assert self.process is not None
        code = self.process.reap()
        if code is not None:
            self._finish(code)

    def _finish(self, code: int | None) -> None:
        if not self._ending:
            self._ending = True
            while code is not None and self._read():
                pass
            self._collect_the_rest()
            if self._abandoned:
                self.reports.read()
            else:
                self.reports.read_last()
            usage = self.process.usage if self.process is not None else (0.0, 0)
            has_begun = self._output.begun() >= self.busy
            end = End(code, self.busy, has_begun, self.stacks(), usage[0] - self._output.cpu_before(), usage[1])
            if self.process is None:
                end.text = "could not be made of its copy"
            self._close()
            self._on_end(self, end)

    def _close(self) -> None:
        self.closed = True
        if self.process is not None:
            self.loop.forget(self.process.end_fd)
            self.process.close()
        watched = (self._answers, self.reports.fd, *self._pipes)
        for fd in watched:
            self.loop.forget(fd)
        self.hang_up()
        self._page.close()
        _close_all([*watched, self._page_fd, self._life, self._stacks])

    def _read_reports(self) -> None:
        if not self.reports.read():
            self.loop.forget(self.reports.fd)

    # -- the pipes ---------------------------------------------------------------------------------------------------

    def _read(self) -> bool:
        """Take what stands in the answer pipe now; whether more may have come, as it always has of a flood."""
        try:
            data = os.read(self._answers, _READ_BYTES)
            if not data:
                self.loop.forget(self._answers)  # its end; that of the process is told by its own file
                if self.process is None:  # it was to be made from a copy, which could not
                    self._finish(None)
            for kind, payload in self._frames.feed(data):
                self._take(kind, payload)
            return len(data) == _READ_BYTES and not self.closed
        except BlockingIOError:
            return False
        except WireError:
            self._garbage()
        except Exception as error:  # a bug of ours, which costs the worker and not the session
            log.warning(f"what a worker sent cannot be handled: {error!r}")
            self._garbage()
        return False

    def _take(self, kind: int, payload: bytes) -> None:
        if kind == wire.OUTPUT:
            self._deliver(self._output.take(payload))
        elif kind == wire.NEWS:  # not now: it reads on, and what stands here comes before that
            self.loop.call_in(0, self._follow_on)
        else:
            self._on_frame(kind, payload)

    def _garbage(self) -> None:
        if self.process is not None:
            self.process.send(signal.SIGKILL)
            self.process.reap(wait=True)
        try:
            while data := os.read(self._answers, _READ_BYTES):
                self._frames.hold(data)
        except BlockingIOError:
            pass
        for payload in self._frames.salvage(wire.OUTPUT):
            try:
                self._deliver(self._output.take(payload))
            except WireError:
                continue
        self._finish(None)

    def _write(self) -> None:
        try:
            while self._unsent:
                del self._unsent[: os.write(self._requests, self._unsent)]
            self.loop.forget(self._requests)
        except BlockingIOError:
            self.loop.watch(self._requests, self._write, WRITE)
        except BrokenPipeError:  # it is dying, which we are told apart
            self._unsent.clear()
            self.loop.forget(self._requests)

    def _deliver(self, found: list[tuple[int, list[tuple[int, bytes]]]]) -> None:
        for owner, pieces in found:
            self._on_output(owner, pieces)

    def _pipe_is_ready(self) -> None:
        # While its Python code goes on, the worker drains the pipes itself, in order with its own writes. Only if bytes
        # stay there and nothing else is written does it sit in a call; then they are taken from here.
        if self.busy:
            for fd in self._pipes:
                self.loop.forget(fd)
            self._output.writer_is_still()
            self.loop.call_in(_PATIENCE, self._relieve)
        else:
            self._collect_all()

    def _relieve(self) -> None:
        if self.closed:
            return
        if not self.busy or self._output.writer_is_still():
            self._collect_all()
        for fd in () if self.closed else self._pipes:
            self.loop.watch(fd, self._pipe_is_ready)


def _close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)
