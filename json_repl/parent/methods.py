"""Parent side: every method of the wire, with its doc, params and result beside its handler.

`describe` and docs/protocol.md are made from what stands here.
"""

from __future__ import annotations

import os
import sys
from time import time

from json_repl import __version__
from json_repl.core import errors, log
from json_repl.core.errors import InvalidParams, RpcError
from json_repl.core.imports import ours
from json_repl.core.protocol import id_text
from json_repl.core.settings import GRACE_SECONDS, TABLE
from json_repl.parent.looks import LOOKS
from json_repl.parent.method import KINDS, REQUIRED, Method, Param, declaring

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from json_repl.parent.server import Server
    from json_repl.parent.session import Session

    Done = Callable[[dict[str, object] | RpcError], None]

METHODS: dict[str, Method] = {}
# The names that editors (LSP) and agents (MCP) know, and what they call the request to be cancelled.
ALIASES = {"$/cancelRequest": ("interrupt", "id"), "notifications/cancelled": ("interrupt", "requestId")}

_method = declaring(METHODS)


# -- control: answered at once ----------------------------------------------------------------------------------------


@_method("ping", "Is the session there?", control=True, result="`{pong: true}`")
def _ping(server: Server, session: Session) -> dict[str, object]:
    return {"pong": True}


@_method(
    "status",
    "What the session does now.",
    control=True,
    defers=True,
    result='`{state: "idle"|"busy", running, usage, queued, backend, pid, worker, execution_count, history_size, '
    "uptime_s, log_lines_dropped, version}`; `running` is null or `{execution_id, since, stacks}`, with the Python "
    "stacks of all threads; `usage` is `{rss_bytes, cpu_s, threads}` of the process that runs code, or null",
)
def _status(server: Server, session: Session, done: Done) -> None:
    told = _about(server, session)
    if session.running is None:
        done(told)
    else:
        running = {**session.running}
        session.ask_for_stacks(lambda stacks: done({**told, "running": {**running, "stacks": stacks}}))


def _about(server: Server, session: Session) -> dict[str, object]:
    with ours():
        from json_repl import processes
    worker = session.worker.lineage.state() if session.worker else None
    is_local = session.runs_locally or worker is None
    pid = os.getpid() if is_local or worker is None else worker["pid"]
    return {
        "state": "busy" if session.busy else "idle",
        "running": None,
        "usage": processes.usage(pid) if isinstance(pid, int) else None,
        "queued": len(session.queue),
        "backend": "worker" if server.sessions.uses_worker(session) or session.cloned_from else "local",
        "pid": os.getpid(),
        "worker": worker,
        "execution_count": session.execution_count,
        "history_size": len(session.history),
        "uptime_s": round(time() - session.started_at, 3),
        "log_lines_dropped": log.dropped,
        "version": __version__,
    }


@_method(
    "describe",
    "What this session understands: its methods, errors and settings.",
    control=True,
    result="`{name, version, python, protocol, methods, errors, settings}`",
)
def _describe(server: Server, session: Session) -> dict[str, object]:
    return description()


@_method(
    "interrupt",
    "Raise KeyboardInterrupt in the code that runs, or cancel a request that waits for its turn.",
    Param("execution_id", "string", "Only if this execution is the one that runs; else whatever runs."),
    Param("request_id", "id", "The request with this id: interrupted if it runs, cancelled if it waits."),
    Param(
        "grace",
        "seconds",
        "Seconds after which code that goes on all the same is killed, and the state is as before it; 0 or null: "
        "never. In a worker only.",
        GRACE_SECONDS,
        null=0,
    ),
    control=True,
    result="`{interrupted: true|false, cancelled: true|false, execution_id}`; both false where nothing (or something "
    "else) runs",
)
def _interrupt(
    server: Server, session: Session, execution_id: str | None, request_id: object, grace: float
) -> dict[str, object]:
    running = session.running["execution_id"] if session.running else None
    wanted = running is not None and execution_id in (None, running)
    if request_id is not None:
        wanted = wanted and session.current is not None and session.current.id == id_text(request_id)
    hit = wanted and server.interrupt(session, grace or None)
    cancelled = not hit and request_id is not None and server.cancel(session, id_text(request_id))
    return {"interrupted": hit, "cancelled": cancelled, "execution_id": running if hit else execution_id}


@_method(
    "snapshots",
    "The states that `rollback` can return to and `session/clone` can go on from, oldest first.",
    control=True,
    result="`{snapshots: [{execution_id, execution_count, age_s, private_bytes, threads_lost, present}]}`; "
    "`private_bytes` is memory that only this copy holds, null where the system does not tell",
)
def _snapshots(server: Server, session: Session) -> dict[str, object]:
    return {"snapshots": session.worker.lineage.past.listing() if session.worker else []}


@_method(
    "wait",
    "The answer of an execution whose client was told that it is `running`; it is kept until it is fetched, once.",
    Param("execution_id", "string", "Of which.", REQUIRED),
    Param("wait", "seconds", "Seconds to wait for it; after that the answer says again that it is running."),
    control=True,
    defers=True,
    result="as that of `execute`",
)
def _wait(server: Server, session: Session, done: Done, execution_id: str, wait: float | None) -> None:
    server.patience(session).wait(execution_id, wait, done)


@_method(
    "input_reply",
    "What the user has typed, for code that waits for it: the reply to the notification `input_request`.",
    Param("execution_id", "string", "Which execution has asked; by default the one that runs."),
    Param("value", "string", "The line, without its end."),
    Param("eof", "boolean", "There is no more input: `input()` raises EOFError.", False),
    control=True,
    result="`{}`",
)
def _input_reply(
    server: Server, session: Session, execution_id: str | None, value: str | None, eof: bool
) -> dict[str, object]:
    running = session.running["execution_id"] if session.running else None
    if (value is None) != eof:
        raise InvalidParams("input_reply: give either a 'value', or 'eof': true.")
    if execution_id not in (None, running) or not session.answer_input(value):
        raise InvalidParams("no code waits for input.")
    return {}


@_method(
    "output/read",
    "A part of what an execution prints while it runs, or has printed, where its answer is `truncated`.",
    Param("execution_id", "string", "Of which.", REQUIRED),
    Param("stream", "string", "Which: `stdout`, `stderr`, or what a `reference` of the answer names.", "stdout"),
    Param("offset", "count", "From which byte on.", 0),
    Param("limit", "count", "How many bytes at most, but for the one character that there is always.", 1 << 20),
    control=True,
    result="`{text, offset, next_offset, eof, total_bytes, lost_bytes}`; `eof` is true at the end of what has ended, "
    "`lost_bytes` at the end found no room on the disk",
)
def _read_output(
    server: Server, session: Session, execution_id: str, stream: str, offset: int, limit: int
) -> dict[str, object]:
    return session.read_output(execution_id, stream, offset, limit)


@_method(
    "session/list",
    "The sessions of this process.",
    control=True,
    result="`{sessions: [{session_id, state, queued, execution_count, epoch, cloned_from, pid}]}`",
)
def _list(server: Server, session: Session) -> dict[str, object]:
    return {"sessions": server.sessions.listing()}


# -- ordered: one after the other -------------------------------------------------------------------------------------


@_method(
    "execute",
    "Run Python code in the session's namespace. What the code raises is a result, not an error of the protocol.",
    Param("code", "string", "The code.", REQUIRED),
    Param(
        "timeout",
        "seconds",
        "Seconds that the code may take; 0 or null: no limit. By default 30 in a worker, none in local.",
        null=0,
    ),
    Param("silent", "boolean", "Do not show the last expression, count the request, or file it in the history.", False),
    Param("store_history", "boolean", "Count the request and file it in the history.", True),
    Param(
        "wait",
        "seconds",
        "Seconds to wait for its end; after that the answer has the status `running`, and `wait` gives the last one. "
        "Without a `timeout` there is none then.",
    ),
    Param("filename", "string", "The file name that tracebacks show."),
    Param(
        "allow_stdin",
        "boolean",
        "Have `input()` and `getpass` ask the client, by the notification `input_request`; else they raise EOFError.",
        False,
    ),
    Param("max_output_bytes", "count", "How many bytes of each output stream the answer holds; by default 1 MiB."),
    Param("stream", "boolean", "Tell what the code prints while it runs, by `stream` notifications.", False),
    Param("retries", "count", "How often to run the code again when its worker was taken away; at most 3.", 3),
    Param(
        "fallback", "string", "As the setting JSON_REPL_FALLBACK, for this request.", None, ("auto", "always", "never")
    ),
    Param(
        "on_error",
        "string",
        'With "rollback", the namespace is as before if the code fails. Worker only.',
        "keep",
        ("keep", "rollback"),
    ),
    Param(
        "dry_run",
        "boolean",
        "Run it in a copy of the session that is thrown away, and tell in `changes` what it does. Worker only.",
        False,
    ),
    Param(
        "if_busy",
        "string",
        "Wait for earlier requests, or be answered by the error `busy`.",
        "queue",
        ("queue", "reject"),
    ),
    result="the object described in the next section",
)
def _execute(
    server: Server,
    session: Session,
    done: Done,
    if_busy: str,
    stream: bool,
    allow_stdin: bool,
    wait: float | None,
    **params: Any,
) -> None:
    take: Callable[[Any], None] = done
    if wait is not None:
        params["timeout"] = params["timeout"] or 0
        take = server.patience(session).bounded(wait, done)
    ask = server.asker(session) if allow_stdin else None
    try:
        server.execute(session=session, done=take, ask=ask, write=server.write if stream else None, **params)
    except RpcError as error:
        take(error)


@_method(
    "history",
    "The requests that were executed.",
    Param("n", "count", "Only the last n of what is found."),
    Param("failed", "boolean", "Only those that ended with an error.", False),
    Param("search", "string", "Only those whose code contains this text."),
    result="`{entries: [{execution_count, execution_id, code, code_characters, started_at, backend, status, reason, "
    "error, elapsed_ms, stdout_characters, stderr_characters, result_characters}], stats}`",
)
def _history(server: Server, session: Session, done: Done, n: int | None, failed: bool, search: str | None) -> None:
    done({"entries": session.history.search(n, failed=failed, search=search), "stats": session.history.stats()})


@_method(
    "rollback",
    "Return to the state that the namespace had after an earlier execution. Worker only.",
    Param("to", "id", "After which: an execution_id or an execution_count; 0 is before the first."),
    Param("steps", "count", "How many requests to undo."),
    result="`{execution_id, execution_count, state, undone, threads_lost, epoch}`: where it is now, and what is undone",
)
def _rollback(server: Server, session: Session, done: Done, to: str | float | None, steps: int | None) -> None:
    server.sessions.roll_back(session, to, steps, done)


@_method(
    "session/clone",
    "Make a second live session, which goes on from a state of this one. Worker only.",
    Param("at", "id", "After which execution: an execution_id or an execution_count; by default as it is now."),
    Param("new_session_id", "string", "What to call it."),
    result="`{session_id, state, queued, execution_count, epoch, cloned_from, pid, threads_lost}`; requests for a "
    "`new_session_id` can be sent at once",
)
def _clone(server: Server, session: Session, done: Done, at: str | float | None, new_session_id: str | None) -> None:
    server.sessions.clone(session, at, new_session_id, done)


@_method(
    "session/close",
    "End a session other than the default one at once, and all that it has started. Its later requests and its exit "
    "handlers are not run.",
    result="`{}`",
)
def _close(server: Server, session: Session, done: Done) -> None:
    server.close_session(session, done)


@_method(
    "reset",
    "Begin anew with an empty namespace: in a worker from a copy of its first state, else in a new process; in local, "
    "imported modules stay.",
    result="`{epoch}`, which grows whenever the namespace is not the continuation of what it was",
)
def _reset(server: Server, session: Session, done: Done) -> None:
    server.sessions.reset(session, done)


@_method(
    "restart",
    "As `reset`, in a new worker process; and a session that had fallen back to local tries to have a worker again.",
    result="`{epoch}`",
)
def _restart(server: Server, session: Session, done: Done) -> None:
    server.sessions.restart(session, done)


@_method("shutdown", "End the session. Requests that were sent later get the error `shutting_down`.", result="`{}`")
def _shutdown(server: Server, session: Session, done: Done) -> None:
    server.shut_down("the session is shutting down, as it was asked to")
    done({})


METHODS.update(LOOKS)


def description() -> dict[str, object]:
    """What `describe` answers."""
    return {
        "name": "json-repl-session",
        "version": __version__,
        "python": sys.version.split()[0],
        "protocol": {"jsonrpc": "2.0", "bare": True, "batches": True, "transport": "JSON lines over stdin and stdout"},
        "methods": {
            method.name: {
                "doc": method.doc,
                "kind": method.kind,
                "params": {
                    param.name: {
                        "doc": param.doc,
                        "takes": "one of " + ", ".join(param.words) if param.words else KINDS[param.kind][1],
                        "required": param.default is REQUIRED,
                        "default": None if param.default is REQUIRED else param.default,
                    }
                    for param in method.params.values()
                },
                "result": method.result,
            }
            for method in METHODS.values()
        },
        "errors": [
            {"code": error.code, "reason": error.word, "doc": (error.__doc__ or "").strip()} for error in errors.TABLE
        ],
        "settings": {row.variable: {"doc": row.doc, "takes": row.values(), "default": row.default} for row in TABLE},
    }
