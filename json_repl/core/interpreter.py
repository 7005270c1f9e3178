"""Both sides: runs the code of requests in one namespace. The same class serves both backends.

source --compile--> [statements, last expression] --run in __main__--> value --repr--> Outcome
"""

from __future__ import annotations
import __future__ as future_features

import _ast
import os
import signal
import sys
from resource import RUSAGE_SELF, getrusage
from time import perf_counter

from json_repl.core import forks, sources
from json_repl.core import outcome as ends
from json_repl.core.outcome import Outcome, safe_text
from json_repl.core.tasks import Tasks
from json_repl.core.tracebacks import explain, without_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType, ModuleType
    from typing import Any, TypeVar

    from json_repl.core.shown import Shown
    from json_repl.core.surroundings import Surroundings

    _T = TypeVar("_T")

MAIN = "__main__"
_FUTURES = 0
for _name in future_features.all_feature_names:
    _FUTURES |= getattr(future_features, _name).compiler_flag

_ONLY_AST = 0x400  # ast.PyCF_ONLY_AST; `ast` itself is not imported, as it costs more than compiling does
_TOP_LEVEL_AWAIT = 0x2000  # ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
_COROUTINE = 0x80  # inspect.CO_COROUTINE
_LONGEST_CACHED = 500  # characters
_MOST_CACHED = 256
_MOST_NAMES = 100  # of the namespace, that an answer about lost state can tell

_exit = os._exit

# User code may replace builtins and spoil modules: what runs in between is bound here.
_Everything, _Exception, _repr, _safe_text, _vars_of_sys = BaseException, Exception, repr, safe_text, vars(sys)
_eval, _gettrace, _settrace, _getprofile, _setprofile = eval, sys.gettrace, sys.settrace, sys.getprofile, sys.setprofile


class Interpreter:
    """One session's namespace, and how code runs in it.

    Args:
        surround: makes the `Surroundings`, once there is a module to run in.
        base: names that every namespace starts with, e.g. ``{"h": <helpers>}``.
        shown: what user code shows.
    """

    def __init__(self, surround: Callable[[ModuleType], Surroundings], base: dict[str, object], shown: Shown) -> None:
        self._shown = shown
        self.running = 0  # the number of the request that an interrupt may hit; 0 while there is none
        self._was_hit = False  # by an interrupt
        self._begun = 0  # the number of the newest request
        self._interrupted_early = 0  # the number of one that was interrupted when it had not begun
        self._base = {**base, **shown.functions}
        self.flags = _TOP_LEVEL_AWAIT  # of the compiler, for the next request
        self._compiled: dict[tuple[str, int], tuple[CodeType | None, CodeType | None]] = {}
        self.tasks = Tasks()
        self._tracers: tuple[Any, Any] = (None, None)  # user code's, from sys.settrace and sys.setprofile
        self._names: list[str] = []
        self._count = 0
        self._make_namespace()
        self.surroundings = surround(self._main)
        sources.teach("inspect", sources.teach_inspect)

    def run(self, number: int, source: str, filename: str | None = None, *, silent: bool = False) -> Outcome:
        """Run `source` and say how it ended:

        1. its last expression has a value: ``result`` is the value's repr,
        2. it has none, or None: ``result`` is None,
        3. it raised: ``reason`` is "exception", "exit" (SystemExit) or "interrupted" (KeyboardInterrupt).
        """
        before = getrusage(RUSAGE_SELF)
        started = perf_counter()
        outcome = self._run(number, source, filename or f"<python-input-{number}>", silent)
        if forks.in_child:
            _end_as_child(outcome)
        after = getrusage(RUSAGE_SELF)
        outcome.elapsed_ms = (perf_counter() - started) * 1000
        outcome.cpu_ms = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000
        outcome.max_rss_bytes = after.ru_maxrss * ends.RSS_UNIT
        try:
            outcome.names = self._changed_names()
            self._count = len(self.namespace) - sum(map(self.namespace.__contains__, self.hidden))
        except Exception:  # a key of user code's own making, whose comparison raises
            pass
        outcome.variable_count = self._count
        return outcome

    def reset(self) -> None:
        """Begin anew with an empty namespace. Modules stay imported, threads go on."""
        self.flags = _TOP_LEVEL_AWAIT
        self._make_namespace()
        self.surroundings.use(self._main)

    def interrupted(self, target: int) -> None:
        """What SIGINT does: raise in the code that runs, never in ours. `target` is whom it is for, 0 for anybody.

        Raises:
            KeyboardInterrupt: the code that it is for is running.
        """
        if self.running and target in (0, self.running):
            self._was_hit = True
            raise KeyboardInterrupt
        if target > self._begun:
            self._interrupted_early = target

    def interruptible(self, number: int, call: Callable[[Callable[[], bool]], _T]) -> _T | None:
        """What `call` returns, which runs user code on behalf of request `number`; None if it was interrupted.

        It gets a function that tells whether it was, as user code may raise KeyboardInterrupt itself.
        """
        self._was_hit = False
        try:
            self.running = number
            self.surroundings.enter()
            return call(lambda: self._was_hit)
        except KeyboardInterrupt:
            return None
        finally:
            self.running = 0
            self.surroundings.leave()

    def wait_readable(self, fds: list[int]) -> None:
        """While the session's tasks have anything to wait for, let them go on until one of `fds` can be read."""
        if not self.tasks.exist():
            return
        self.surroundings.enter()
        try:
            self.tasks.begin_wait(fds)
        finally:
            try:
                self.surroundings.mask = self.surroundings.keep_signals_out()
            finally:
                self.tasks.end_wait(fds)
                self.surroundings.leave()

    def wake_up_elsewhere(self, *, only_to_look: bool = False) -> None:
        """This process is a copy, made by fork, that goes on for the one it was copied from, or is only looked at."""
        if only_to_look:
            self.tasks = Tasks()  # theirs go on in the session alone
            return
        popen = getattr(sys.modules.get("subprocess"), "Popen", None)
        if popen is not None:
            import gc

            for found in gc.get_objects():
                if type(found) is popen and found.returncode is None:
                    found.returncode = -signal.SIGKILL  # it was another process's child, and ends with that
        self.tasks.wake_up_elsewhere()

    # -- running -----------------------------------------------------------------------------------------------------

    def _run(self, number: int, source: str, filename: str, silent: bool) -> Outcome:
        # `running` is set while user code can be interrupted. From `enter` to `leave` its builtins are in force:
        # no name of theirs is used but those bound above.
        outcome = Outcome()
        raised: list[BaseException] = []
        try:
            try:
                self.running = self._begun = number
                if number == self._interrupted_early:
                    raise KeyboardInterrupt
                statements, expression = self._compile(source.removeprefix("\ufeff"), filename)
                self.surroundings.enter()
                value = self._execute(statements, expression)
                if value is not None and not silent:
                    outcome.result = _safe_text(_repr(value))
                    outcome.rich = self._shown.bundle(value, outcome.result)
                    self.namespace["_"] = value
                value = None  # here, as its __del__ may hang
                self._flush()
            finally:
                self.running = 0
                self.surroundings.mask = self.surroundings.keep_signals_out()
                self.surroundings.leave()
        except BaseException as error:
            self.surroundings.leave()
            raised.append(error)
        if raised:
            self._explain(outcome, raised, number, source)
        return outcome

    def _execute(self, statements: CodeType | None, expression: CodeType | None) -> object:
        codes = [code for code in (statements, expression) if code is not None]
        value = None
        if [code for code in codes if code.co_flags & _COROUTINE]:
            value = self.tasks.await_(self._execute_in_loop(codes))
        else:
            for code in codes:
                value = self._trace_and_eval(code)
        return value if expression is not None else None

    async def _execute_in_loop(self, codes: list[CodeType]) -> object:
        # All of a request that awaits anywhere: its first statement may make a task for the last one to wait for.
        value = None
        for code in codes:
            value = self._trace_and_eval(code)
            if code.co_flags & _COROUTINE:
                value = await value  # type: ignore[misc]
        return value

    def _trace_and_eval(self, code: CodeType) -> object:
        trace, profile = self._tracers
        try:
            if trace is not None or profile is not None:
                _setprofile(profile)
                _settrace(trace)
            return _eval(code, self.namespace)
        finally:
            # Python takes away a function that raises, as these very calls can make it do: then a second try succeeds.
            for _ in (1, 2):
                try:
                    self._tracers = (_gettrace(), _getprofile())
                    _settrace(None)
                    _setprofile(None)
                    break
                except _Everything:
                    continue

    # -- compiling ---------------------------------------------------------------------------------------------------

    def _compile(self, source: str, filename: str) -> tuple[CodeType | None, CodeType | None]:
        sources.remember(filename, source)
        found = self._compiled.get((source, self.flags))
        if found is not None:
            statements, expression = found
            return (
                statements and statements.replace(co_filename=filename),
                expression and expression.replace(co_filename=filename),
            )
        flags = self.flags
        try:
            codes = self._split(source, filename)
        except RecursionError:
            # A tree as Python objects may be less deep than what Python compiles at once.
            codes = self._compile_at_once(source, filename)
        if len(source) <= _LONGEST_CACHED and not any(map(_has_functions, codes)):
            if len(self._compiled) >= _MOST_CACHED:
                del self._compiled[next(iter(self._compiled))]
            self._compiled[source, flags] = codes
        return codes

    def _split(self, source: str, filename: str) -> tuple[CodeType | None, CodeType | None]:
        tree = compile(source, filename, "exec", self.flags | _ONLY_AST, dont_inherit=True)
        body = tree.body
        last = body.pop() if body and isinstance(body[-1], _ast.Expr) else None
        return (
            self._to_code(tree, filename, "exec") if body else None,
            self._to_code(_ast.Expression(last.value), filename, "eval") if last is not None else None,
        )

    def _compile_at_once(self, source: str, filename: str) -> tuple[CodeType | None, CodeType | None]:
        try:
            return None, self._to_code(source, filename, "eval")
        except SyntaxError:
            return self._to_code(source, filename, "exec"), None

    def _to_code(self, source: Any, filename: str, mode: str) -> CodeType:
        code: CodeType = compile(source, filename, mode, self.flags, dont_inherit=True)
        self.flags |= code.co_flags & _FUTURES  # `from __future__ import ...` holds from here on, as in any REPL
        return code

    def _flush(self) -> None:
        """Have user code give what it still holds: text in its streams, figures. It is user code that runs here."""
        _flush()
        for show in self._shown.at_end:
            show()

    # -- errors ------------------------------------------------------------------------------------------------------

    def _explain(self, outcome: Outcome, raised: list[BaseException], number: int, source: str) -> None:
        error: BaseException | None = raised.pop()
        kind = type(error)
        outcome.reason, outcome.result, outcome.rich = ends.EXCEPTION, None, None
        if issubclass(kind, KeyboardInterrupt):
            outcome.reason = ends.INTERRUPTED
        elif issubclass(kind, SystemExit):
            outcome.reason = ends.EXIT
        # Its own code runs when it is shown, and that of its frames' variables when it goes: both stay interruptible.
        try:
            try:
                self.running = number
                outcome.error = explain(error, source)  # type: ignore[arg-type]
            except BaseException as second:
                self.running = 0
                outcome.error = without_text(error, second)  # type: ignore[arg-type]
                if isinstance(second, KeyboardInterrupt):
                    outcome.reason = ends.INTERRUPTED
            try:
                self.running = number
                self.surroundings.enter()
                error = None
                self._flush()
            finally:
                self.running = 0
                self.surroundings.mask = self.surroundings.keep_signals_out()
        except BaseException:
            pass  # an interrupt that came when all was said
        self.running = 0
        self.surroundings.leave()

    # -- the namespace -----------------------------------------------------------------------------------------------

    def _make_namespace(self) -> None:
        self._main = type(sys)(MAIN)
        self.namespace = vars(self._main)
        self.namespace.update(self._base)
        self.namespace["__builtins__"] = sys.modules["builtins"]
        self.hidden = frozenset(self.namespace) | {"_", "__annotations__", "__warningregistry__"}
        self._names = []

    def user_items(self) -> Iterator[tuple[str, object]]:
        """The user's own names and their values."""
        for name, value in list(self.namespace.items()):
            if type(name) is str and (name not in self.hidden or self.is_changed(name, value)):
                yield name, value

    def is_changed(self, name: str, value: object) -> bool:
        """Whether the user has given a value of their own to a name that every namespace starts with."""
        return name in self._base and value is not self._base[name]

    def _changed_names(self) -> list[str] | None:
        # Only the first ones are ever told, so a large namespace costs no more than a small one.
        names = []
        for name in self.namespace:
            if type(name) is str and name not in self.hidden:
                names.append(name)
                if len(names) == _MOST_NAMES:
                    break
        if names == self._names:
            return None
        self._names = names
        return names


def _end_as_child(outcome: Outcome) -> None:
    """A child that user code has forked has come to the end of the request, where a script's would end too."""
    status = 0
    if outcome.error is not None:
        status = 1
        if outcome.reason == ends.EXIT:
            text = outcome.error.evalue
            status = int(text) & 0xFF if text.lstrip("-").isdecimal() else int(text not in ("", "None"))
        if status and outcome.reason != ends.EXIT:
            sys.stderr.write(outcome.error.text())
    _flush()
    _exit(status)


def _flush() -> None:
    """Have user code's own streams give what they still hold, as any REPL does. It is user code that runs here."""
    for name in ("stdout", "stderr"):
        try:
            _vars_of_sys[name].flush()
        except _Exception:  # there is none, or it is broken
            pass


def _has_functions(code: CodeType | None) -> bool:
    return code is not None and any(hasattr(constant, "co_filename") for constant in code.co_consts)


def handle_interrupts(interpreter: Interpreter, target: Callable[[], int]) -> None:
    """Let SIGINT raise in user code; `target` tells which request it is for. Main thread only."""

    def on_interrupt(signum: int, frame: object) -> None:
        interpreter.interrupted(target())

    signal.signal(signal.SIGINT, on_interrupt)
