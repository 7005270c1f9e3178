"""Parent side: the sessions of this process, and what is done with a whole one: empty it, return, clone, close."""

from __future__ import annotations

from json_repl.core.errors import Busy, InvalidParams, NeedsWorker, RpcError, SessionNotFound
from json_repl.core.looks import look
from json_repl.core.snapshot import is_possible
from json_repl.core.wire import unpack_texts
from json_repl.look import read_look
from json_repl.parent.session import DEFAULT_ID, Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from json_repl.loop import Loop
    from json_repl.parent.local import LocalBackend
    from worker_manager import WorkerManager

    Done = Callable[[dict[str, object] | RpcError], None]

_LONGEST_ID = 100  # characters


class Sessions:
    """All sessions by their ids: the default one, which is as old as the process, and clones.

    Args:
        by_id: where they are kept; the default one is in there.
        uses_worker: whether a session's next request goes to a worker.
        get_worker, get_local: the backends, made if need be.
    """

    def __init__(
        self,
        loop: Loop,
        by_id: dict[str, Session],
        uses_worker: Callable[[Session], bool],
        get_worker: Callable[[Session], WorkerManager],
        get_local: Callable[[], LocalBackend],
    ) -> None:
        self.default = by_id[DEFAULT_ID]
        self.uses_worker = uses_worker
        self._loop = loop
        self._by_id = by_id
        self._get_worker = get_worker
        self._get_local = get_local
        self.closing = 0  # sessions whose processes are being ended

    def __iter__(self) -> Iterator[Session]:
        return iter([*self._by_id.values()])

    def get(self, id: object) -> Session:
        """The session with this id; None: the default one.

        Raises:
            SessionNotFound: there is none.
        """
        found = self.default if id is None else self._by_id.get(str(id))
        if found is None:
            raise SessionNotFound(f"there is no session {id!r}; there are {', '.join(self._by_id)}.")
        return found

    def call_in(self, session: Session, seconds: float, call: Callable[[], None]) -> None:
        """Call back in some seconds, also while code runs; if that runs in local, not if it ends before."""
        if session.local is not None and session.runs_locally:
            session.local.call_in(seconds, call)
        else:
            self._loop.call_in(seconds, call)

    def listing(self) -> list[dict[str, object]]:
        """What a client may know of each."""
        return [_about(session) for session in self]

    def look_now(self, session: Session, what: str, given: dict[str, Any], done: Callable[[Any], None]) -> None:
        """Look at a session's namespace in its turn, which runs no user code: see core/looks.py.

        Raises:
            NeedsWorker: it has no namespace.
        """
        if not self.uses_worker(session):
            if session is not self.default:  # this process has one namespace, which is the default session's
                raise needs_worker(session, what)
            done(read_look(look(self._get_local().interpreter, what, free=False, given=given)))
            return

        def answered(result: Any) -> None:
            done(result if isinstance(result, RpcError) else read_look(unpack_texts(result)))

        self._get_worker(session).call(answered, what=what, free=False, given=given)

    def has_copies(self, session: Session) -> bool:
        """Whether a session has copies of its state, which can be looked at while its code runs."""
        return self.uses_worker(session) and session.settings.snapshots != "off" and is_possible()

    def looks_aside(self, session: Session) -> bool:
        """Whether a look at a session's state need not wait for its turn.

        Raises:
            Busy: it would have to, and its worker's code may never end.
        """
        if session.worker is None and session is not self.default:  # it is being made
            return False
        if not self.has_copies(session):
            if self.uses_worker(session) and not session.idle:
                raise Busy("code runs, and there is no copy of the session to look at: snapshots are off.")
            return False
        return True

    # -- one namespace for another -----------------------------------------------------------------------------------

    def reset(self, session: Session, done: Done) -> None:
        """Empty a session's namespaces."""
        _reset_local(session)
        if session.worker is not None and not session.worker.given_up:
            session.worker.lineage.reset(lambda: done({"epoch": session.whole_epoch()}))
        else:
            done({"epoch": session.whole_epoch()})

    def restart(self, session: Session, done: Done) -> None:
        """Empty a session's namespaces, and have its worker anew."""
        _reset_local(session)
        if session.worker is not None:
            session.worker.lineage.restart()
        done({"epoch": session.whole_epoch()})

    def roll_back(self, session: Session, to: str | float | None, steps: int | None, done: Done) -> None:
        """Return to an earlier state; see `Past.find` for `to` and `steps`.

        Raises:
            NeedsWorker, InvalidParams: that cannot be.
        """

        def arrived(result: dict[str, object] | RpcError) -> None:
            done(result if isinstance(result, RpcError) else {**result, "epoch": session.whole_epoch()})

        lineage = self.worker_of(session, "rollback").lineage
        if (to is None) == (steps is None):
            raise InvalidParams("say where to: either 'to' (an execution_id or an execution_count) or 'steps'.")
        from json_repl import travel

        travel.go_back(lineage, to, steps, arrived)

    # -- more and fewer sessions -------------------------------------------------------------------------------------

    def reserve(self, id: str) -> str:
        """A session of this id is about to be made: requests for it can wait there from now on.

        Raises:
            InvalidParams: it cannot be called so.
        """
        if id in self._by_id or not 0 < len(id) <= _LONGEST_ID:
            raise InvalidParams(f"the new session cannot be called {id[:_LONGEST_ID]!r}: taken, empty or too long.")
        self._by_id[id] = Session(id, self.default.settings)
        self._by_id[id].busy = True
        return id

    def clone(self, source: Session, at: str | float | None, id: str | None, done: Done) -> None:
        """Have a second live session, which goes on from a state of `source`; `id` was reserved, if it is given.

        Raises:
            NeedsWorker: that cannot be.
        """
        manager = self.worker_of(source, "session/clone")
        from json_repl import travel

        def made(worker: Any, threads: int) -> None:
            if isinstance(worker, RpcError):
                done(worker)
                return
            name = id or self._free_id()
            session = self._by_id.setdefault(name, Session(name, source.settings))
            session.go_on_from(source, worker)
            done({**_about(session), "threads_lost": threads})

        travel.clone(manager, at, made)

    def close(self, session: Session, done: Callable[[], None]) -> None:
        """End a clone at once; `done` is called when its processes are gone.

        The exit handlers that it has are those of the session that it was made from, and are not run twice.

        Raises:
            InvalidParams: it is the default session.
        """
        if session is self.default:
            raise InvalidParams("the default session ends with the process: send shutdown.")
        self.closing += 1

        def ended() -> None:
            self.closing -= 1
            done()

        self.remove(session.id)
        if session.worker is None:
            ended()
        else:
            session.worker.discard(ended)

    def remove(self, id: str) -> Session:
        """Forget a session, which is no more, or has not come to be."""
        return self._by_id.pop(id)

    def worker_of(self, session: Session, what: str) -> WorkerManager:
        """The worker backend of a session.

        Raises:
            NeedsWorker: it has none; the text says that `what` needs one, and how to have it.
        """
        if not self.uses_worker(session):
            raise needs_worker(session, what)
        return self._get_worker(session)

    def _free_id(self) -> str:
        number = len(self._by_id)
        while f"s{number}" in self._by_id:
            number += 1
        return f"s{number}"


def needs_worker(session: Session, what: str) -> NeedsWorker:
    """The error of a request that needs kept states, in a session that keeps none."""
    given_up = session.worker.given_up if session.worker else None
    how = f"there is no worker ({given_up}); send restart to try again" if given_up else "start it with --worker"
    return NeedsWorker(f"{what} needs the worker backend, which alone keeps copies of the state: {how}.")


def _reset_local(session: Session) -> None:
    if session.local is not None:
        session.local.interpreter.reset()
        session.epoch += 1


def _about(session: Session) -> dict[str, object]:
    return {
        "session_id": session.id,
        "state": "busy" if session.busy else "idle",
        "queued": len(session.queue),
        "execution_count": session.execution_count,
        "epoch": session.whole_epoch(),
        "cloned_from": session.cloned_from,
        "pid": session.worker.lineage.state()["pid"] if session.worker else None,
    }
