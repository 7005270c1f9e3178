"""Both sides: the session's asyncio event loop, made at the first top-level await. Its tasks go on between requests."""

from __future__ import annotations

from json_repl.core.imports import ours

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

_Everything = BaseException  # user code, whose builtins are in force here, may have replaced it


class Tasks:
    """The loop. `asyncio` is imported when it is made."""

    def __init__(self) -> None:
        self._loop: Any = None
        self._asyncio: Any = None  # kept, as an import may find the user's by now

    def exist(self) -> bool:
        """Whether there is anything to wait for."""
        loop = self._loop
        if loop is None or loop.is_closed():
            return False
        waits_for_files = len(loop._selector.get_map()) > 1  # more than the loop's own pipe
        return bool(self._asyncio.all_tasks(loop) or loop._scheduled or loop._ready or waits_for_files)

    def await_(self, coroutine: Any) -> object:
        """Run a request's coroutine to its end. Tasks go on meanwhile.

        Raises:
            BaseException: whatever comes out of it.
        """
        if self._loop is None or self._loop.is_closed():
            self._make_loop()
        asyncio, loop = self._asyncio, self._loop
        task = loop.create_task(coroutine)
        try:
            return loop.run_until_complete(task)
        except _Everything as error:
            if task.done():
                raise
            # An interrupt came out of the loop, not out of the task, which is to end where it waits.
            task.cancel()
            loop.run_until_complete(asyncio.wait([task]))
            try:
                task.result()
            except _Everything as ended:
                error.__traceback__ = ended.__traceback__
            raise error from None

    def begin_wait(self, fds: Iterable[int]) -> None:
        """Let the tasks go on until one of `fds` can be read."""
        for fd in fds:
            self._loop.add_reader(fd, self._loop.stop)
        self._loop.run_forever()

    def end_wait(self, fds: Iterable[int]) -> None:
        """Look at `fds` no more."""
        for fd in fds:
            self._loop.remove_reader(fd)

    def wake_up_elsewhere(self) -> None:
        """This process is a copy, made by fork, that goes on for the one it was copied from."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop._close_self_pipe()
            self._loop._make_self_pipe()

    def _make_loop(self) -> None:
        with ours():
            import asyncio
            import selectors

            # epoll would be shared with copies of this process; poll has no state in the kernel.
            loop = asyncio.SelectorEventLoop(selectors.PollSelector())
            asyncio.set_event_loop(loop)
        self._asyncio, self._loop = asyncio, loop
