"""Both sides: ``input()`` and ``getpass`` of user code, which ask the client where its request allows that."""

from __future__ import annotations

from _thread import get_ident

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# User code calls these with its own builtins in force.
_str, _EOFError, _RuntimeError = str, EOFError, RuntimeError


class Questions:
    """Made in the main thread, which alone may ask.

    Args:
        ask: puts a prompt to the client and waits for the reply; the second argument says that it is a password.
            None: there will be no reply.
    """

    def __init__(self, ask: Callable[[str, bool], str | None]) -> None:
        self.allowed = False  # by the request that runs
        self._ask = ask
        self._main_thread = get_ident()

    def input(self, prompt: object = "", /) -> str:
        """As the builtin of this name; the client is asked.

        Raises:
            EOFError: there is nobody to ask.
        """
        return self._put(_str(prompt), False)

    def getpass(self, prompt: str = "Password: ", stream: object = None, *, echo_char: str | None = None) -> str:
        """As ``getpass.getpass``; the client is asked not to show what is typed.

        Raises:
            EOFError: there is nobody to ask.
        """
        return self._put(_str(prompt), True)

    def teach(self, getpass: Any) -> None:
        """Have the module `getpass` ask the client."""
        getpass.getpass = self.getpass

    def _put(self, prompt: str, is_password: bool) -> str:
        if not self.allowed:
            raise _EOFError(
                "input() has nobody to ask: stdin carries the session's requests, and this one allows no questions "
                "(allow_stdin)"
            )
        if get_ident() != self._main_thread:
            raise _RuntimeError("only the code of a request can ask the client, not a thread that it started")
        reply = self._ask(prompt, is_password)
        if reply is None:
            raise _EOFError("the client has ended the input")
        return reply
