r"""Parent side: requests in, each answered exactly once.

stdin --LineReader--> parse --> control: answered at once
                            \-> ordered: the session's queue --one at a time--> handler --> answer --> stdout
"""

from __future__ import annotations

from _thread import start_new_thread
from os import _exit, read
from time import sleep

from json_repl import __version__
from json_repl.core import log, protocol, tracebacks
from json_repl.core.errors import (
    Busy,
    Cancelled,
    InternalError,
    InvalidParams,
    LimitExceeded,
    MethodNotFound,
    RpcError,
    SessionNotFound,
    ShuttingDown,
)
from json_repl.core.imports import ours
from json_repl.core.outcome import RUNNING
from json_repl.core.settings import GRACE_SECONDS
from json_repl.loop import GONE, Loop
from json_repl.parent.answer import make_cancelled
from json_repl.parent.answers import Batch, Writer
from json_repl.parent.methods import ALIASES, METHODS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from json_repl.core.protocol import Request
    from json_repl.core.settings import Settings
    from json_repl.parent.method import Method
    from json_repl.parent.methods import Done
    from json_repl.parent.session import Session
    from json_repl.parent.sessions import Sessions
    from json_repl.parent.waiting import Patience

_READ_BYTES = 1 << 16
_MOST_QUEUED = 10_000  # requests; further ones stay in the pipe, and then with who writes them
LAST_SECONDS = 2.0  # for local code that nobody listens to any more
_READY_TOKEN = "__READY__"  # what clients of the replaced system wait for


class Server:
    """Answers what comes on `requests_fd` on `answers_fd`, with the sessions it is given.

    Args:
        execute: runs code, as the front door's ``execute_code``.
        only: code to run instead of what comes on `requests_fd`.
    """

    def __init__(
        self,
        loop: Loop,
        settings: Settings,
        sessions: Sessions,
        requests_fd: int,
        answers_fd: int,
        *,
        execute: Callable[..., object],
        only: str | None = None,
    ) -> None:
        self.execute = execute
        self.sessions = sessions
        self.any_failed = False
        self.exit_status = 0
        self._loop = loop
        self._settings = settings
        self._in = requests_fd
        self._out = Writer(answers_fd, self._reader_is_gone)
        self.write = self._out.write
        self._lines = protocol.LineReader(settings.max_line)
        self._only = only
        self._at_end = only is not None
        self._stopped: str | None = None  # why nothing more is run
        self._answered_any = False
        self._deferred = 0  # control requests whose answers are on their way

    # -- the life of the server --------------------------------------------------------------------------------------

    def serve(self) -> int:
        """Answer until stdin ends and all is answered. Returns the exit status."""
        self._loop.watch(self._out.fd, self._reader_is_gone, GONE)
        self._loop.let_go_on = self._let_user_code_go_on
        if self._settings.ready == "plain":
            self.write(_READY_TOKEN.encode())
        elif self._settings.ready == "json":
            self.write(protocol.notification("ready", {"signal": _READY_TOKEN, "version": __version__}))
        if self._only is None:
            self._loop.watch(self._in, self.read)
        else:
            self._take_line(protocol.encode_exactly({"code": self._only}))
            self._run_queues()
        while not self._is_over():
            self._loop.turn()
            self._run_queues()
        if self._out.has_failed or (self._settings.check and self.any_failed):
            self.exit_status = 1
        return self.exit_status

    def files(self) -> dict[int, Callable[[], object]]:
        """What is watched while local code runs; a callback that returns False has nothing more to watch."""
        files: dict[int, Callable[[], object]] = {self._out.fd: self._reader_is_gone}
        return files if self._at_end else {self._in: self.read, **files}

    def read(self) -> bool | None:
        """Take what stands on stdin: answer control requests, queue the others."""
        if self._is_full():
            return None
        try:
            data = read(self._in, _READ_BYTES)
        except BlockingIOError:
            return None
        lines = self._lines.feed(data) if data else self._lines.end()
        if not data:
            self._at_end = True
            self._loop.forget(self._in)
            for session in self.sessions:
                session.answer_input(None)
        for line in lines:
            if isinstance(line, LimitExceeded):
                self._take(protocol.Refused(line), self._write_answer)
            elif line.strip(b" \t\r"):
                self._take_line(line)
        if self._is_full():
            self._loop.forget(self._in)
        return not self._at_end

    def _is_full(self) -> bool:
        return sum(len(session.queue) for session in self.sessions) >= _MOST_QUEUED

    def shut_down(self, why: str) -> None:
        """Run nothing more; what waits is answered with an error that says `why`."""
        self._stopped = self._stopped or why

    def interrupt(self, session: Session, grace: float | None = GRACE_SECONDS) -> bool:
        """Raise KeyboardInterrupt in the code that runs; a worker that goes on for `grace` seconds is killed."""
        if session.local is not None and session.runs_locally:
            session.local.interrupt()
            return True
        return session.worker is not None and session.worker.interrupt(grace)

    def interrupt_all(self) -> bool:
        """Interrupt every session; whether any code ran."""
        hits = [self.interrupt(session) for session in self.sessions]
        return any(hits)

    def _is_over(self) -> bool:
        if self._out.is_gone:
            return True
        if self._deferred or self.sessions.closing or not all(session.idle for session in self.sessions):
            return False
        return self._at_end or self._stopped is not None

    def _reader_is_gone(self) -> bool:
        if not self._out.is_gone:
            log.debug("nobody reads the answers any more")
            self._out.is_gone = True
            self._loop.forget(self._out.fd)
            self.interrupt_all()
            if any(session.runs_locally for session in self.sessions):
                start_new_thread(_end_for_want_of_readers, ())
        return False

    def _let_user_code_go_on(self, wait: Callable[[], object]) -> None:
        for session in self.sessions:
            if session.local is not None and not session.busy:
                session.local.go_on_during(wait, self._loop.watched())
                return
        wait()

    # -- requests ----------------------------------------------------------------------------------------------------

    def _take_line(self, line: bytes) -> None:
        is_batch, items = protocol.parse(line)
        batch = Batch(len(items), self._write_answer) if is_batch else None
        for index, item in enumerate(items):
            self._take(item, batch.place(index) if batch else self._write_answer)

    def _take(self, item: Request | protocol.Refused, answer: Callable[[bytes | None], None]) -> None:
        if isinstance(item, protocol.Refused):
            item.request.answer = answer
            self._refuse(item.request, item.error)
            return
        item.answer = answer
        try:
            self._dispatch(item)
        except RpcError as error:
            self._refuse(item, error)
        except Exception as error:  # a bug of ours costs this request, not the session
            self._refuse(item, _our_bug(item.method, error))

    def _refuse(self, request: Request, error: RpcError) -> None:
        if not self._settings.fail_fast:
            self._fail(request, error)
            return

        def fail() -> None:  # in its turn, as it stops what comes after it, and nothing that came before
            self.sessions.default.busy = False
            self._fail(request, error)

        self.sessions.default.queue.append((request, fail))

    def _dispatch(self, request: Request) -> None:
        if request.method in ALIASES:
            request.method, key = ALIASES[request.method]
            named = request.params.get(key) if isinstance(request.params, dict) else None
            if named is None:
                raise InvalidParams(f"it takes the id of the request to be interrupted, as {key!r}.")
            request.params = {"request_id": named}
        method = METHODS.get(request.method)
        if method is None:
            raise MethodNotFound(f"there is no method {request.method[:100]!r}; there are {', '.join(METHODS)}.")
        params = method.check(request.params)
        session = self.sessions.get(params.pop("session_id"))
        if method.defers or (method.aside and self.sessions.looks_aside(session)):
            self._defer(request, lambda done: method.handler(self, session, done, **params))
        elif method.control:
            request.succeed(method.handler(self, session, **params))
        elif params.get("if_busy") == "reject" and not session.idle:
            raise Busy('other requests run or wait; send it again later, or with if_busy: "queue".')
        else:
            if params.get("new_session_id") is not None:  # requests for it may stand in the same line already
                request.reserves = self.sessions.reserve(str(params["new_session_id"]))
            session.queue.append((request, lambda: self._start(session, request, method, params)))

    def _defer(self, request: Request, start: Callable[[Done], None]) -> None:
        # The session does not end before it is answered.
        self._deferred += 1

        def done(result: dict[str, object] | RpcError) -> None:
            self._deferred -= 1
            self._answer(request, result)

        try:
            start(done)
        except BaseException:
            self._deferred -= 1
            raise

    def _run_queues(self) -> None:
        for session in self.sessions:
            while session.queue and not session.busy and not self._out.is_gone:
                request, start = session.queue.popleft()
                if self._stopped is not None:
                    self._fail(request, ShuttingDown(f"not run: {self._stopped}."))
                    continue
                session.busy = True
                start()
        if not self._at_end and self._in not in self._loop.watched() and not self._is_full():
            self._loop.watch(self._in, self.read)

    def _start(self, session: Session, request: Request, method: Method, params: dict[str, Any]) -> None:
        session.current = request

        was_told = False  # that the code runs: the client asks for the rest

        def done(result: dict[str, object] | RpcError) -> None:
            nonlocal was_told
            status = "error" if isinstance(result, RpcError) else result.get("status")
            if status != RUNNING:
                session.busy, session.current = False, None
            if not was_told:
                self._answer(request, result)
            elif status == "error":
                self._note_failure()
            was_told = True

        try:
            method.handler(self, session, done, **params)
        except RpcError as error:
            done(error)
        except Exception as error:  # a bug of ours costs this request, not the session
            bug = _our_bug(method.name, error)
            if session.busy:
                done(bug)

    def _answer(self, request: Request, result: dict[str, object] | RpcError) -> None:
        if isinstance(result, RpcError):
            self._fail(request, result)
            return
        if result.get("status") == "error":
            self._note_failure()
        try:
            request.succeed(result)
        except (TypeError, ValueError) as error:
            request.fail(InternalError(f"the answer cannot be written: {error}."))

    def asker(self, session: Session) -> Callable[[str, bool], None]:
        """What puts a prompt of a session's code to the client."""

        def ask(prompt: str, is_password: bool) -> None:
            assert session.running is not None
            about = {"execution_id": session.running["execution_id"], "session_id": session.id}
            self.write(protocol.notification("input_request", {**about, "prompt": prompt, "password": is_password}))
            if self._at_end:  # nobody can reply any more
                session.answer_input(None)

        return ask

    def patience(self, session: Session) -> Patience:
        """For clients of a session that do not wait for an answer to the end."""
        if session.patience is None:
            with ours():
                from json_repl.parent.waiting import Patience
            session.patience = Patience(session, lambda seconds, call: self.sessions.call_in(session, seconds, call))
        return session.patience

    def cancel(self, session: Session, request_id: bytes | None) -> bool:
        """Answer a request that waits for its turn, and do not run it; False if there is none with this id."""
        for waiting in session.queue:
            request, _ = waiting
            if request.id == request_id:
                session.queue.remove(waiting)
                if request.method == "execute":
                    self._answer(request, make_cancelled(session))
                else:
                    self._fail(request, Cancelled("not run: it was cancelled before its turn."))
                return True
        return False

    def close_session(self, session: Session, done: Done) -> None:
        """End one session, and answer what waits there."""
        self.sessions.close(session, lambda: done({}))
        self._drain(session, "was closed")

    def _drain(self, session: Session, why: str) -> None:
        while session.queue:
            request, _ = session.queue.popleft()
            self._fail(request, SessionNotFound(f"not run: the session {session.id!r} {why}."))

    def _fail(self, request: Request, error: RpcError) -> None:
        self._note_failure()
        request.fail(error)
        if request.reserves is not None:
            session = self.sessions.remove(request.reserves)
            self._drain(session, "was not made")

    def _note_failure(self) -> None:
        self.any_failed = True
        if self._settings.fail_fast and self._stopped is None:
            self.exit_status = 1
            self.shut_down("an earlier request failed, and --fail-fast is set")

    # -- answers -----------------------------------------------------------------------------------------------------

    def _write_answer(self, line: bytes | None) -> None:
        if line is not None:
            self.write(line)
        if not self._answered_any:
            self._answered_any = True
            self._loop.call_in(0, self._warm_up)

    def _warm_up(self) -> None:
        # What the first answer could do without, and later ones are faster with.
        try:
            tracebacks.prepare()
            if self.sessions.default.local is not None:
                self.sessions.default.local.warm_up()
            with ours():
                import orjson
            protocol.encode_with(orjson.dumps)
        except Exception as error:  # without it answers are slower, and right
            log.warning(f"orjson cannot be imported, answers are made by the json module: {error!r}")


def _our_bug(method: str, error: Exception) -> InternalError:
    log.warning(f"{method} failed inside: {error!r}")
    return InternalError(f"{method} failed inside: {error!r}. This is a bug of json-repl-session.")


def _end_for_want_of_readers() -> None:
    # Local code that takes no notice of an interrupt cannot be ended but with the session, which is of no more use.
    sleep(LAST_SECONDS)
    _exit(1)
