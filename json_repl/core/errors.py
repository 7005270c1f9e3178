"""Both sides: every error that has a name on the wire, in one table.

Codes from -32700 to -32600 are those of the JSON-RPC 2.0 specification, section 5.1; -32010 and below are ours, from
the range that the specification leaves to servers.
"""

from __future__ import annotations


class RpcError(Exception):
    """A request that gets an error for an answer. ``message`` is one sentence: what is wrong and what to do."""

    code = -32603
    word = "internal_error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def to_wire(self) -> dict[str, object]:
        """The JSON-RPC 2.0 error object."""
        return {"code": self.code, "message": self.message, "data": {"reason": self.word}}


class ParseError(RpcError):
    """The line is not JSON."""

    code, word = -32700, "parse_error"


class InvalidRequest(RpcError):
    """The line is JSON, but not a request."""

    code, word = -32600, "invalid_request"


class MethodNotFound(RpcError):
    """There is no such method."""

    code, word = -32601, "method_not_found"


class InvalidParams(RpcError):
    """The method does not take these parameters."""

    code, word = -32602, "invalid_params"


class InternalError(RpcError):
    """A bug of ours: the request is answered, the session goes on."""

    code, word = -32603, "internal_error"


class Busy(RpcError):
    """Code is running, and the request said that it does not want to queue."""

    code, word = -32010, "busy"


class SessionNotFound(RpcError):
    """There is no session with this id."""

    code, word = -32011, "session_not_found"


class WorkerLost(RpcError):
    """The worker died, or cannot be had, while it was to answer a method other than ``execute``."""

    code, word = -32012, "worker_lost"


class LimitExceeded(RpcError):
    """The request is larger than the session takes."""

    code, word = -32013, "limit_exceeded"


class ShuttingDown(RpcError):
    """The session is ending and did not run the request."""

    code, word = -32014, "shutting_down"


class NeedsWorker(RpcError):
    """The request needs kept copies of the state, which the worker backend alone has."""

    code, word = -32015, "needs_worker"


class Cancelled(RpcError):
    """The request was cancelled before its turn came, and was not run."""

    code, word = -32016, "cancelled"


TABLE: tuple[type[RpcError], ...] = (
    ParseError,
    InvalidRequest,
    MethodNotFound,
    InvalidParams,
    InternalError,
    Busy,
    SessionNotFound,
    WorkerLost,
    LimitExceeded,
    ShuttingDown,
    NeedsWorker,
    Cancelled,
)


class WireError(Exception):
    """The worker's wire carried something that is not a frame of ours."""


class WorkerUnavailable(Exception):
    """No worker has taken the request; the text says why. If it is `hopeless`, trying again will not help."""

    def __init__(
        self, message: str, *, hopeless: bool = False, for_want_of_files: bool = False, attempts: int = 0
    ) -> None:
        super().__init__(message)
        self.hopeless = hopeless
        self.for_want_of_files = for_want_of_files  # of this process, which may be over in a moment
        self.attempts = attempts  # how often it was run nevertheless, where the request wants that


class SettingError(ValueError):
    """A setting has a value that cannot be used; the text names the setting and the values it takes."""
