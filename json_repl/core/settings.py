"""Both sides: every setting, in one table: its name, its environment variable, its values, and what it does."""

from __future__ import annotations

from json_repl.core.errors import SettingError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"", "0", "false", "no", "off"})

Value = "bool | float | int | str | None"


class Setting:
    """One row. `kind` is "flag", "seconds", "bytes", "count", "text", or a tuple of the words that it takes."""

    __slots__ = ("default", "doc", "kind", "name", "variable")

    def __init__(self, name: str, variable: str, kind: object, default: object, doc: str) -> None:
        self.name = name
        self.variable = variable
        self.kind = kind
        self.default = default
        self.doc = doc

    def parse(self, text: str) -> object:
        """The value that `text` stands for.

        Raises:
            SettingError: it stands for none.
        """
        word = text.strip()
        if self.kind == "flag" and word.lower() in _TRUE | _FALSE:
            return word.lower() in _TRUE
        if self.kind == "text":
            return text or None
        if isinstance(self.kind, tuple) and word.lower() in self.kind:
            return word.lower()
        if self.kind in ("seconds", "bytes", "count"):
            try:
                number = float(word) if self.kind == "seconds" else int(word)
            except ValueError:
                number = -1
            if 0 <= number < float("inf"):
                return min(number, _MOST[str(self.kind)])
        raise SettingError(f"{self.variable}={text!r} cannot be used: it takes {self.values()}.")

    def values(self) -> str:
        """The values it takes, in words."""
        if isinstance(self.kind, tuple):
            return "one of " + ", ".join(self.kind)
        return {
            "flag": "1, true, yes, on, or 0, false, no, off",
            "seconds": "a number of seconds (0: no limit)",
            "bytes": "a whole number of bytes",
            "count": "a whole number",
        }.get(str(self.kind), "any text")


DEFAULT_TIMEOUT = 30.0  # seconds, in a worker: the user's own number
GRACE_SECONDS = 1.0  # for interrupted code to end by itself
DEFAULT_MAX_OUTPUT = 1 << 20  # bytes

TABLE: tuple[Setting, ...] = (
    Setting(
        "worker",
        "USE_SUBPROCESS_WORKER",
        "flag",
        False,
        "Run code in a worker process instead of in the session's own.",
    ),
    Setting("debug", "DEBUG_REPL", "flag", False, "Log to stderr what the session does, not only warnings."),
    Setting(
        "timeout",
        "JSON_REPL_TIMEOUT",
        "seconds",
        None,
        "Seconds that a request's code may take, where it does not say; by default 30 in a worker, no limit in local.",
    ),
    Setting(
        "fallback",
        "JSON_REPL_FALLBACK",
        ("auto", "always", "never"),
        "auto",
        "When code may run in the session's own process although a worker was asked for.",
    ),
    Setting(
        "ready",
        "JSON_REPL_READY",
        ("json", "plain", "off"),
        "json",
        "The first line on stdout: a notification, a bare __READY__, or none.",
    ),
    Setting(
        "python",
        "JSON_REPL_PYTHON",
        "text",
        None,
        "The interpreter of the worker, such as one of another virtual environment.",
    ),
    Setting(
        "snapshots",
        "JSON_REPL_SNAPSHOTS",
        ("auto", "always", "off"),
        "auto",
        "When the worker's state is kept in a copy: after each answer while that costs little, always, or never.",
    ),
    Setting("snapshot_keep", "JSON_REPL_SNAPSHOT_KEEP", "count", 8, "How many snapshots are kept to return to."),
    Setting(
        "snapshot_memory",
        "JSON_REPL_SNAPSHOT_MEMORY",
        "bytes",
        0,
        "Bytes that all snapshots of a session may take beyond what it takes itself; 0: a quarter of what there is.",
    ),
    Setting("fail_fast", "JSON_REPL_FAIL_FAST", "flag", False, "Stop at the first request that fails; exit status 1."),
    Setting("check", "JSON_REPL_CHECK", "flag", False, "Exit with status 1 if any request failed."),
    Setting(
        "helpers",
        "JSON_REPL_HELPERS",
        "text",
        None,
        "Further helper modules: files or module names, separated as in PATH.",
    ),
    Setting(
        "max_line", "JSON_REPL_MAX_LINE", "bytes", 256 << 20, "The longest line that is taken as a request, in bytes."
    ),
    Setting(
        "max_output",
        "JSON_REPL_MAX_OUTPUT",
        "bytes",
        DEFAULT_MAX_OUTPUT,
        "Bytes of each output stream that an answer holds, where its request names none; `output/read` gives the rest.",
    ),
    Setting("history_size", "JSON_REPL_HISTORY_SIZE", "count", 1000, "How many requests the history holds."),
)

MOST_SECONDS = 1e9  # 31 years; the system's own clocks overflow later
_MOST = {"seconds": MOST_SECONDS, "bytes": 1 << 40, "count": 1 << 30}


class Settings:
    """The value of every row of `TABLE`, as attributes."""

    worker: bool
    debug: bool
    timeout: float | None
    fallback: str
    ready: str
    python: str | None
    snapshots: str
    snapshot_keep: int
    snapshot_memory: int
    fail_fast: bool
    check: bool
    helpers: str | None
    max_line: int
    max_output: int
    history_size: int

    def __init__(self, environ: Mapping[str, str], **given: object) -> None:
        """Read `environ`; what is `given` and not None goes before it.

        Raises:
            SettingError: a variable has a value that cannot be used.
        """
        for row in TABLE:
            value = given.get(row.name)
            if value is None and row.variable in environ:
                value = row.parse(environ[row.variable])
            setattr(self, row.name, row.default if value is None else value)
