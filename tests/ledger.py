"""A ledger of requests and kills: what was answered for must be there afterwards, as after a crash of a database.

``python tests/ledger.py --requests 20000 --snapshots always --seed 7`` runs it for long and tells the counts.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import signal
import sys
from collections import Counter
from threading import Timer
from typing import Any

from harness import Session

# Ways in which a request ends its own worker. None of them assigns anything.
FATAL = {
    "abort": "import os; os.abort()",
    "exit": "import os; os._exit(7)",
    "segfault": "import ctypes; ctypes.string_at(0)",
    "kill": "import os; os.kill(os.getpid(), 9)",
    "terminate": "import os; os.kill(os.getpid(), 15)",
    "babble": "import os\nfor fd in range(190, 260):\n  try: os.write(fd, b'?' * 64)\n  except OSError: pass",
    "close": "import os; os.closerange(3, 300)",
}
# Code that no interrupt reaches, for a request with a timeout.
HANGS = "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\nwhile True: pass"
FROM_OUTSIDE = (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGHUP)
SET_UP = """
values, box = {}, []
def count():
    n = 0
    while True:
        n += 1
        yield n
ticks, add = count(), lambda n: box.append(n)
"""
LOOK = "[sorted(values.items()), box]"


class Ledger:
    """Drives one session and keeps the books.

    Args:
        session: with a worker.
        seed: of what is sent, and of when something outside kills.
        large: bytes of data that the session holds besides.
        most_undone: how many answered requests one loss may undo, all of them told.
    """

    def __init__(self, session: Session, seed: int, *, large: int = 0, most_undone: int = 0) -> None:
        self.counts: Counter[str] = Counter()
        self._session = session
        self._most_undone = most_undone
        self._dice = random.Random(seed)
        self._entries: dict[str, tuple[str, int]] = {}  # what was answered for, e.g. {"e4": ("values", 17)}
        assert session.value(SET_UP + f"data = b'x' * {large}\nlen(data)") == str(large)

    def run(self, requests: int) -> None:
        """Send so many requests, and look after each round whether all is there that should be.

        Raises:
            AssertionError: it is not.
        """
        while self.counts["requests"] < requests:
            self._round()
            self._look()

    def _round(self) -> None:
        plan = [self._choose() for _ in range(self._dice.randint(1, 12))]
        killer = None
        if self._dice.random() < 0.5:
            pid = self._session.ask("status")["worker"]["pid"]
            killer = Timer(self._dice.random() * 0.01, self._kill, (pid, self._dice.choice(FROM_OUTSIDE)))
            killer.start()
        piped = self._dice.random() < 0.5
        if piped:  # all at once; else each when the one before is answered
            self._session.send(*(request for _, request in plan))
        for entry, request in plan:
            if not piped:
                self._session.send(request)
            self._book(entry, self._session.read())
        if killer is not None:
            killer.join()

    def _choose(self) -> tuple[tuple[str, int] | None, dict[str, Any]]:
        number = self._dice.randint(0, 10**9)
        kind = self._dice.random()
        if kind < 0.08:
            return None, {"code": FATAL[self._dice.choice([*FATAL])]}
        if kind < 0.09:
            return None, {"code": HANGS, "timeout": 0.05}
        if kind < 0.5:
            return ("values", number), {"code": f"values[{number % 50}] = {number}"}
        return ("box", number), {"code": f"add({number})"}

    def _kill(self, pid: int | None, signum: int) -> None:
        if pid is not None:
            self.counts["killed from outside"] += 1
            try:
                os.kill(pid, signum)
            except ProcessLookupError:  # the code was faster
                pass

    def _book(self, entry: tuple[str, int] | None, answer: dict[str, Any]) -> None:
        self.counts["requests"] += 1
        self._take_loss(answer)
        if answer["status"] == "ok" and entry is not None:
            self._entries[answer["execution_id"]] = entry
        elif answer["status"] == "error":
            self.counts[answer["reason"]] += 1
        self.counts["run again"] += answer["attempts"] > 1

    def _take_loss(self, answer: dict[str, Any]) -> None:
        state = answer["session_state"]
        assert state["state"] != "lost", answer
        assert len(state["undone"]) <= self._most_undone, answer
        for execution in state["undone"]:
            self.counts["undone"] += 1
            self._entries.pop(execution, None)

    def _look(self) -> None:
        for _ in range(9):  # the last kill may come as late as this
            answer = self._session.run(LOOK)
            self._take_loss(answer)
            if answer["status"] == "ok":
                break
        assert answer["status"] == "ok", answer
        values = {number % 50: number for kind, number in self._entries.values() if kind == "values"}
        box = [number for kind, number in self._entries.values() if kind == "box"]
        there_values, there_box = ast.literal_eval(answer["result"])
        assert (there_values, there_box) == (sorted(values.items()), box), (
            f"missing {set(box) - set(there_box)}, too much {set(there_box) - set(box)}, twice "
            f"{[number for number, count in Counter(there_box).items() if count > 1]}, "
            f"values {set(values.items()) ^ set(there_values)}; last {[*self._entries.items()][-9:]}"
        )
        self.counts["looks"] += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--snapshots", default="auto")
    parser.add_argument("--most-undone", type=int, default=0, help="requests, by one loss")
    parser.add_argument("--large", type=int, default=0, help="bytes that the session holds")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    session = Session("worker", env={"JSON_REPL_SNAPSHOTS": given.snapshots}, stderr=None)
    ledger = Ledger(session, given.seed, large=given.large, most_undone=given.most_undone)
    try:
        ledger.run(given.requests)
    finally:
        print(dict(ledger.counts), file=sys.stderr)
        session.end()


if __name__ == "__main__":
    main()
