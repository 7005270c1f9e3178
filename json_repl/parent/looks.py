"""Parent side: the methods that look around: what a name can become, what an object is, what the namespace holds."""

from __future__ import annotations

from json_repl.core.errors import InvalidParams, RpcError
from json_repl.parent.method import REQUIRED, Method, Param, declaring

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from json_repl.parent.server import Server
    from json_repl.parent.session import Session

    Done = Callable[[dict[str, object] | RpcError], None]

LOOKS: dict[str, Method] = {}
_method = declaring(LOOKS)

_SECONDS = 2.0  # a key's worth of patience
_CODE = Param("code", "string", "The code, as it stands in the editor.", REQUIRED)
_CURSOR = Param("cursor_pos", "count", "Where in it the cursor stands, in code points; by default at its end.")
_TIMEOUT = Param(
    "timeout", "seconds", "Seconds for what may run code of the objects'; then it is told without that.", _SECONDS
)


@_method(
    "complete",
    "What the name, attribute, key, argument, module or file name before the cursor can become.",
    _CODE,
    _CURSOR,
    _TIMEOUT,
    aside=True,
    result='`{status: "ok", matches, cursor_start, cursor_end, metadata, left_off, stale, note}`; a match takes the '
    "place of the code from `cursor_start` to `cursor_end`; `metadata._jupyter_types_experimental` has `{text, type, "
    "start, end, signature}` for each; `left_off` counts those beyond the first 1,000",
)
def _complete(server: Server, session: Session, done: Done, code: str, cursor_pos: int | None, timeout: float) -> None:
    given = {"code": code, "cursor": _cursor(code, cursor_pos), "patience": timeout / 2}
    _look(server, session, "complete", given, timeout, _done({"status": "ok"}, done))


@_method(
    "inspect",
    "What the object is that the cursor stands on, or that is called where it stands.",
    _CODE,
    _CURSOR,
    Param("detail_level", "count", "0; or 1, for its source too.", 0),
    _TIMEOUT,
    aside=True,
    result='`{status: "ok", found, data, metadata, stale, note}`; `data` has `text/plain`; `metadata` has the same as '
    "`{name, type, module, signature, docstring, repr, shape, file, line, source}`, null where it is not known; both "
    "are empty where nothing is found",
)
def _inspect(
    server: Server,
    session: Session,
    done: Done,
    code: str,
    cursor_pos: int | None,
    detail_level: int,
    timeout: float,
) -> None:
    given = {"code": code, "cursor": _cursor(code, cursor_pos), "level": min(detail_level, 1)}
    _look(server, session, "inspect", given, timeout, _done({"status": "ok"}, done))


@_method(
    "is_complete",
    "Whether code can be run as it stands, or goes on in a next line.",
    _CODE,
    aside=True,
    result='`{status: "complete"|"incomplete"|"invalid", indent}`; `indent` is how a next line should begin',
)
def _is_complete(server: Server, session: Session, done: Done, code: str) -> None:
    def shape(result: Any) -> None:
        done(result if isinstance(result, RpcError) else {key: result[key] for key in ("status", "indent")})

    _look(server, session, "is_complete", {"code": code}, _SECONDS, shape)


@_method(
    "variables",
    "The names of the namespace, without those that every session starts with, in the order in which they were made; "
    "or, with `name`, one value and what is in it. Only then, and only in a copy of a worker, may an object's own "
    "`__repr__` run.",
    Param("match", "string", "Only names that contain this text, or fit this pattern, if it has a `*`, `?` or `[`."),
    Param("type", "string", "Only values of the type that is called so, or whose name fits this pattern."),
    Param("offset", "count", "How many to leave out at the beginning.", 0),
    Param("limit", "count", "How many to tell; by default all, with `name` 1,000 at most."),
    Param("name", "string", "The variable to tell all about."),
    Param("path", "path", "What to tell about within it: keys, indexes, names of attributes, from the outside in."),
    _TIMEOUT,
    result="`{variables: [{name, type, module, repr, size_bytes, shape}], count, next_offset}`; `repr` is Python's "
    "where that runs no code of the user's, else what can be told without, cut to 80 characters; `size_bytes` is "
    "without what a value refers to; `shape` is of arrays, frames, containers and texts; both are null where only code "
    "could tell; `count` is of all that fit, `next_offset` null at the end. With `name`: `{name, path, type, module, "
    "repr, size_bytes, shape, children: [{step, kind, type, module, repr, size_bytes, shape}], table, count, "
    "next_offset, stale, note}`; `step` leads there in a `path`, `kind` is `item` or `attribute`; `table` is null but "
    "of a frame or a table: `{columns: [{name, type}], columns_left_off, index, rows}`",
)
def _variables(
    server: Server,
    session: Session,
    done: Done,
    match: str | None,
    type: str | None,
    offset: int,
    limit: int | None,
    name: str | None,
    path: list[Any] | None,
    timeout: float,
) -> None:
    if name is None:
        if path:
            raise InvalidParams("variables: 'path' leads on from a variable: say which by 'name'.")
        given: dict[str, Any] = {"offset": offset, "limit": limit, "match": match, "type": type}
        server.sessions.look_now(session, "variables", given, _done({}, done))
        return
    if match is not None or type is not None:
        raise InvalidParams("variables: 'match' and 'type' choose among names, and one is given by 'name'.")
    steps = path or []

    def found(result: Any) -> None:
        if result is None:
            way = "".join(f"[{step!r}]" for step in steps)
            result = InvalidParams(f"variables: there is no {name[:100]}{way[:200]}.")
        done(result)

    given = {"name": name, "path": steps, "offset": offset, "limit": limit}
    _look(server, session, "variable", given, timeout, found)


def _look(
    server: Server, session: Session, what: str, given: dict[str, Any], seconds: float, done: Callable[[Any], None]
) -> None:
    if server.sessions.has_copies(session):
        is_stale = None if what == "variable" else session.running is not None or bool(session.queue)
        server.sessions.worker_of(session, what).looks.start(what, given, seconds, done, is_stale=is_stale)
    else:

        def told(result: Any) -> None:
            done({**result, "stale": False, "note": None} if isinstance(result, dict) else result)

        server.sessions.look_now(session, what, given, told)


def _done(more: dict[str, object], done: Done) -> Callable[[Any], None]:
    return lambda result: done(result if isinstance(result, RpcError) else {**more, **result})


def _cursor(code: str, cursor: int | None) -> int:
    if cursor is not None and cursor > len(code):
        raise InvalidParams(f"'cursor_pos' is behind the end of the code, which has {len(code)} code points.")
    return len(code) if cursor is None else cursor
