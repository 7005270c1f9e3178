"""Whatever user code does to the process it shares with us: each request is answered once, and the session lives."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable

import pytest
from harness import Session

# What ruins something for good; each in a session of its own.
RUIN = {
    "sys.modules is emptied": "import sys; sys.modules.clear()",
    "__main__ leaves sys.modules": "import sys; del sys.modules['__main__']",
    "__main__ is replaced": "import sys, types; sys.modules['__main__'] = types.ModuleType('__main__')",
    "builtins leaves sys.modules": "import sys; del sys.modules['builtins']",
    "json is replaced": "import sys, types; sys.modules['json'] = types.ModuleType('json')",
    "traceback is replaced": "import sys, types; sys.modules['traceback'] = types.ModuleType('traceback')",
    "traceback is None": "import sys; sys.modules['traceback'] = None",
    "every module is None": "import sys\nfor name in list(sys.modules): sys.modules[name] = None",
    "sys.path is emptied": "import sys; sys.path.clear()",
    "sys.path is no list": "import sys; sys.path = None",
    "sys.meta_path is emptied": "import sys; sys.meta_path.clear()",
    "sys.path_hooks are emptied": "import sys; sys.path_hooks.clear(); sys.path_importer_cache.clear()",
    "an import hook raises": """
        import sys
        class Finder:
            def find_spec(self, *args): raise RuntimeError("no imports today")
        sys.meta_path.insert(0, Finder())
        """,
    "sys.excepthook is broken": "import sys; sys.excepthook = None; sys.unraisablehook = None; sys.displayhook = None",
    "the recursion limit is 30": """
        import sys
        for limit in range(30, 200):
            try: sys.setrecursionlimit(limit)
            except RecursionError: continue
            break
        """,
    "the streams are None": "import sys; sys.stdin = sys.stdout = sys.stderr = None; del sys.stdin, sys.__stdout__",
    "the streams are closed": "import sys; sys.stdin.close(); sys.stdout.close(); sys.stderr.close()",
    "the streams are detached": "import sys; sys.stdout.detach(); sys.stderr.detach()",
    "the streams raise": """
        import sys
        class Broken:
            def __getattr__(self, name): raise RuntimeError("a broken stream")
        sys.stdin = sys.stdout = sys.stderr = Broken()
        """,
    "fd 0, 1 and 2 are closed": "import os; os.close(0); os.close(1); os.close(2)",
    "all of os raises": "import os\nfor name in dir(os): setattr(os, name, None)",
    "all of json raises": "import json\nfor name in dir(json): setattr(json, name, None)",
    "orjson raises": """
        try: import orjson
        except ImportError: pass
        else: orjson.dumps = orjson.loads = None
        """,
    "traceback raises": "import traceback\nfor name in traceback.__all__: setattr(traceback, name, None)",
    "linecache is broken": "import linecache; linecache.cache = linecache.getlines = linecache.lazycache = None",
    "time is broken": "import time\nfor name in dir(time): setattr(time, name, None)",
    "select is broken": "import select\nfor name in dir(select): setattr(select, name, None)",
    "signal is broken": "import signal\nfor name in dir(signal): setattr(signal, name, None)",
    "resource is broken": "import resource\nfor name in dir(resource): setattr(resource, name, None)",
    "threading is broken": "import threading\nfor name in dir(threading): setattr(threading, name, None)",
    "asyncio is broken": "import asyncio\nfor name in asyncio.__all__: setattr(asyncio, name, None)",
    "os.environ is None": "import os; os.environ = None",
    "the current folder is gone": "import os, tempfile; d = tempfile.mkdtemp(); os.chdir(d); os.rmdir(d)",
    "the current folder holds our names": """
        import os, pathlib, tempfile
        folder = tempfile.TemporaryDirectory()
        os.chdir(folder.name)
        for name in ("json", "traceback", "asyncio", "signal", "helpers", "history"):
            pathlib.Path(name + ".py").write_text("1 / 0")
        """,
    "SIGINT is ignored": "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)",
    "SIGINT kills": "import signal; signal.signal(signal.SIGINT, signal.SIG_DFL)",
    "all signals are blocked": "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())",
    "garbage is not collected": "import gc; gc.disable(); gc.freeze()",
    "a gc callback raises": "import gc; gc.callbacks.append(lambda *event: 1 / 0); gc.set_threshold(1)",
    "the locale is C": "import locale, os; os.environ['LC_ALL'] = 'C'; locale.setlocale(locale.LC_ALL, 'C')",
    "atexit handlers exit, raise and print": """
        import atexit, os
        atexit.register(os._exit, 7)
        atexit.register(lambda: 1 / 0)
        atexit.register(print, "bye")
        """,
    "threads are left running and an atexit handler hangs": """
        import atexit, threading
        atexit.register(threading.Event().wait)
        for daemon in (False, True):
            threading.Thread(target=threading.Event().wait, daemon=daemon).start()
        """,
    "few files may be open": "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (12, 4096))",
    "no files may be opened": "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (0, 4096))",
    "no file may grow": "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))",
    "the fault handler is off": "import faulthandler; faulthandler.disable()",
    "warnings are errors": "import warnings; warnings.simplefilter('error')",
    "warnings are broken": "import warnings; warnings.warn = warnings.showwarning = warnings.filters = None",
    "the event loop is closed": """
        import asyncio
        await asyncio.sleep(0)
        asyncio.get_event_loop_policy().get_event_loop().stop()
        """,
    "a wakeup fd is set": """
        import os, signal
        r, w = os.pipe(); os.set_blocking(w, False); signal.set_wakeup_fd(w)
        """,
    "the switch interval is long": "import sys; sys.setswitchinterval(5)",
    "our helpers are broken": "vars(h).clear()",
    "the namespace has odd keys": "globals()[1] = globals()[None] = globals()[(2, 3)] = 4",
    "the namespace has hostile keys": """
        class Key(str):
            __hash__ = str.__hash__
            def __eq__(self, other): raise RuntimeError("no comparing")
            def encode(self, *args): raise RuntimeError("no encoding")
        globals()[Key("hostile")] = 1
        """,
    "the builtins have odd keys": "import builtins; vars(builtins)[1] = vars(builtins)[None] = 2",
    "__builtins__ is gone": "globals().pop('__builtins__')",
    "an unraisable hook raises": """
        import sys
        def hook(unraisable): raise SystemExit(3)
        sys.unraisablehook = hook
        class D:
            def __del__(self): raise ValueError
        d = D(); del d
        """,
}


@pytest.mark.parametrize("code", RUIN.values(), ids=RUIN.keys())
def test_a_session_survives_what_its_code_ruins(session: Session, code: str) -> None:
    session.run("import sys as kept; first = 41")
    session.send({"id": "ruin", "code": textwrap.dedent(code), "timeout": 20}, {"id": 2, "code": "1 + 1"})
    answer = session.read()
    assert (answer["id"], answer["reason"]) in [("ruin", None), ("ruin", "exception")], answer["stderr"]
    answer = session.read()
    assert (answer["id"], answer["result"]) == (2, "2"), answer["stderr"]
    assert session.value("first + 1") == "42"
    answer = session.run("raise KeyError('after')")
    assert (answer["status"], answer["error"]["ename"]) == ("error", "KeyError"), answer["stderr"]
    assert session.value("first + 2") == "43"
    assert session.ask("variables").get("error") is None


@pytest.mark.parametrize("kind", ["settrace", "setprofile"])
def test_a_tracer_that_raises_costs_at_most_the_request_that_it_stops(session: Session, kind: str) -> None:
    session.run("first = 41")
    session.run(f"import sys; sys.{kind}(lambda *event: 1 / 0)")
    session.run("1 + 1")  # a tracer that is still there stops this one; Python then removes it
    assert session.value("first + 1") == "42"
    assert session.value("sys.gettrace(), sys.getprofile()") == "(None, None)"


def test_a_tracer_sees_user_code_in_every_later_request_and_none_of_ours(session: Session) -> None:
    session.run(
        textwrap.dedent("""
        import sys
        seen = set()
        def tracer(frame, event, arg):
            seen.add(frame.f_code.co_filename)
            return tracer
        def f(): return 5
        sys.settrace(tracer)
        """)
    )
    assert session.value("f()") == "5"
    session.run("sys.settrace(None)")
    assert session.value("[name for name in seen if 'python-input' not in name]") == "[]"
    assert session.value("len(seen) >= 1") == "True"


def test_what_user_code_replaces_stays_replaced(session: Session) -> None:
    session.run(
        textwrap.dedent("""
        import builtins, sys, os, json
        said = print
        builtins.print = lambda *words: said("replaced", *words)
        builtins.repr = lambda value: "mine"
        builtins.invented = 5
        del builtins.hex
        sys.stdout_was, os.getpid, json.dumps = sys.stdout, lambda: -1, lambda value: "json"
        """)
    )
    assert session.run("print('x')")["stdout"] == "replaced x\n"
    assert session.value("repr(1), invented, os.getpid(), json.dumps({})") == "('mine', 5, -1, 'json')"
    assert session.run("hex(1)")["error"]["ename"] == "NameError"


def test_an_emptied_namespace_costs_only_its_names(session: Session) -> None:
    session.run("first = 41")
    assert session.run("for name in list(globals()): del globals()[name]")["status"] == "ok"
    assert session.value("1 + 1") == "2"
    assert session.run("first")["error"]["ename"] == "NameError"
    session.run("first = 42")
    assert session.value("first") == "42"


@pytest.mark.parametrize("module", ["builtins", "sys", "os"])
@pytest.mark.parametrize("how", ["keep[{0!r}] = None", "del keep[{0!r}]"], ids=["None", "deleted"])
def test_no_name_that_user_code_takes_away_is_needed_by_ours(
    start: Callable[..., Session], backend: str, module: str, how: str
) -> None:
    """Every name of a module, by the dozen, then one by one where that fails; user code keeps what it needs itself."""
    session = start(backend)
    listed = session.run(f"import json, {module}; print(json.dumps(dir({module})))")
    names = [name for name in json.loads(listed["stdout"]) if (module, name) != ("sys", "stdout")]  # print needs that
    groups = [names[at : at + 12] for at in range(0, len(names), 12)]
    failures: dict[str, str] = {}
    healthy: Session | None = None
    while groups:
        group = groups.pop()
        if healthy is None:
            healthy = start(backend)
            healthy.run(f"import {module}; keep = vars({module}); was = dict(keep); say = print; first = 41")
        wrong = what_goes_wrong(healthy, "\n".join(map(how.format, group)), len(groups))
        if wrong:
            healthy = None
            if len(group) == 1:
                failures[group[0]] = wrong[-500:]
            else:
                groups += [[name] for name in group]
    assert not failures


def what_goes_wrong(session: Session, ruin: str, number: int) -> str | None:
    """After `ruin`, with a value, a print, an error and the repair."""
    codes = [ruin, f"first + {number}", f"say({number})", f"None.missing_{number}", "keep.update(was)"]
    session.send(*({"code": code} for code in codes))
    try:
        answers = [session.read(10) for _ in codes]
    except AssertionError as error:
        return str(error)
    for answer in answers:
        if answer is None or "status" not in answer or answer["session_state"]["state"] != "kept":
            return str(answer)
    _, value, printed, failed, repaired = answers
    if value["result"] != str(41 + number) or printed["stdout"] != f"{number}\n" or repaired["status"] != "ok":
        return str((value, printed, repaired))
    shown = f"    None.missing_{number}\n" in failed["stderr"]
    told = f"AttributeError: 'NoneType' object has no attribute 'missing_{number}'" in failed["stderr"]
    return None if shown and told else str(failed["stderr"])
