"""Parent side, the front door: one JSON request per line on stdin, one JSON answer per line on stdout.

    main() --> Server --line--> execute_code() --+--> get_worker_manager() --> worker process   USE_SUBPROCESS_WORKER=1
                                                 +--> execute_locally()                         else, and as a fallback
    stdout <-- answer <-- history <-- outcome <--+

Read on in json_repl/parent/server.py (requests), worker_manager.py (the worker backend) and
json_repl/core/interpreter.py (how code runs).
"""

from __future__ import annotations

import os
import sys

if os.name == "nt":
    sys.exit("json-repl-session needs fd passing, poll and POSIX signals, which Windows lacks: run it in WSL.")

if __name__ == "__main__":
    sys.modules["json_repl_session"] = sys.modules["__main__"]  # imported from user code it is this one, not a second
# Before any import that a user's folder could answer: what knows how to go round that, found in our house alone.
_path, sys.path = sys.path, [os.path.dirname(find(__file__)) for find in (os.path.realpath, os.path.abspath)]
try:
    from json_repl.core import imports
finally:
    sys.path = _path
with imports.ours():
    import signal
    from _thread import allocate_lock, start_new_thread
    from time import sleep

    from json_repl.core import log, streams
    from json_repl.core import outcome as ends
    from json_repl.core.errors import SettingError, WorkerUnavailable
    from json_repl.core.outcome import Outcome, failure
    from json_repl.core.settings import DEFAULT_TIMEOUT, Settings
    from json_repl.loop import Loop, Visit
    from json_repl.parent.answer import make_answer
    from json_repl.parent.session import DEFAULT_ID, Session
    from json_repl.parent.sessions import Sessions, needs_worker
    from json_repl.parent.stream import Stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from json_repl.parent.local import LocalBackend
    from json_repl.parent.server import Server
    from worker_manager import WorkerManager

    Answer = dict[str, Any]

try:
    _settings = Settings(os.environ)
except SettingError:  # `main` tells; who imports this module gets the defaults
    _settings = Settings({})

USE_SUBPROCESS_WORKER: bool = _settings.worker
WORKER_AVAILABLE: bool = True  # False where the worker backend cannot even be imported
_why_unavailable = "the worker backend is switched off"

_loop = Loop()
_sessions: dict[str, Session] = {}
_worker_manager: WorkerManager | None = None
_server: Server | None = None  # None where this module was imported by somebody else's program


def execute_code(
    code: str,
    *,
    timeout: float | None = None,
    silent: bool = False,
    store_history: bool = True,
    filename: str | None = None,
    retries: int = 3,
    fallback: str | None = None,
    on_error: str = "keep",
    dry_run: bool = False,
    session: Session | None = None,
    max_output_bytes: int | None = None,
    ask: Callable[[str, bool], None] | None = None,
    write: Callable[[bytes], None] | None = None,
    done: Callable[[Answer], None] | None = None,
) -> Answer | None:
    """Run code where the settings say, file it in the history, and answer.

    Args:
        code: Python source.
        timeout: seconds that it may take; 0: no limit; None: the setting, or 30 in a worker and no limit in local.
        fallback: as the setting JSON_REPL_FALLBACK, for this request.
        session: where; by default the one that every process has.
        ask: puts a prompt of the code's ``input()`` to the client (and says whether it asks for a password), whose
            reply goes to `Session.answer_input`; without it, ``input()`` raises EOFError.
        write: gets a line for each notification of what the code prints while it runs.
        done: gets the answer; without it, this call waits for the answer and returns it.

    The other arguments are those of the method ``execute``, see docs/protocol.md.

    Raises:
        NeedsWorker: `on_error` or `dry_run` want what the local backend cannot do.
        KeyboardInterrupt: it came while a worker ran the code, which it has ended; local code is what it is raised in.
    """
    if done is None:
        given: dict[str, Any] = {**locals()}
        answers: list[Answer] = []
        with Visit(_loop, answers, _cut_short):
            execute_code(**{**given, "done": answers.append})
        return answers[0]
    session = session or _default_session()
    needs_copy = dry_run or on_error == "rollback"
    if needs_copy and not _uses_worker(session):
        raise needs_worker(session, "dry_run" if dry_run else 'on_error: "rollback"')
    counted = store_history and not silent
    number, execution_id = session.begin(counted=counted)
    limit = session.settings.timeout if timeout is None else timeout
    stream = None if write is None else Stream({"execution_id": execution_id, "session_id": session.id}, write)
    printed = session.new_output(execution_id, max_output_bytes, stream)
    options: dict[str, Any] = {"filename": filename, "silent": silent, "printed": printed, "ask": ask}
    elsewhere = not needs_copy and session.id == DEFAULT_ID  # this process has one namespace, and no copies of it
    policy = fallback or session.settings.fallback if elsewhere else "never"

    def finish(outcome: Outcome | WorkerUnavailable) -> None:
        if isinstance(outcome, WorkerUnavailable):
            outcome = _without_worker(outcome, session, policy, lambda: execute_locally(code, number, limit, **options))
        if counted:
            session.history.record(session.execution_count, execution_id, code, outcome)
        session.running = None
        session.forget_output(execution_id, truncated=outcome.truncated)
        if stream is not None:
            stream.end()
        done(make_answer(session, outcome, execution_id))

    if USE_SUBPROCESS_WORKER:
        try:
            manager = get_worker_manager(session)
        except WorkerUnavailable as error:
            finish(error)
        else:
            seconds = DEFAULT_TIMEOUT if limit is None else limit
            manager.start(
                number,
                code,
                finish,
                **options,
                timeout=seconds,
                retries=retries,
                always=policy == "always",
                dry_run=dry_run,
                undoes_errors=on_error == "rollback",
                execution_count=session.execution_count,
            )
    else:
        finish(execute_locally(code, number, limit, **options))
    return None


def execute_locally(code: str, number: int, timeout: float | None = None, **options: Any) -> Outcome:
    """Run code in this process, which isolates nothing, and wait for its end."""
    return get_local_backend().run(number, code, timeout=timeout, **options)


def get_worker_manager(session: Session | None = None) -> WorkerManager:
    """The worker backend of a session, by default of the first one, whose own is made when first needed.

    Raises:
        WorkerUnavailable: this system, or this installation, cannot have one.
    """
    global _worker_manager, WORKER_AVAILABLE, _why_unavailable
    if session is not None and session.worker is not None:
        return session.worker
    if not WORKER_AVAILABLE:
        raise WorkerUnavailable(_why_unavailable, hopeless=True)
    if _worker_manager is None:
        try:
            with imports.ours():
                from json_repl import processes
                from worker_manager import WorkerManager
            why = processes.why_unsupported()
        except ImportError as error:
            why = f"the worker backend cannot be imported: {error}"
        if why:
            WORKER_AVAILABLE, _why_unavailable = False, why
            raise WorkerUnavailable(why, hopeless=True)
        session = _default_session()
        _worker_manager = session.worker = WorkerManager(
            _loop,
            python=session.settings.python,
            helpers=session.settings.helpers,
            snapshots=session.settings.snapshots,
            keep=session.settings.snapshot_keep,
            snapshot_memory=session.settings.snapshot_memory,
            answer_question=session.history.answer,
            on_late_output=session.add_late_output,
        )
    return _worker_manager


def get_local_backend() -> LocalBackend:
    """The local backend, made when first needed."""
    session = _default_session()
    if session.local is None:
        with imports.ours():
            from json_repl.parent.local import LocalBackend
        if _server is not None:
            imports.let_user_in()
        if USE_SUBPROCESS_WORKER:  # the session has fallen back
            with imports.ours():
                from json_repl import leftovers
            leftovers.expect_other_children()
        session.local = LocalBackend(
            session.settings.helpers,
            lambda *question: session.history.answer([str(part) for part in question]),
            _server.files() if _server is not None else {},
            on_late_output=session.add_late_output,
            on_begin=session.begin_locally,
            watch=None if _server is None else _loop.watch,
            guest=_server is None,
        )
    return session.local


def _cut_short() -> bool:
    return _worker_manager is not None and _worker_manager.cut_short()


def _uses_worker(session: Session) -> bool:
    return USE_SUBPROCESS_WORKER and WORKER_AVAILABLE and not (session.worker and session.worker.given_up)


def _without_worker(
    error: WorkerUnavailable, session: Session, policy: str, run_locally: Callable[[], Outcome]
) -> Outcome:
    if policy == "never":
        evalue = f"{error}; the session may not run the code in its own process (fallback: never)"
        outcome = failure(ends.CRASH, "WorkerUnavailable", evalue)
    else:
        log.warning(f"{error}; the code runs in the session's own process, which isolates nothing")
        outcome = run_locally()
        outcome.attempts += error.attempts
    outcome.fallback = {"reason": "worker_unavailable", "message": str(error)}
    if session.worker is not None:
        outcome.state = session.worker.lineage.past.take_loss()
    return outcome


def _default_session() -> Session:
    if not _sessions:
        _sessions[DEFAULT_ID] = Session(DEFAULT_ID, _settings)
    return _sessions[DEFAULT_ID]


# -- the process -------------------------------------------------------------------------------------------------------

LEAST_FILES = 17  # that can be opened beside stdin, stdout and stderr: enough to answer, without a worker
LAST_WORDS_SECONDS = 2.0  # for the user's atexit handlers and threads, after the last answer


def main() -> None:
    """The command ``json-repl-session``: answers until stdin ends, then exits."""
    global _settings, USE_SUBPROCESS_WORKER
    imports.take_over(sys.path)
    given = _parse(sys.argv[1:]) if len(sys.argv) > 1 else {}
    code = given.pop("code", None)
    try:
        _settings = Settings(os.environ, **given)
    except SettingError as error:
        log.say(str(error))
        sys.exit(2)
    USE_SUBPROCESS_WORKER = _settings.worker
    log.debugging = _settings.debug
    streams.fill_standard_files()
    if not streams.can_open(LEAST_FILES):
        log.say("too few open files are allowed for a session (see ulimit -n): it takes about 40")
        sys.exit(1)
    _serve(_default_session(), code)


def _serve(session: Session, code: str | None) -> None:
    global _server
    requests, answers = _claim_files()
    if USE_SUBPROCESS_WORKER:
        _start_worker_early()
    from json_repl.parent.server import Server

    _server = Server(
        _loop,
        _settings,
        Sessions(_loop, _sessions, _uses_worker, get_worker_manager, get_local_backend),
        requests,
        answers,
        execute=execute_code,
        only=code,
    )
    on_terminal = os.isatty(requests)
    if on_terminal and code is None:
        log.say('one JSON request per line, such as {"code": "1+1"}; Ctrl-D ends the session')
    if not USE_SUBPROCESS_WORKER:
        get_local_backend()
    _handle_signals(session, _server, on_terminal)
    try:
        status = _server.serve()
    except KeyboardInterrupt:  # on a terminal, while nothing ran
        status = 128 + signal.SIGINT
    _end(session, status)


def _parse(arguments: list[str]) -> dict[str, Any]:
    from json_repl.cli import parse

    return parse(arguments)


def _claim_files() -> tuple[int, int]:
    """Keep stdin, stdout and stderr for the protocol and the log, under private numbers; user code gets others."""
    requests, answers, log.fd = (streams.high_duplicate(fd) for fd in (0, 1, 2))
    streams.empty_stdin()
    os.dup2(2, 1)
    return requests, answers


def _start_worker_early() -> None:
    # It starts on another core while we go on; what it costs us here would only delay its start.
    try:
        get_worker_manager().prepare()
    except WorkerUnavailable:
        return  # the first request tells
    from json_repl import leftovers

    leftovers.adopt_orphans()


def _handle_signals(session: Session, server: Server, on_terminal: bool) -> None:
    # Local code is interrupted in the handler, all else from the loop: a handler may come in the middle of anything.
    wake_read, wake_write = (streams.high_duplicate(fd) for fd in _pipe())

    def on_interrupt(signum: int, frame: object) -> None:
        if session.local is not None and session.runs_locally:
            session.local.interpreter.interrupted(session.local.number)
        else:
            os.write(wake_write, b"!")

    def interrupt() -> None:
        os.read(wake_read, 1)
        if not server.interrupt_all() and on_terminal and not session.busy:
            raise KeyboardInterrupt

    def on_end(signum: int, frame: object) -> None:
        try:
            for found in _sessions.values():
                if found.worker is not None:
                    found.worker.kill()
        finally:  # also where this has come in the middle of something that it needs
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)

    _loop.watch(wake_read, interrupt)
    signal.signal(signal.SIGINT, on_interrupt)
    for signum in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(signum, on_end)


def _pipe() -> Iterator[int]:
    for fd in os.pipe():
        yield fd
        os.close(fd)


def _end(session: Session, status: int) -> None:
    """Give user code's atexit handlers and threads a moment, tell what they print, and exit."""
    workers = [found.worker for found in _sessions.values() if found.worker is not None]
    gone: list[bool] = []
    for worker in workers:
        worker.close(lambda: gone.append(True), LAST_WORDS_SECONDS)
    while len(gone) < len(workers):
        _loop.turn()
    if session.local is not None:
        waits = allocate_lock()
        waits.acquire()

        def enough() -> None:
            waits.release()
            sleep(LAST_WORDS_SECONDS)
            os._exit(status)

        start_new_thread(enough, ())
        waits.acquire()  # a thread that begins when Python ends already would need a file to end itself: libgcc_s
        session.local.last_words()
    late = session.take_late_output()
    if late:
        log.say(f"printed after the last answer:\n{late}")
    if session.local is not None:
        os.closerange(1, 3)  # first, as user code may have left no room for another file
        streams.fill_standard_files()
    sys.exit(status)


if __name__ == "__main__":
    main()
