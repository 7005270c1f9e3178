"""Child side: runs the code of one session. Started by file path with the numbers of its file descriptors.

    request pipe --> receive --> Interpreter.run --> OUTPUT and ANSWER frames --> answer pipe
    fd 1, fd 2 and print() --> OutputBuffer, in a page shared with the parent

It has one thread. It ends when its request pipe does, and is killed by the kernel when its parent dies.
"""

from __future__ import annotations

import os
import sys

if sys.version_info < (3, 10):  # noqa: UP036
    sys.stderr.write(f"Python {sys.version.split()[0]} is too old for a worker, which takes 3.10 or newer\n")
    sys.exit(3)  # as json_repl.supply.REFUSED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

if __name__ == "__main__":
    # Before any import that a user's folder could answer: what knows how to go round that, found in our house alone.
    _path, sys.path = sys.path, [os.path.dirname(os.path.abspath(__file__))]
    from json_repl.core import imports

    imports.take_over(_path)

import fcntl
import marshal
import mmap
import signal
from _thread import get_ident
from select import POLLIN, POLLOUT, poll
from time import process_time

from json_repl.core import forks, log, looks, sources, streams, tracebacks, wire
from json_repl.core.errors import WireError
from json_repl.core.interpreter import Interpreter, handle_interrupts
from json_repl.core.outcome import CRASH, INTERRUPTED, failure
from json_repl.core.output import PAGE_BYTES, OutputBuffer
from json_repl.core.questions import Questions
from json_repl.core.shown import Shown
from json_repl.core.snapshot import CLONE, COPY, FAILED, LOOK, PRISTINE, TRIAL, Parking
from json_repl.core.streams import poll_anyhow
from json_repl.core.surroundings import Surroundings
from json_repl.core.toolbox import make_toolbox

_LARGEST_WRITE = 1 << 17  # bytes that one frame of output can have, and some more
_LARGEST_READ = 1 << 16
_read, _loads = os.read, marshal.loads  # user code may spoil the modules


class Worker:
    """The child's end of the wire, and the interpreter behind it.

    Args:
        fd: the numbers of the files named in `wire.CHILD_FDS`.
        helpers: the user's own helper modules.
        snapshots: as the setting JSON_REPL_SNAPSHOTS.
    """

    def __init__(self, fd: dict[str, int], helpers: str | None, snapshots: str) -> None:
        self._fd = fd
        self._requests = fd["requests"]
        self._poll = poll()
        self._poll.register(self._requests, POLLIN | POLLOUT)  # one that can be written is not our wire any more
        self._frames = wire.FrameReader()
        self._received: list[tuple[int, bytes]] = []
        self._answers = self._open_answers()
        self._answered: tuple[int, float] | None = None  # the request that was answered last, and how long it took
        self._main_thread = get_ident()
        self._questions = Questions(lambda prompt, is_password: self._ask("input", prompt, "1" if is_password else ""))
        self._asked = 0  # how many questions
        buffer = OutputBuffer(mmap.mmap(fd["page"], PAGE_BYTES), lambda payload: self.send(wire.OUTPUT, payload))
        pipes = {streams.STDOUT: fd["out"], streams.STDERR: fd["err"]}
        self._capture = streams.Capture(pipes, buffer, self._tell_news, fd["page"])
        texts = self._capture.text_streams()
        self._interpreter = Interpreter(
            lambda main: Surroundings(main, texts, self._questions.input),
            make_toolbox(self._ask, helpers, log.warning),
            Shown(self._capture.write),
        )
        sources.teach("getpass", self._questions.teach)
        self._parking = Parking(fd, snapshots, buffer.note_parked, self._interpreter.tasks.exist, self._resume)
        streams.install(texts)
        handle_interrupts(self._interpreter, buffer.interrupt_target)

    def serve(self) -> None:
        """Answer frames until the parent closes the wire."""
        self._say_ready()
        self._parking.due = PRISTINE if self._parking.mode != "off" else None
        while True:
            if forks.in_child:  # a task of the session's has forked
                os._exit(0)
            try:
                self._interpreter.surroundings.let_signals_in_during(self._wait)
            except MemoryError:
                return
            except BaseException as error:  # out of a handler of user code's, or a task
                tracebacks.show(error)
                if not poll_anyhow(self._poll, 0):
                    continue
            try:
                received = self._receive()
            except (OSError, MemoryError, WireError):  # the wire is gone, or there is no going on
                return
            if received is None:
                return
            try:
                self._answer(*received)
            except Exception as error:  # a bug of ours, or user code that has spoiled what we need
                self._fail(received[0], error)
            self._after_answer()

    def _after_answer(self) -> None:
        answered, self._answered = self._answered, None
        if answered is None:
            return
        try:
            tracebacks.prepare()
            self._parking.after_answer(*answered)
        except Exception as error:  # then there is no snapshot of this state, as the parent will find
            log.warning(f"no snapshot could be taken: {error!r}")
        try:
            looks.prepare()
        except Exception:  # then `variables` tells
            pass

    def _say_ready(self) -> None:
        self.send(wire.READY, wire.pack_texts([str(os.getpid()), sys.version.split()[0], sys.executable]))

    def _wait(self) -> None:
        """Until there is something to read, let the session's tasks go on, or take a snapshot that is due.

        A copy goes on from here too when its time has come: nothing of a request may have been read before.
        """
        if self._received:
            return
        patience = self._parking.patience()
        if patience is not None and not poll_anyhow(self._poll, patience * 1000 + 1):
            self._parking.park(self._parking.due or 0)
        if not self._parking.guarded:
            poll_anyhow(self._poll, None)
            self._parking.guard()
        self._interpreter.wait_readable([self._requests])
        poll_anyhow(self._poll, None)

    def _resume(self, role: bytes) -> None:
        # This process is a copy that becomes a live worker: its files are new.
        if role == CLONE:
            self._parking.guarded = False  # by a copy of its own: the other session's goes with that
        elif role in (TRIAL, LOOK):
            self._parking.mode = "off"
        self._capture.use(mmap.mmap(self._fd["page"], PAGE_BYTES))
        self._answers.raw.close()  # with what a thread that has stayed behind was about to send
        self._answers = self._open_answers()
        end_with_parent(self._fd["life"])
        dump_stacks_into(self._fd["stacks"])
        self._frames = wire.FrameReader()
        self._received.clear()
        self._interpreter.wake_up_elsewhere(only_to_look=role == LOOK)
        self._say_ready()

    def _open_answers(self) -> Any:
        # Buffered in C, which keeps what it could not write yet when a signal's handler raises in the middle.
        return open(self._fd["answers"], "wb", buffering=_LARGEST_WRITE, closefd=False)

    def send(self, kind: int, payload: bytes) -> None:
        """Write one frame."""
        self._answers.write(wire.frame(kind, payload))
        self._answers.flush()

    def _tell_news(self) -> None:
        with self._capture.buffer.lock:  # as other threads write frames too, under that
            self.send(wire.NEWS, b"")

    def _receive(self) -> tuple[int, bytes] | None:
        while not self._received:
            data = _read(self._requests, _LARGEST_READ)
            if not data:
                return None
            self._received = self._frames.feed(data)
        return self._received.pop(0)

    def _answer(self, kind: int, payload: bytes) -> None:
        # Only the parent writes here, so its marshal can be trusted.
        if kind == wire.REQUEST:
            number, source, filename, silent, compares, self._questions.allowed = _loads(payload)
            (self._run_and_compare if compares else self._run)(number, source, filename, silent)
        elif kind == wire.PARK:
            number, anew = _loads(payload)
            if (anew or not self._parking.holds(number)) and self._parking.park(number) is FAILED:
                self.send(wire.UNPARKED, wire.pack_texts(["the system gives no process for it"]))
        elif kind == wire.SYNC:
            self.send(wire.SYNC, b"")
        elif kind == wire.CALL:
            self.send(wire.RESULT, wire.pack_texts(looks.look(self._interpreter, **_loads(payload))))

    def _begin(self, number: int) -> None:
        self._capture.begin(number)
        self._capture.buffer.note_cpu(process_time())

    def _run(self, number: int, source: str, filename: str | None, silent: bool) -> None:
        self._begin(number)
        outcome = self._interpreter.run(number, source, filename, silent=silent)
        if self._parking.mode == "always" and self._parking.park(number) is COPY:
            return  # its answer has left long ago
        outcome.threads, outcome.copy_ms = self._parking.risk()
        answer = outcome.to_frame()
        self._capture.end(lambda: self.send(wire.ANSWER, answer))
        self._answered = (number, outcome.elapsed_ms / 1000)

    def _run_and_compare(self, number: int, source: str, filename: str | None, silent: bool) -> None:
        """Run code, and tell which names it changes. Looking at them runs user code, which may print or hang."""
        with imports.ours():
            from json_repl.core.changes import Look
        interpreter = self._interpreter

        def look() -> Look | None:
            return interpreter.interruptible(number, lambda hit: Look(interpreter.user_items(), hit))

        before = look()
        self._begin(number)
        if before is None:
            evalue = "interrupted while the names were looked at, before the code ran"
            outcome = failure(INTERRUPTED, "KeyboardInterrupt", evalue)
        else:
            outcome = interpreter.run(number, source, filename, silent=silent)
        self._capture.end()
        after = look() if before is not None else None
        if before is not None and after is not None:
            outcome.changes = before.changes(after)
        self.send(wire.ANSWER, outcome.to_frame())

    def _fail(self, kind: int, error: Exception) -> None:
        evalue = f"the worker failed inside: {error!r}"
        if kind == wire.REQUEST:
            outcome = failure(CRASH, "InternalError", evalue)
            self._capture.end(lambda: self.send(wire.ANSWER, outcome.to_frame()))
        else:
            self.send(wire.UNPARKED if kind == wire.PARK else wire.FAILURE, wire.pack_texts([evalue]))

    def _ask(self, *question: object) -> Any:
        # Only the request that runs may read the wire: the main thread does, and nobody else.
        if not self._interpreter.running or get_ident() != self._main_thread:
            raise RuntimeError("only the code of a request can ask for the history, not a thread that it started")
        self._asked += 1
        asked = self._asked
        self.send(wire.QUESTION, wire.pack_texts([str(part) for part in (asked, *question)]))
        while True:
            # Here an interrupt may come, but never between a read and what keeps its bytes.
            poll_anyhow(self._poll, None)
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            try:
                received = self._receive()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            if received is None or received[0] != wire.REPLY:
                raise RuntimeError("the session did not reply")
            number, reply = _loads(received[1])
            if number == asked:  # and not the late reply to one that was interrupted
                return reply


def end_with_parent(life: int) -> None:
    """Have the kernel kill this process group when the other end of the pipe `life` goes, however that happens.

    The parent alone holds that end. A thread or a signal of ours would not do: code that sits in C, holding the
    interpreter's lock, runs neither. Where the system has no F_SETSIG (macOS), the end of the request pipe must do.
    """
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(life, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(life, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(life, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)


def dump_stacks_into(fd: int) -> None:
    """Write Python's stacks there when the process crashes, and when the parent sends `wire.DUMP_SIGNAL`."""
    import faulthandler

    faulthandler.enable(file=fd, all_threads=True)
    faulthandler.register(wire.DUMP_SIGNAL, file=fd, all_threads=True)


def main(arguments: list[str]) -> None:
    """``subprocess_worker.py FIRST_FD HELPERS SNAPSHOTS``."""
    first, helpers, snapshots = arguments
    fd = {name: int(first) + place for place, name in enumerate(wire.CHILD_FDS)}
    for number in fd.values():
        os.set_inheritable(number, False)
    log.fd = fd["log"]
    os.setsid()
    end_with_parent(fd["life"])
    dump_stacks_into(fd["stacks"])
    imports.let_user_in()
    worker = Worker(fd, helpers or None, snapshots)
    sys.argv[:] = [""]
    worker.serve()


if __name__ == "__main__":
    main(sys.argv[1:])
