"""Parent side: the local backend. User code runs in the session's own process, which isolates nothing."""

from __future__ import annotations

import atexit
import fcntl
import mmap
import os
import signal
import sys
from _thread import get_ident
from select import POLLIN, poll

from json_repl.core import forks, log, looks, sources, streams, tracebacks
from json_repl.core.imports import ours
from json_repl.core.interpreter import Interpreter, handle_interrupts
from json_repl.core.outcome import Outcome
from json_repl.core.output import PAGE_BYTES, OutputBuffer, OutputReader
from json_repl.core.questions import Questions
from json_repl.core.settings import DEFAULT_MAX_OUTPUT
from json_repl.core.shown import Shown
from json_repl.core.surroundings import Surroundings
from json_repl.core.toolbox import make_toolbox
from json_repl.parent.gate import Gate
from json_repl.printed import Printed, Spool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# User code's print() comes here with its own builtins in force, and may have spoiled modules.
_write, _BlockingIOError = os.write, BlockingIOError
_PIPE_BYTES = 1 << 18  # as much as C code can write while it holds the interpreter's lock


class LocalBackend:
    """The interpreter in this process, with its capture of fd 0, 1 and 2.

    Args:
        helpers: the user's own helper modules, as in JSON_REPL_HELPERS.
        ask: answers what user code asks its session.
        files: what is watched while code runs, e.g. ``{0: read a request}``.
        on_late_output: gets the output of an earlier request, and its number, or of none (0).
        on_begin: called when code is about to run.
        watch: calls back when a file can be read, while no code runs; None where nobody waits between requests.
        guest: this process is somebody else's program, which has its files and signals back after each request.
    """

    def __init__(
        self,
        helpers: str | None,
        ask: Callable[..., Any],
        files: dict[int, Callable[[], object]],
        *,
        on_late_output: Callable[[int, list[tuple[int, bytes]]], None],
        on_begin: Callable[[], None],
        watch: Callable[[int, Callable[[], object]], None] | None,
        guest: bool = False,
    ) -> None:
        self.number = 0  # of the request that runs
        self._guest = guest
        self._handed_over: list[bytes] = []  # payloads of OUTPUT frames, as a worker would send them
        self._on_late_output = on_late_output
        self._on_begin = on_begin
        self._watch = watch
        self._news: tuple[int, int] | None = None  # wakes who waits between requests, once a client wants to hear
        self._questions = Questions(self._ask_client)
        self._ask: Callable[[str, bool], None] | None = None  # of the request that runs
        self._asking = False
        self._reply: str | None = None
        self._reply_pipe: tuple[int, int] | None = None
        page = mmap.mmap(-1, PAGE_BYTES)
        self._reader = OutputReader(page)
        self._printed = Printed(0, Spool())  # by the request that runs
        self._ends: dict[int, int] = {}  # e.g. {1: write end of the pipe behind fd 1}
        pipes = {stream: self._make_pipe(stream) for stream in (streams.STDOUT, streams.STDERR)}
        self._capture = streams.Capture(pipes, OutputBuffer(page, self._take_over), self._tell, our_threads=1)
        texts = self._capture.text_streams()
        self.interpreter = Interpreter(
            lambda main: Surroundings(main, texts, self._questions.input, guest=guest),
            make_toolbox(ask, helpers, log.warning),
            Shown(self._capture.write),
        )
        drains = dict.fromkeys(pipes.values(), self._drain)
        self._stdin = next(iter(files), -1)
        self._gate = Gate({**files, **drains})
        sources.teach("getpass", self._questions.teach)
        if not guest:
            self._take_files()
            streams.install(texts)
            sys.argv[:] = [""]

    def run(
        self,
        number: int,
        source: str,
        *,
        filename: str | None = None,
        silent: bool = False,
        timeout: float | None = None,
        printed: Printed | None = None,
        ask: Callable[[str, bool], None] | None = None,
    ) -> Outcome:
        """Run code and return its outcome. After `timeout` seconds it is interrupted; it cannot be killed."""
        host = self._enter_as_guest() if self._guest else None
        self._capture.begin(number)
        self.number = number
        self._printed = printed or Printed(DEFAULT_MAX_OUTPUT, Spool())
        self._listen()
        self._ask = ask
        # Where stdin is a regular file, what a client has to say is read when the code has ended.
        self._questions.allowed = ask is not None and self._stdin in self._gate.watched
        self._on_begin()
        self._gate.open(timeout)
        outcome = self.interpreter.run(number, source, filename, silent=silent)
        self._gate.close()
        self._capture.end(self._sort_out)
        self._listen()
        self.number = 0
        if host is not None:
            self._leave_as_guest(*host)
        outcome.take_output(self._printed)
        if self._gate.late:
            outcome.is_timeout(timeout or 0, [])
        return outcome

    def warm_up(self) -> None:
        """Import what the first answer could do without."""
        looks.prepare()

    def call_in(self, seconds: float, call: Callable[[], None]) -> None:
        """Call back while the code runs that is about to, or runs; not at all if it ends before."""
        self._gate.call_in(seconds, call)

    def interrupt(self) -> None:
        """Raise KeyboardInterrupt in the code that runs."""
        self._gate.interrupt()

    def stacks(self) -> str:
        """The Python stacks of all threads, without frames of ours. Called from what the gate lets through."""
        with ours():
            import faulthandler

            from json_repl import processes
        with open(processes.memory_file(0), "w+b") as file:
            faulthandler.dump_traceback(file, all_threads=True)
            file.seek(0)
            return "".join(tracebacks.without_our_lines(file.read().decode("utf-8", "replace")))

    def _ask_client(self, prompt: str, is_password: bool) -> str | None:
        if self._reply_pipe is None:
            self._reply_pipe = os.pipe()
            os.set_blocking(self._reply_pipe[0], False)
        ready, _ = self._reply_pipe

        def put() -> None:
            self.collect()  # what was printed before is told before
            self._asking = True
            try:
                os.read(ready, 100)  # a reply that came when it was not waited for any more
            except BlockingIOError:
                pass
            assert self._ask is not None
            self._ask(prompt, is_password)

        waiting = poll()
        waiting.register(ready, POLLIN)
        try:
            self._gate.exclusively(put)
            streams.poll_anyhow(waiting, None)
            return self._reply
        finally:
            self._asking = False

    def answer_input(self, text: str | None) -> bool:
        """Give the code that waits for its client a line, or, with None, the end of input; False if none waits."""
        if not self._asking or self._reply_pipe is None:
            return False
        self._reply, self._asking = text, False
        os.write(self._reply_pipe[1], b"!")
        return True

    def last_words(self) -> None:
        """Run the user's atexit handlers, and see what has been printed since the last request."""
        self.interpreter.surroundings.enter()
        atexit._run_exitfuncs()
        self.interpreter.surroundings.leave()
        self._capture.end(self._sort_out)
        self._gate.end()

    def go_on_during(self, wait: Callable[[], object], fds: list[int]) -> None:
        """Let user code's signal handlers run, and the session's asyncio tasks until one of `fds` can be read."""

        def wait_for_both() -> None:
            self.interpreter.wait_readable(fds)
            wait()

        try:
            self.interpreter.surroundings.let_signals_in_during(wait_for_both)
        except BaseException as error:
            tracebacks.show(error)
        if forks.in_child:
            os._exit(0)

    def _take_over(self, payload: bytes) -> None:
        self._handed_over.append(payload)
        self._reader.wait_for_more(wanted=True)  # so that `_tell` is called, without the lock that is held here

    def _sort_out(self) -> None:
        while self._handed_over:
            self._file(self._reader.take(self._handed_over.pop(0)))

    def _file(self, found: list[tuple[int, list[tuple[int, bytes]]]]) -> None:
        for owner, pieces in found:
            if owner and owner == self.number:
                self._printed.add(pieces)
            else:
                self._on_late_output(owner, pieces)

    def _drain(self) -> None:
        self._capture.drain()
        self._follow()

    def _listen(self) -> None:
        """Have what is printed told as it comes, from the first request on whose client wants that."""
        if self._news is None and self._watch is not None and self._printed.listener is not None:
            self._news = os.pipe()
            for fd in self._news:
                os.set_blocking(fd, False)
            self._watch(self._news[0], self._hear)
        self._reader.wait_for_more(wanted=self._is_heard())

    def _is_heard(self) -> bool:
        return self._news is not None or self._printed.listener is not None

    def _tell(self) -> None:
        if not self._gate.exclusively(self._follow) and self._news is not None:
            try:
                _write(self._news[1], b"!")
            except _BlockingIOError:  # it was told often enough
                pass

    def _hear(self) -> None:
        assert self._news is not None
        os.read(self._news[0], 1000)
        self._reader.wait_for_more(wanted=True)  # first, so that nothing falls between
        self.collect()

    def _follow(self) -> None:
        if not self._is_heard():  # it was only too much to be left where it is
            self.collect()
        else:
            self._reader.follow(self.collect, lambda seconds: self._gate.call_in(seconds, self._follow))

    def collect(self) -> None:
        """Take what was printed until now. Called from what the gate lets through."""
        self._sort_out()
        found = self._reader.peek()
        if found is not None:  # else what came before is being handed over, and the next look has all
            self._file(found[1])

    def _make_pipe(self, stream: int) -> int:
        low = os.pipe()
        read, write = (streams.high_duplicate(fd) for fd in low)
        for fd in low:
            os.close(fd)
        os.set_blocking(read, False)
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            try:
                fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            except OSError:  # the user's share of the kernel's pipe pages is used up
                pass
        self._ends[stream] = write
        return read

    def _take_files(self) -> None:
        streams.empty_stdin()
        for stream, end in self._ends.items():
            os.dup2(end, stream)

    def _enter_as_guest(self) -> tuple[list[int], Any]:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        kept = [streams.high_duplicate(fd) for fd in (0, 1, 2)]  # all of them are open, see `loop.Visit`
        self._take_files()
        handler = None
        if _in_main_thread():
            handler = signal.getsignal(signal.SIGINT)
            handle_interrupts(self.interpreter, lambda: self.number)
        return kept, handler

    def _leave_as_guest(self, kept: list[int], handler: Any) -> None:
        if handler is not None:
            signal.signal(signal.SIGINT, handler)
        for fd, copy in enumerate(kept):
            os.dup2(copy, fd)
            os.close(copy)


def _in_main_thread() -> bool:
    with ours():
        import threading

    return get_ident() == threading.main_thread().ident
