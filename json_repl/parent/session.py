"""Parent side: one session: its backends, its history, its counts, and the requests that wait for their turn."""

from __future__ import annotations

from collections import deque
from itertools import groupby
from time import time

from json_repl.core.errors import InvalidParams
from json_repl.core.output import DISPLAY
from json_repl.outputs import Outputs
from json_repl.parent.history import History
from json_repl.printed import Printed, Spool

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from json_repl.core.protocol import Request
    from json_repl.core.settings import Settings
    from json_repl.parent.local import LocalBackend
    from json_repl.parent.stream import Stream
    from json_repl.parent.waiting import Patience
    from worker_manager import WorkerManager

DEFAULT_ID = "default"
_MOST_LATE_BYTES = 1 << 20
_MOST_STREAMS = 1000


class Session:
    """The state of one session that is not the user's."""

    def __init__(self, id: str, settings: Settings) -> None:
        self.id = id
        self.cloned_from: str | None = None  # the session and the execution after which it was, e.g. "default e3"
        self.settings = settings
        self.history = History(settings.history_size)
        self.worker: WorkerManager | None = None
        self.local: LocalBackend | None = None
        self.queue: deque[tuple[Request, Callable[[], None]]] = deque()  # ordered requests, and what starts them
        self.busy = False  # one of them is on its way
        self.current: Request | None = None  # which
        self.running: dict[str, Any] | None = None  # e.g. {"execution_id": "e3", "since": 1790000000.0}
        self.number = 0  # of the newest execution
        self.execution_count = 0
        self.epoch = 0  # of the local namespace; a worker's comes on top
        self.started_at = time()
        self.patience: Patience | None = None  # once a client does not wait for an answer
        self._spool = Spool()
        self._outputs: dict[str, Printed] = {}  # of what runs, and of what has printed too much for its answer
        self._streams: dict[int, Stream] = {}  # of the last executions that have one
        self._late: list[bytes] = []
        self._late_shown: dict[int, Outputs] = {}
        self._late_bytes = 0
        self._late_lost = 0

    def go_on_from(self, source: Session, worker: WorkerManager) -> None:
        """Be a second session, whose `worker` goes on from a state of `source`."""
        past = worker.lineage.past
        self.cloned_from = f"{source.id} e{past.present}"
        self.history = source.history.branch(past.present)
        self.number, self.execution_count = past.present, past.execution_count()
        self.worker = worker
        self.busy = False
        worker.answer_question, worker.on_late_output = self.history.answer, self.add_late_output

    def whole_epoch(self) -> int:
        """How often the namespace was not the continuation of what it was, in either backend."""
        return self.epoch + (self.worker.lineage.epoch if self.worker else 0)

    @property
    def idle(self) -> bool:
        """Nothing runs and nothing waits."""
        return not self.busy and not self.queue

    @property
    def runs_locally(self) -> bool:
        """Code runs, and in this process."""
        return self.local is not None and self.local.number > 0

    def next_id(self) -> str:
        """An execution_id that was not used yet."""
        self.number += 1
        return f"e{self.number}"

    def begin(self, *, counted: bool) -> tuple[int, str]:
        """A request begins: its number and its execution_id. Only what is filed in the history is counted."""
        execution_id = self.next_id()
        self.execution_count += counted
        self.running = {"execution_id": execution_id, "since": time()}
        return self.number, execution_id

    def begin_locally(self) -> None:
        """Code begins in this process."""
        if self.patience is not None:
            self.patience.begin_locally()

    def new_output(self, execution_id: str, most: int | None, listener: Stream | None) -> Printed:
        """What is to hold the output of the execution that begins: at most `most` bytes of each stream in memory."""
        if listener is not None:
            self._streams[self.number] = listener
            if len(self._streams) > _MOST_STREAMS:
                del self._streams[next(iter(self._streams))]
        printed = Printed(self.settings.max_output if most is None else most, self._spool, listener)
        self._outputs[execution_id] = printed
        return printed

    def forget_output(self, execution_id: str, *, truncated: bool) -> None:
        """An execution has ended: its answer holds all it printed, if it is not truncated."""
        if truncated:
            self._outputs[execution_id].end()
        else:
            del self._outputs[execution_id]

    def collect(self) -> None:
        """Take what was printed until now by the execution that runs. It may be over then: its answer is taken too."""
        if self.running is not None:
            if self.local is not None and self.runs_locally:
                self.local.collect()
            elif self.worker is not None:
                self.worker.collect()

    def output_so_far(self) -> Printed:
        """What was collected from the execution that runs."""
        assert self.running is not None
        return self._outputs[self.running["execution_id"]]

    def read_output(self, execution_id: str, stream: str, offset: int, limit: int) -> dict[str, object]:
        """A part of what an execution prints, or has printed.

        Raises:
            InvalidParams: nothing is held of it.
        """
        self.collect()
        if execution_id not in self._outputs:
            raise InvalidParams(f"there is no more output of {execution_id!r} than its answer holds.")
        try:
            return self._outputs[execution_id].read(stream, offset, limit)
        except KeyError:
            raise InvalidParams(f"the answer of {execution_id!r} refers to no {stream!r}.") from None

    def ask_for_stacks(self, done: Callable[[str], None]) -> None:
        """Give `done` the Python stacks of all threads of the code that runs."""
        worker = self.worker and (self.worker.trial or self.worker)
        if self.local is not None and self.runs_locally:
            done(self.local.stacks())
        elif worker is not None and worker.lineage.link is not None:
            from json_repl import ending

            ending.ask_for_stacks(worker.lineage.link, done)
        else:  # it waits for its worker
            done("")

    def answer_input(self, text: str | None) -> bool:
        """Give code that waits for its client a line, or, with None, the end of input; False if none waits."""
        if self.local is not None and self.runs_locally:
            return self.local.answer_input(text)
        return self.worker is not None and self.worker.answer_input(text)

    def add_late_output(self, owner: int, pieces: list[tuple[int, bytes]]) -> None:
        """Take what request `owner` has left printing: for its stream, if it has one, else for the next answer.

        That holds it up to a bound; what is over it is counted.
        """
        listener = self._streams.get(owner)
        for kind, run in groupby(pieces, lambda piece: piece[0] == DISPLAY):
            if kind:
                self._add_late_shown(owner, b"".join(data for _, data in run))
            elif listener is not None:
                listener.send(run)
            else:
                self._keep_late(b"".join(data for _, data in run))

    def _add_late_shown(self, owner: int, data: bytes) -> None:
        for method, content in self._late_shown.setdefault(owner, Outputs()).feed(data):
            if owner in self._streams:
                self._streams[owner].tell(method, content)
            elif "data" in content:
                self._keep_late(f"{content['data'].get('text/plain', '')}\n".encode("utf-8", "replace"))

    def _keep_late(self, data: bytes) -> None:
        room = max(0, _MOST_LATE_BYTES - self._late_bytes)
        self._late_lost += len(data) - len(data[:room])
        self._late_bytes += len(data[:room])
        self._late.append(data[:room])

    def take_late_output(self) -> str:
        """All late output since the last call, as text."""
        if not self._late:
            return ""
        text = b"".join(self._late).decode("utf-8", "replace")
        if self._late_lost:
            text += f"\n[{self._late_lost} more bytes were printed between requests]\n"
        self._late, self._late_bytes, self._late_lost = [], 0, 0
        return text
