"""Client side: a session in a process of its own, for threads (`Session`) and for asyncio (`AsyncSession`).

    submit() --Call--> Wire --stdin---> the session       wire.py
    Call.result() <--- Wire <--stdout--/                  calls.py; many may be under way

    with Session.spawn() as session:
        print(session.execute("6 * 7").result)

Standard library only, and nothing of what the session itself is made of. docs/clients.md shows more.
"""

from json_repl.client.aio import AsyncSession
from json_repl.client.calls import AsyncCall, Call, NoAnswer, Result
from json_repl.client.session import Session
from json_repl.client.wire import RequestError, SessionEnded, SessionError

__all__ = [
    "AsyncCall",
    "AsyncSession",
    "Call",
    "NoAnswer",
    "RequestError",
    "Result",
    "Session",
    "SessionEnded",
    "SessionError",
]
