"""Both sides: what user code and ours share in one process, and must not spoil for each other.

User code may replace builtins and lower the recursion limit. All of that is the user's, and is there again when the
next request runs; while our own code shapes and sends the answer, Python is as we found it. (Trace and profile
functions are handled where code is run, as a call to here would be traced already.)
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import builtins
import sys
from functools import partial
from operator import is_

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# `leave` runs while user code's builtins are in force, and after it may have spoiled modules.
_all, _map, _len = all, map, len
_change_mask, _BLOCK, _SET, _ALL_SIGNALS = (
    _signal.pthread_sigmask,
    _signal.SIG_BLOCK,
    _signal.SIG_SETMASK,
    # But the interrupt, whose handler of ours raises in user code alone: kept back, it would hit a later request.
    _signal.valid_signals() - {_signal.SIGINT},
)
_getrecursionlimit, _setrecursionlimit = sys.getrecursionlimit, sys.setrecursionlimit


class Surroundings:
    """Call `enter` before user code and `leave` after it; a second call in a row does nothing.

    Args:
        main: the module that user code runs in.
        streams: its stdin, stdout and stderr.
        read_line: what ``input()`` calls, with its prompt.
        guest: this process is somebody else's program, which gets everything back after each request.
    """

    def __init__(
        self, main: Any, streams: tuple[Any, Any, Any], read_line: Callable[[object], str], *, guest: bool = False
    ) -> None:
        self._guest = guest
        self._inside = False
        self._main = main
        self._streams = streams
        self._hosts = (sys.modules["__main__"], (sys.stdin, sys.stdout, sys.stderr))
        self._live = vars(builtins)
        self._theirs: dict[str, Any] | None = None  # user code's builtins, where they differ from ours
        self._ours = self._live.copy()
        if guest:
            self._theirs = {**self._ours, "input": read_line}
        else:
            self._ours["input"] = self._live["input"] = read_line
            self._install(main, streams)
        # Of signals, as user code has it. Ours blocks all, as handlers may raise; a host's are its own affair.
        self.mask: Any = None
        # In C alone, so that no handler can come before it is done; what one raises then is the last.
        self.keep_signals_out = partial(_change_mask, _BLOCK, () if guest else _ALL_SIGNALS)
        self._limit = self._theirs_limit = sys.getrecursionlimit()

    def use(self, main: Any) -> None:
        """User code runs in another module from now on."""
        self._main = main
        if not self._guest:
            sys.modules["__main__"] = main

    def enter(self) -> None:
        """Make things as user code left them."""
        if self._inside:
            return
        self._inside = True
        if self._guest:
            self._install(self._main, self._streams)
        if self._theirs is not None:
            self._become(self._theirs)
        if self._theirs_limit != self._limit:
            _setrecursionlimit(self._theirs_limit)
        self.let_signals_in()

    def leave(self) -> None:
        """Keep what user code left, and make things as our own code needs them. Signals are kept out already."""
        if not self._inside:
            return
        self._theirs_limit = _getrecursionlimit()
        if self._theirs_limit != self._limit:
            _setrecursionlimit(self._limit)
        same = _len(self._live) == _len(self._ours) and _all(_map(is_, self._live.values(), self._ours.values()))
        self._theirs = None if same else self._live.copy()
        if not same:
            self._become(self._ours)
            self._ours = self._live.copy()  # in the order that it has now, as the comparison goes by order
        if self._guest:
            self._streams = (sys.stdin, sys.stdout, sys.stderr)
            self._install(*self._hosts)
        self._inside = False

    def let_signals_in(self) -> None:
        """User code's signal handlers may run, and raise, from here on, until `mask` is had by `keep_signals_out`."""
        if self.mask is not None and not self._guest:
            _change_mask(_SET, self.mask)

    def let_signals_in_during(self, wait: Callable[[], object]) -> None:
        """Call `wait`, during which user code's signal handlers may run.

        Raises:
            BaseException: what came out of one; none can come any more.
        """
        try:
            self.let_signals_in()
            wait()
        finally:
            self.mask = self.keep_signals_out()

    def _become(self, wanted: dict[str, Any]) -> None:
        self._live.update(wanted)
        for name in self._live.keys() - wanted.keys():
            del self._live[name]

    def _install(self, main: Any, streams: tuple[Any, Any, Any]) -> None:
        sys.modules["__main__"] = main
        sys.stdin, sys.stdout, sys.stderr = streams
