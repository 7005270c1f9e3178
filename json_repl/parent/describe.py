"""Parent side: docs/protocol.md, made from what the methods declare: ``python -m json_repl.parent.describe``."""

from __future__ import annotations

from typing import Any

from json_repl.parent.methods import ALIASES, description

_HEAD = """\
# The protocol

Made from the methods' own declarations by `python3 dev.py docs`. Do not edit.

One JSON object per line, UTF-8, `\\n`, on stdin and stdout. Two dialects, told apart per line:

- **bare**: `{"code": "..."}` or `{"method": "...", ...params}`, with or without `id`. It is always answered: by the
  result object, with the `id` in it if there was one, or by `{"id": ..., "error": {...}}`.
- **JSON-RPC 2.0**: `{"jsonrpc": "2.0", "id": 1, "method": "...", "params": {...}}`, with batches (run in order, answered
  when the last is done, in their order) and notifications (a request without `id`, which gets no answer). Params may
  come by position.

Every method takes `session_id`. Requests of one session are answered in the order in which they came; those of
different sessions run at the same time.

A leading `repl/` of a method's name is dropped. Blank lines are skipped. A line that is no JSON is answered in the
JSON-RPC form with `"id": null`.

Each request gets exactly one answer. Beside answers there are notifications. A client that asks for none gets one, the
first line:
`{"jsonrpc":"2.0","method":"ready","params":{"signal":"__READY__","version":"..."}}`; with `--ready plain` it is a bare
`__READY__`, with `--ready off` there is none.

With `"stream": true`, `execute` tells what its code prints while it runs, the first piece at once, then at most every
2 ms: `{"jsonrpc":"2.0","method":"stream","params":{"execution_id":"e3","session_id":"default","name":"stdout","text":"..."}}`.
All of them come before the answer, which holds the output too. What a thread prints after that comes as a notification
with `"late": true` and the id of the execution that has started the thread. What is shown comes in between, as
`display_data` and `update_display_data` (`{execution_id, session_id, data, metadata, transient}`) and `clear_output`
(`{execution_id, session_id, wait}`). If the worker is taken away and the code runs again, the notification `retry`
(`{execution_id, session_id, attempt}`) says that what was told before it is void.

With `"allow_stdin": true`, `input()` and `getpass` ask the client by the notification `input_request` (`{execution_id,
session_id, prompt, password}`), and wait for the method `input_reply`. Without it they raise EOFError at once; so they do
in a local session whose stdin is a regular file, as that reads on only when the code has ended.

*Control* methods are answered when they are read, also while code runs. *Ordered* ones run one after the other. (Where
stdin is a regular file, a local session reads on only between requests.) Those that look *aside* are as control methods
where the session has copies of its state (in a worker, unless snapshots are off): they look at the newest copy, and say
`stale: true` where requests run or wait that may change what they tell. In a local session they are as ordered ones; in
a worker without copies too, with the error `busy` while code runs. `note` is null, or says why less is told than could
be: an object's own code has taken too long, or has ended the copy. At the end of stdin the session finishes what it has
read, and exits.
"""

_ANSWER = """\
## The answer of `execute`

| field | |
|---|---|
| `status` | `"ok"` or `"error"`; or `"running"`, if its `wait` ended before the code: then `wait` gives the last answer |
| `reason` | null, or why it is an error: `"exception"`, `"interrupted"`, `"timeout"`, `"crash"`, `"exit"` (SystemExit), \
`"cancelled"`, `"memory"` |
| `execution_count` | counts the requests that are filed in the history; never goes back |
| `execution_id` | names this execution, also for `interrupt` |
| `stdout`, `stderr` | all output, of Python, C code and child processes, up to `max_output_bytes` each: then head and tail; \
on an error `stderr` ends with the traceback |
| `result` | the repr of the last expression's value, or null; of one longer than `max_output_bytes`, head and tail |
| `data` | the value by MIME type: `{"text/plain": ..., "image/png": "<base64>"}`, or null |
| `metadata` | of `data`, by MIME type; what is larger than `max_output_bytes` is not in `data`: there is a `reference` \
`{stream, total_bytes, lost_bytes}` here instead, and `output/read` gives the `stream` of that name |
| `outputs` | what was shown by `display()` and by libraries, in order: `{output_type, data, metadata, transient}` each, as \
Jupyter has it; `update_display` and `clear_output` have done their work |
| `error` | null, or `{ename, evalue, traceback}`; after a crash `signal` and `exit_status` too, after a timeout `stacks` |
| `changes` | null, or of a dry run `{added, changed, removed}`: names. Values are compared by their content up to 16 \
MiB each where they can be pickled, else by identity |
| `truncated` | whether output was left out, which `output/read` gives |
| `late_output` | what left-over children printed between requests, and threads of earlier executions that had no \
`stream`, whenever they printed |
| `backend` | where the code ran: `"local"` or `"worker"` |
| `attempts` | how often it was run: more than once only after its worker had been taken away |
| `fallback` | null, or `{reason, message}`: why code that was meant for a worker ran in the session's own process |
| `session_state` | `{state, epoch, undone, lost_names, warning}`: `"kept"`, `"restored"` (as it was before this request), or \
`"lost"`, with the first 100 `lost_names` and their `lost_count`; `epoch` grows whenever the namespace is not the \
continuation of what it was; `warning` is null, or says what a loss of the worker would cost beyond the request that \
caused it: threads, or earlier requests of a session that is too large for a copy after each |
| `usage` | `{elapsed_ms, cpu_ms, max_rss_bytes}` |
| `success`, `language`, `session_mode`, `variable_count`, `note`, `debug_info`, `timestamp` | for clients of the system \
that this one replaces |
"""


def page() -> str:
    """The page, as Markdown."""
    found: dict[str, Any] = description()
    parts = [_HEAD]
    for kind in ("control", "aside", "ordered"):
        for name, method in found["methods"].items():
            if method["kind"] == kind:
                parts.append(_method(name, method))
    parts.append(_ANSWER)
    parts.append(
        _table("Errors", ("code", "reason", ""), [(e["code"], f"`{e['reason']}`", e["doc"]) for e in found["errors"]])
    )
    rows = [
        (f"`{name}`", row["doc"], row["takes"], _default(row["default"])) for name, row in found["settings"].items()
    ]
    parts.append(_table("Settings", ("variable", "", "takes", "default"), rows))
    return "\n".join(parts)


def _method(name: str, method: dict[str, Any]) -> str:
    aliases = [f"`{alias}`" for alias, (target, _) in ALIASES.items() if target == name]
    lines = [f"## `{name}` ({method['kind']})\n", method["doc"] + "\n"]
    if aliases:
        lines.append(f"Also called {', '.join(aliases)}.\n")
    lines += ["| param | takes | default | |", "|---|---|---|---|"]
    for param, row in method["params"].items():
        default = "required" if row["required"] else _default(row["default"])
        lines.append(f"| `{param}` | {row['takes']} | {default} | {row['doc']} |")
    return "\n".join([*lines, f"\nResult: {method['result']}.\n"])


def _table(title: str, head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [f"## {title}\n", _row(head), _row(("---",) * len(head)), *map(_row, rows), ""]
    return "\n".join(lines)


def _row(cells: tuple[Any, ...]) -> str:
    return "| " + " | ".join(str(cell) for cell in cells) + " |"


def _default(value: object) -> str:
    return (
        {None: "", True: "true", False: "false"}.get(value, str(value)) if value in (None, True, False) else str(value)
    )


if __name__ == "__main__":
    print(page(), end="")
