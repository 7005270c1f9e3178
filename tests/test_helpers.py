"""The helpers that code in a session finds ready, each against real files, real commands and a real git."""

import os
import pydoc
import random
import select
import signal
import stat
import subprocess
import sys
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

import helpers as h

PACKAGE = Path(h.__file__).parent
BOUND = 20  # seconds that anything here may take at most


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def repo(folder, monkeypatch):
    """A current folder that is a git repository, untouched by the settings of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    settings = {"HOME": folder, "XDG_CONFIG_HOME": folder, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": 1}
    person = {
        "GIT_AUTHOR_NAME": "Ada",
        "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "Ada",
        "GIT_COMMITTER_EMAIL": "a@b",
    }
    for name, value in {**settings, **person, "GIT_AUTHOR_DATE": "2024-02-03T04:05:06+02:00"}.items():
        monkeypatch.setenv(name, str(value))
    git("init", "--quiet")
    git("symbolic-ref", "HEAD", "refs/heads/main")
    return folder


def git(*arguments, **options):
    return subprocess.run(["git", *arguments], check=True, capture_output=True, timeout=BOUND, **options).stdout


def fill(files):
    """Create files from a table {path: content}."""
    for path, content in files.items():
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_bytes(content.encode())


def in_fresh_python(code, cwd="."):
    """What a new interpreter prints that runs `code`, with the package's folder as `root`."""
    start = f"import sys; root = {str(PACKAGE.parent)!r}\n"
    command = [sys.executable, "-c", start + code]
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True, timeout=BOUND).stdout.strip()


class AlivePipe:
    """A named pipe that processes keep open while they live, and whose end is therefore their end."""

    def __init__(self, path):
        os.mkfifo(path)
        self._read_end = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        self.hold = f"exec 9> '{path}'"  # for a shell: from now on it and what it starts count

    def all_gone(self):
        poll = select.poll()
        poll.register(self._read_end, select.POLLIN)
        return bool(poll.poll(BOUND * 1000)) and os.read(self._read_end, 1) == b""

    def close(self):
        os.close(self._read_end)


@pytest.fixture
def alive(tmp_path):
    pipe = AlivePipe(tmp_path / "alive")
    yield pipe
    pipe.close()


@pytest.fixture
def hour_passes_when_there_is(folder, monkeypatch):
    """Let a clock jump once a file appears, so that a timeout comes at a known moment and not by luck."""

    def arrange(name):
        clock = types.SimpleNamespace(monotonic=lambda: time.monotonic() + 3600 * os.path.exists(folder / name))
        monkeypatch.setattr(sys.modules[h.run.__module__], "time", clock)

    return arrange


# The package


def test_importing_the_package_imports_nothing_else():
    code = "sys.path.insert(0, root); before = set(sys.modules); import helpers; print(set(sys.modules) - before)"
    assert in_fresh_python(code) == "{'helpers'}"


def test_a_helper_loads_only_the_files_that_it_needs():
    code = "sys.path.insert(0, root); import helpers; helpers.exists; print(*sorted(sys.modules))"
    loaded = in_fresh_python(code).split()
    assert "helpers._files" in loaded
    assert not {"helpers._git", "helpers._command", "helpers._source", "subprocess", "ast"} & set(loaded)


def test_it_works_under_a_private_name_beside_a_users_own_module_called_helpers(tmp_path):
    (tmp_path / "helpers.py").write_text('whose = "the user\'s"')
    code = """
from importlib.util import module_from_spec, spec_from_file_location
spec = spec_from_file_location("ours", root + "/helpers/__init__.py", submodule_search_locations=[root + "/helpers"])
h = sys.modules["ours"] = module_from_spec(spec)
spec.loader.exec_module(h)
import helpers
print(helpers.whose, all(getattr(h, name) for name in dir(h)), h.read.__module__)
"""
    assert in_fresh_python(code, tmp_path) == "the user's True ours._files"


def test_every_helper_is_listed_and_explains_itself():
    promised = """read write append exists list_files tree view replace insert search_files search_code parse
        find_function find_class run git_status git_diff git_log git_add git_commit json_read json_write"""
    assert set(promised.split()) <= set(dir(h))
    overview = pydoc.plain(pydoc.render_doc(h))
    for name in dir(h):
        assert f"{name}(" in overview
        assert len(getattr(h, name).__doc__.splitlines()[0]) > 20, name
        assert getattr(h, name).__doc__.splitlines()[0] in pydoc.plain(pydoc.render_doc(getattr(h, name)))


def test_an_unknown_helper_is_named_and_points_to_the_list():
    with pytest.raises(AttributeError, match=r"no helper 'reed': dir\(h\)") as raised:
        _ = h.reed
    assert (raised.value.name, raised.value.obj) == ("reed", h)


# Files


@pytest.mark.parametrize(
    ("start", "end", "wanted"),
    [
        (None, None, "one\r\ntwo\x0c\nthree"),
        (2, None, "two\x0c\nthree"),
        (2, 2, "two\x0c\n"),
        (None, 1, "one\r\n"),
        (3, 99, "three"),
    ],
)
def test_read_returns_the_lines_asked_for_with_their_ends(folder, start, end, wanted):
    fill({"a": "one\r\ntwo\x0c\nthree"})
    assert h.read("a", start, end) == wanted


def test_an_empty_file_can_be_read_and_viewed_from_its_first_line(folder):
    fill({"a": ""})
    assert h.read("a", 1) == h.view("a", 1) == ""


def test_view_numbers_the_lines(folder):
    fill({"a": "one\n  two \r\n\nfour"})
    assert h.view("a", 2, 4) == "     2    two \n     3  \n     4  four"


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: h.read("gone"), FileNotFoundError, "'gone' does not exist (the current folder is "),
        (lambda: h.read("dir"), IsADirectoryError, "'dir' is a folder: use h.list_files"),
        (lambda: h.read("binary"), ValueError, "'binary' is a binary file: read its bytes with open(path, 'rb')"),
        (lambda: h.read("latin"), ValueError, "'latin' is not utf-8 text: byte 0xe9 at offset 3; give its encoding"),
        (lambda: h.read("text", 4), ValueError, "'text' has 3 lines: start must be from 1 to 3, not 4"),
        (lambda: h.view("text", 0), ValueError, "'text' has 3 lines: start must be from 1 to 3, not 0"),
        (lambda: h.read("text", 2, 1), ValueError, "the last line wanted, 1, is before the first, 2"),
        (lambda: h.write("dir", ""), IsADirectoryError, "'dir' is a folder: give a file in it"),
        (lambda: h.write("pipe", ""), OSError, "'pipe' is no regular file: use open()"),
        (lambda: h.append("pipe", ""), OSError, "'pipe' is no regular file: use open()"),
        (lambda: h.write("new", {}), TypeError, "a file takes str or bytes, not dict: use str(...) or h.json_write"),
        (lambda: h.list_files("text"), NotADirectoryError, "'text' is a file: give a folder"),
        (lambda: h.tree("gone"), FileNotFoundError, "'gone' does not exist"),
        (lambda: h.replace("text", "x", "y"), ValueError, "'text': no match for 'x'"),
        (lambda: h.replace("text", "", "y"), ValueError, "the text to replace is empty: use h.insert"),
        (lambda: h.replace("text", "a", "y"), ValueError, "2 matches for 'a', at lines 1, 3, where 1 was wanted"),
        (lambda: h.replace("text", "a", "y", count=3), ValueError, "where 3 was wanted"),
        (lambda: h.replace("text", " b\nc", "y"), ValueError, "its first line is at lines 2: compare the rest"),
        (lambda: h.replace("dos", "a\nb", "y"), ValueError, r"the lines of this file end in \r\n"),
        (lambda: h.insert("text", 5, "x"), ValueError, "'text' has 3 lines: line must be from 1 to 4, not 5"),
        (lambda: h.json_read("text"), ValueError, "'text' is not JSON: Expecting value: line 1 column 1"),
        (lambda: h.json_write("new", float("nan")), ValueError, "not JSON compliant"),
        (lambda: h.json_write("new", {1, 2}), TypeError, "set is not JSON serializable"),
        (lambda: h.search_code("("), ValueError, "'(' is no regular expression"),
        (lambda: h.search_files("*", "gone"), FileNotFoundError, "'gone' does not exist"),
        (lambda: h.parse("text"), SyntaxError, "invalid syntax"),
        (lambda: h.find_class("b", "text"), SyntaxError, "invalid syntax"),
        (lambda: h.run([]), ValueError, "the command is empty"),
        (lambda: h.run(["no-such-command", "x"]), FileNotFoundError, "no command no-such-command x: neither"),
        (lambda: h.run("true", cwd="gone"), FileNotFoundError, "'gone' does not exist"),
        (lambda: h.git_status("gone"), FileNotFoundError, "'gone' does not exist"),
    ],
)
def test_an_error_says_in_one_line_what_is_wrong(folder, call, error, words):
    fill({"text": "a\nb b\na c\n", "dos": "a\r\nb\r\n", "binary": "a\0b", "dir/file": ""})
    Path("latin").write_bytes("caf\xe9".encode("latin-1"))
    os.mkfifo("pipe")
    before = sorted(os.listdir())
    with pytest.raises(error) as raised:
        call()
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
    assert sorted(os.listdir()) == before


def test_another_encoding_is_read_and_written_when_given(folder):
    assert h.write("a", "h\xe9", encoding="utf-16") == 6
    assert h.read("a", encoding="utf-16") == "h\xe9"


def test_write_and_append_create_folders_and_count_bytes(folder):
    assert h.write("new/deep/a", "\xe9\r\n") == 4
    assert h.append("new/deep/a", b"\xff") == 1
    assert h.append(Path("new/b"), "x") == 1
    assert Path("new/deep/a").read_bytes() == b"\xc3\xa9\r\n\xff"


def test_write_keeps_the_mode_of_a_file_and_follows_the_umask_for_a_new_one(folder):
    fill({"script": "old"})
    os.chmod("script", 0o751)
    umask = os.umask(0o027)
    try:
        h.write("script", "new")
        h.write("other", "new")
    finally:
        os.umask(umask)
    assert stat.S_IMODE(os.stat("script").st_mode) == 0o751
    assert stat.S_IMODE(os.stat("other").st_mode) == 0o640


def test_write_goes_through_a_link_to_its_target(folder):
    fill({"real/a": "old"})
    os.symlink("real/a", "link")
    os.symlink("real/later", "dangling")
    h.write("link", "new")
    h.write("dangling", "new")
    assert os.readlink("link") == "real/a"
    assert h.read("real/a") == h.read("real/later") == "new"


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(folder, monkeypatch):
    fill({"a": "old"})

    def full(fd):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        h.write("a", "new")
    assert (os.listdir(), h.read("a")) == (["a"], "old")


def test_a_reader_never_sees_half_of_a_write(folder):
    contents = {"a" * 300_000, "b" * 200_000}
    for content in contents:
        h.write("file", content)
    stop = threading.Event()
    seen = set()

    def watch():
        while not stop.is_set():
            seen.add(h.read("file"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    for content in [*contents] * 10:
        h.write("file", content)
    stop.set()
    watcher.join(BOUND)
    assert seen <= contents


def test_home_is_expanded_in_every_path(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    fill({"in/a.py": "def f(): pass"})
    assert h.exists("~/in/a.py")
    assert not h.exists("~/in/b.py")
    assert h.list_files("~/in") == h.search_files("*.py", "~/in") == [f"{folder}/in/a.py"]
    assert h.find_function("f", "~/in")[0].path == f"{folder}/in/a.py"
    assert h.run("pwd -P", cwd="~/in").stdout == os.path.realpath("in") + "\n"


def test_list_files_marks_folders_and_filters_names(folder):
    fill({"a.py": "", ".b.py": "", "c.txt": "", "d.py/x": ""})
    assert h.list_files() == [".b.py", "a.py", "c.txt", "d.py/"]
    assert h.list_files(folder, "[!.]*.py") == [f"{folder}/a.py", f"{folder}/d.py/"]


@pytest.mark.parametrize(
    ("content", "arguments", "wanted", "changed"),
    [
        ("a\r\nb\r\n", ("b\r\n", "c"), "a\r\nc", 1),
        ("a a", ("a", "b", 2), "b b", 2),
        ("a a a", ("a", "aa", None), "aa aa aa", 3),
        ("a.b", (".", r"\1"), r"a\1b", 1),
    ],
)
def test_replace_changes_exactly_what_it_was_told(folder, content, arguments, wanted, changed):
    fill({"f": content})
    assert h.replace("f", *arguments) == changed
    assert Path("f").read_bytes().decode() == wanted


@pytest.mark.parametrize(
    ("content", "line", "text", "wanted", "inserted"),
    [
        ("a\nb\n", 1, "x", "x\na\nb\n", 1),
        ("a\nb\n", 2, "x\ny\n", "a\nx\ny\nb\n", 2),
        ("a\nb", 3, "x", "a\nb\nx\n", 1),
        ("a\r\nb", 3, "x", "a\r\nb\r\nx\r\n", 1),
        ("", 1, "x", "x\n", 1),
    ],
)
def test_insert_puts_whole_lines_before_the_line(folder, content, line, text, wanted, inserted):
    fill({"f": content})
    assert h.insert("f", line, text) == inserted
    assert Path("f").read_bytes().decode() == wanted


def test_json_comes_back_as_it_was_written(folder):
    value = {"b": [1, 2.5, None], "a": "\xe9"}
    assert h.json_write("x.json", value, indent=None) == len('{"b": [1, 2.5, null], "a": "xx"}\n')
    assert h.json_read("x.json") == value
    Path("x.json").write_text("[1]", "utf-8-sig")
    assert h.json_read("x.json") == [1]


# Trees and searches


FILES = {"a.py": "import os\n", "src/b.py": "x = OS\n", "src/deep/c.txt": "os\nno\nos.path\n", "build/d.py": "os"}


def test_tree_draws_what_is_not_ignored_down_to_a_depth(folder):
    fill({**FILES, "src/deep/er/e": "", ".gitignore": "build/\n"})
    os.symlink("src", "link")
    drawing = "./\n├── .gitignore\n├── a.py\n├── link -> src\n└── src/\n    ├── b.py\n    └── deep/ ..."
    assert h.tree(depth=2) == drawing
    assert h.tree("src/", 2) == "src/\n├── b.py\n└── deep/\n    ├── c.txt\n    └── er/ ..."
    assert "├── build/\n│   └── d.py\n" in h.tree(ignored=True)
    assert h.tree(max_entries=2).endswith("a.py\n(cut after 2: give a larger max_entries, or a folder further down)")


@pytest.mark.parametrize(
    ("pattern", "path", "wanted"),
    [
        ("*.py", ".", ["a.py", "src/b.py"]),
        ("*.py", "./src", ["src/b.py"]),
        ("src/*", ".", ["src/b.py"]),
        ("src/**", ".", ["src/b.py", "src/deep/c.txt"]),
        ("**/deep/*.txt", ".", ["src/deep/c.txt"]),
        ("?.[pt]*", "src/", ["src/b.py", "src/deep/c.txt"]),
        ("nothing", ".", []),
    ],
)
def test_search_files_finds_by_name_or_by_path(folder, pattern, path, wanted):
    fill({**FILES, ".gitignore": "/build\n"})
    assert h.search_files(pattern, path) == wanted


def test_ignored_files_are_searched_when_asked_for(folder):
    fill({**FILES, ".gitignore": "/build\n"})
    assert h.search_files("d.*", ignored=True) == ["build/d.py"]
    assert [match.path for match in h.search_code("os", files="d.*", ignored=True)] == ["build/d.py"]
    assert h.search_files("*", "build") == ["build/d.py"]


def test_search_code_finds_lines_and_shows_them_as_path_line_text(folder):
    fill(FILES)
    found = h.search_code(r"\bos\b", files="[!d].*")
    assert found == [("a.py", 1, "import os"), ("src/deep/c.txt", 1, "os"), ("src/deep/c.txt", 3, "os.path")]
    assert repr(found) == "a.py:1: import os\nsrc/deep/c.txt:1: os\nsrc/deep/c.txt:3: os.path"
    assert repr(h.search_code("absent")) == "(nothing found)"
    assert [match.path for match in h.search_code("os", "src", "*.py", ignore_case=True)] == ["src/b.py"]
    assert h.search_code("^no$", Path("src/deep/c.txt"))[0].line == 2


def test_search_code_says_when_it_was_cut(folder):
    fill({"a": "x\n" * 5})
    found = h.search_code("x", max_results=3)
    assert (len(found), found.truncated) == (3, True)
    assert repr(found).endswith("a:3: x\n(cut after 3: give a larger max_results, or search for less)")
    assert [h.search_code("x", max_results=limit).truncated for limit in (5, None)] == [False, False]


def test_search_code_passes_over_binary_files_links_and_named_pipes(folder):
    fill({"binary": "x\0", "text": "x \xe9 \x0c y" + "z" * 300})
    os.symlink("text", "link")
    os.symlink(".", "loop")
    os.mkfifo("pipe")
    [match] = h.search_code("x")
    assert match == ("text", 1, "x \xe9 \x0c y" + "z" * 300)
    assert len(repr(match)) < 250


# .gitignore, against git


PATTERNS = """
*.pyc | build/ | /build | src/*.py | **/deep | deep/** | src/**/c.txt | !a.py | * / !*.py | # comment | \\#x | \\!b
foo**/bar | a**b | /**/ | /*/ | !/src | *.[ch] | [!a].py | [a-c].* | []]x | [[:digit:]]* | [[:nope:]] | [a | x\\ | a\\*
sp\\  | trail   | tab\t | ?.py | **  | deep//x | / | ! | src | !src/deep/ | c.txt\r | [^b]* | .* | é | [\\]]x
"""
WORDS = [
    "a",
    "b",
    "a.py",
    "b.c",
    "deep",
    "src",
    "build",
    "foo",
    "foobar",
    "bar",
    ".x",
    "#x",
    "!b",
    "1",
    "]x",
    "a*",
    "é",
    "sp ",
]
PIECES = [
    "a",
    "b",
    "*",
    "**",
    "?",
    "/",
    "**/",
    "/**",
    "\\",
    "[ab]",
    "[!a]",
    "[a-c]",
    ".py",
    "foo",
    "deep",
    " ",
    "!",
    "é",
]


def random_rules(chance):
    table = [pattern.strip("\n").removeprefix(" ").removesuffix(" ") for pattern in PATTERNS.split("|")]
    made = ["".join(chance.choices(PIECES, k=chance.randint(1, 4))) + chance.choice(["", "/"]) for _ in range(3)]
    return "\n".join(chance.sample(table, 3) + made)


def git_ignores(files):
    """Those of `files` that git ignores."""
    command = ["git", "check-ignore", "-z", "--stdin"]
    asked = subprocess.run(command, input="\0".join(files).encode(), capture_output=True, timeout=BOUND)
    assert asked.returncode in (0, 1), asked.stderr
    return {os.fsdecode(path) for path in asked.stdout.split(b"\0") if path}


def make_tree(chance):
    """Create some two hundred files in folders up to four deep; return their paths."""
    files = set()
    for _ in range(300):
        path = Path(*chance.choices(WORDS, k=chance.randint(1, 4)))
        if not path.exists() and not any(parent.is_file() for parent in path.parents):
            fill({path: ""})
            files.add(str(path))
    return files


@pytest.mark.parametrize("seed", range(4))
def test_what_is_ignored_is_what_git_ignores(repo, seed):
    chance = random.Random(seed)
    files = make_tree(chance)
    folders = sorted({str(Path(file).parent) for file in files})
    ignored_once = set()
    for _ in range(40):
        places = {f"{place}/.gitignore" for place in [".", *chance.sample(folders, 3)]}
        fill({place: random_rules(chance) for place in sorted(places)} | {".git/info/exclude": random_rules(chance)})
        rules = {place: Path(place).read_bytes() for place in [*places, ".git/info/exclude"]}
        ignored = git_ignores(sorted(files))
        assert files - set(h.search_files("*", max_results=None)) == ignored, rules
        ignored_once |= ignored
        for place in places:
            os.unlink(place)
    assert ignored_once


def test_a_search_below_the_top_keeps_to_the_rules_above_it(repo):
    fill(
        {".gitignore": "/src/a\n*.o\n", "src/.gitignore": "!k.o\n", "src/a": "", "src/b.o": "", "src/k.o": "", "a": ""}
    )
    assert h.search_files("[!.]*", "src") == ["src/k.o"]
    os.chdir("src")
    assert h.search_files("[!.]*") == ["k.o"]


def test_a_linked_worktree_uses_the_exclude_file_of_its_repository(repo):
    git("commit", "--allow-empty", "--quiet", "--message=x")
    git("worktree", "add", "--quiet", "other", "-b", "other")
    fill({".git/info/exclude": "no\n", "other/no": "", "other/yes": ""})
    assert h.search_files("*", "other") == ["other/yes"]


def test_a_repository_in_a_repository_has_only_its_own_rules(repo):
    git("init", "--quiet", "inner")
    fill({".gitignore": "*.o", "inner/.gitignore": "x", "inner/a.o": "", "inner/x": "", "b.o": ""})
    assert h.search_files("[!.]*") == ["inner/a.o"]


# Python source


SOURCE = """
@decorated(
    1)
class Shape(Base, metaclass=Meta):
    "\\d"

    def area(self, unit: str = "m") -> float:
        def inner(): ...
        return 0

    if True:
        async def load(self, *args): ...

def area(): return lambda: 0
"""


def test_parse_lists_functions_and_classes_with_their_lines(folder):
    fill({"s.py": SOURCE})
    assert repr(h.parse("s.py")).splitlines() == [
        "s.py:2-12: class Shape(Base, metaclass=Meta)",
        "s.py:7-9: def area(self, unit: str='m') -> float  [in Shape]",
        "s.py:8-8: def inner()  [in Shape.area]",
        "s.py:12-12: async def load(self, *args)  [in Shape]",
        "s.py:14-14: def area()",
    ]
    shape = h.parse("s.py")[0]
    assert h.read(shape.path, shape.line, shape.end).startswith("@decorated(\n")
    assert (shape.kind, shape.name) == ("class", "Shape")


def test_definitions_are_found_by_name_in_a_tree_or_in_one_file(folder):
    fill({"s.py": SOURCE, "sub/t.py": "class Shape: ...", "broken.py": "def area(", "no.txt": "def area(): ..."})
    fill({"out/s.py": SOURCE, ".gitignore": "out"})
    assert [found.line for found in h.find_function("area")] == [7, 14]
    assert [found.name for found in h.find_function("Shape.area", "s.py")] == ["Shape.area"]
    assert [found.path for found in h.find_class("Shape")] == ["s.py", "sub/t.py"]
    assert h.find_function("Shape") == h.find_function("rea") == []


# Commands


@pytest.mark.parametrize(
    ("command", "options", "wanted"),
    [
        ("echo out; echo err >&2; exit 3", {}, (3, "out\n", "err\n")),
        ([sys.executable, "-c", "import sys; print(sys.argv[1:])", "a b", Path("*")], {}, (0, "['a b', '*']\n", "")),
        ("cat", {}, (0, "", "")),
        ("cat", {"input": "h\xe9"}, (0, "h\xe9", "")),
        ("cat", {"input": b"\xff" * 3}, (0, "\ufffd" * 3, "")),
        ("true", {"input": "x" * 1_000_000}, (0, "", "")),
        ("echo $MORE $PATH", {"env": {"MORE": "more"}}, (0, f"more {os.environ['PATH']}\n", "")),
        ("kill -TERM $$", {}, (-15, "", "")),
        ("echo a > /dev/stderr; echo b > /dev/stderr", {}, (0, "", "a\nb\n")),
    ],
)
def test_run_returns_the_exit_status_and_the_output(command, options, wanted):
    result = h.run(command, timeout=BOUND, **options)
    assert (result.code, result.stdout, result.stderr) == wanted
    assert not result.timed_out
    assert 0 < result.duration < BOUND
    assert result.ok == (result.code == 0)


def test_much_input_and_much_output_at_once_do_not_block():
    much = "0123456789" * 200_000
    result = h.run("tee /dev/stderr", timeout=BOUND, input=much)
    assert (result.stdout == much, result.stderr == much) == (True, True)


def test_a_result_is_shown_as_text():
    result = h.run("echo out; echo err >&2; exit 3")
    assert repr(result._replace(duration=0.5)) == "(exit status 3 after 0.50 s)\nout\n--- stderr\nerr"
    assert "(ended by signal SIGTERM after" in repr(h.run("kill -TERM $$"))


def test_check_raises_with_the_last_words_of_the_command_and_its_result():
    with pytest.raises(h.CommandError, match=r"exit 3: exit status 3 after .* s: last$") as raised:
        h.run("echo first >&2; echo last >&2; exit 3", check=True)
    assert raised.value.result.code == 3
    assert h.run("true", check=True).ok


def test_a_timeout_kills_the_command_and_what_it_started_and_keeps_the_output(alive, hour_passes_when_there_is):
    hour_passes_when_there_is("ready")
    result = h.run(f"{alive.hold}; trap '' TERM INT; sleep 1000 & echo out; : > ready; sleep 1000", timeout=BOUND)
    assert (result.code, result.stdout, result.timed_out) == (-9, "out\n", True)
    assert repr(result).startswith("(timed out, killed after ")
    assert alive.all_gone()


# For a shell: a program that no signal to the group reaches, and that ends when the named pipe `leave` does.
PROGRAM = "import os; os.setsid(); open('ready', 'x'); open('leave').read()"
IN_ITS_OWN_SESSION = f'"{sys.executable}" -c "{PROGRAM}" &'


@pytest.fixture
def leave(folder):
    """A named pipe to which this test holds the other end."""
    os.mkfifo("leave")
    fd = os.open("leave", os.O_RDWR)
    return lambda: os.close(fd)


def test_a_timeout_does_not_wait_for_whoever_else_holds_the_pipes(alive, leave, hour_passes_when_there_is):
    hour_passes_when_there_is("ready")
    result = h.run(f"{alive.hold}; echo out; {IN_ITS_OWN_SESSION} sleep 1000", timeout=BOUND)
    leave()
    assert (result.stdout, result.timed_out) == ("out\n", True)
    assert alive.all_gone()


def test_run_ends_with_its_command_though_a_background_program_goes_on(alive, leave):
    wait = "while [ ! -e ready ]; do :; done"
    result = h.run(f"{alive.hold}; {IN_ITS_OWN_SESSION} {wait}; echo out", timeout=BOUND)
    leave()
    assert (result.code, result.stdout, result.timed_out) == (0, "out\n", False)
    assert alive.all_gone()


def test_a_command_that_closes_its_output_is_still_waited_for(folder):
    assert h.run("exec >&- 2>&-; : > done; exit 4").code == 4
    assert h.exists("done")


@pytest.fixture
def ctrl_c():
    """The handler that a Python at a terminal has; one that was started in the background ignores Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_kills_the_command_however_early_it_comes_and_is_passed_on(alive, ctrl_c):
    command = f"{alive.hold}; sleep 1000 & kill -INT {os.getpid()}; sleep 1000"
    for _ in range(10):
        with pytest.raises(KeyboardInterrupt):
            h.run(command, timeout=BOUND)
        assert alive.all_gone()
    assert signal.getsignal(signal.SIGINT) is ctrl_c


def test_run_works_in_a_thread_too():
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(h.run, "echo out").result(BOUND).stdout == "out\n"


def test_run_leaves_no_descriptor_open():
    h.run("true")
    before = os.listdir("/dev/fd")
    for command, timeout in [("exec 0<&- 1>&- 2>&-; true", BOUND), ("exit 3", BOUND), ("sleep 1000", 0)]:
        h.run(command, timeout, input="x" * 100_000)
    with pytest.raises(FileNotFoundError):
        h.run(["no-such-command"])
    assert os.listdir("/dev/fd") == before


# git


def test_git_status_sorts_files_by_state(repo):
    fill({"gone": "", "staged": "", "both": "", "spaced \xe9 name": "", "moved": "some text"})
    h.git_add(".")
    h.git_commit("first")
    fill({"staged": "1", "both": "1", "new/file": ""})
    os.rename("moved", "renamed")
    h.git_add(["staged", "both", "moved", "renamed"])
    fill({"both": "2", "spaced \xe9 name": "1"})
    os.unlink("gone")
    status = h.git_status()
    assert status == (
        "main",
        ["both", "moved", "renamed", "staged"],
        ["both", "gone", "spaced \xe9 name"],
        ["new/file"],
        [],
    )
    assert repr(status).startswith("branch main\nstaged: both, moved,")
    assert h.git_status("new").untracked == ["file"]
    assert h.git_status("new").unstaged[0] == "../both"
    assert h.git_status("both")[1:] == (["both"], ["both"], [], [])


def test_git_status_of_a_clean_detached_tree_says_so(repo):
    fill({"a": ""})
    h.git_add("a")
    git("checkout", "--quiet", "--detach", h.git_commit("first").hash)
    assert (h.git_status().branch, h.git_status().clean) == (None, True)
    assert repr(h.git_status()) == "detached HEAD\nclean"


def test_git_status_names_conflicts(repo):
    for branch, content in [("main", "0"), ("other", "1"), ("main", "2")]:
        git("checkout", "--quiet", *["-B"] * (content != "2"), branch)
        fill({"a": content})
        h.git_add("a")
        h.git_commit(content)
    assert subprocess.run(["git", "merge", "other"], capture_output=True, timeout=BOUND).returncode == 1
    assert h.git_status().conflicted == ["a"]
    assert not h.git_status().clean


def test_git_diff_shows_what_is_unstaged_or_staged_of_a_tree_or_a_file(repo):
    git("config", "diff.external", "false")
    git("config", "color.ui", "always")
    fill({"a": "old\n", "b": "old\n"})
    h.git_add(["a", "b"])
    assert h.git_diff() == ""
    assert "+old" in h.git_diff(staged=True)
    fill({"a": "new a\n", "b": "new b\n"})
    assert "\n-old\n+new a\n" in h.git_diff()
    assert "new a" not in h.git_diff("b")


def test_git_log_lists_commits_newest_first(repo):
    for name in ["a", "b", "c"]:
        fill({name: ""})
        h.git_add(name)
        made = h.git_commit(f"add {name}\n\n# kept\nmore")
    assert h.git_log(1) == [made]
    assert (made.author, made.date, made.subject) == ("Ada", "2024-02-03T04:05:06+02:00", "add c")
    assert [commit.subject for commit in h.git_log()] == ["add c", "add b", "add a"]
    assert [commit.subject for commit in h.git_log(path="b")] == ["add b"]
    assert repr(made) == f"{made.hash[:10]} 2024-02-03T04:05:06+02:00 Ada: add c"
    assert "# kept" in git("log", "-1", "--format=%B").decode()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: h.git_commit("x"), r"git commit: .*nothing .*to commit"),
        (lambda: h.git_commit(""), r"git commit: "),
        (lambda: h.git_add("gone"), r"git add: .*'gone' did not match any files"),
        (lambda: h.git_add("a*"), r"git add: .*'a\*' did not match any files"),
        (lambda: h.git_log(), r"git log: .*does not have any commits yet"),
    ],
)
def test_a_refusal_of_git_is_passed_on_in_one_line(repo, monkeypatch, call, words):
    monkeypatch.setenv("LC_ALL", "C")
    fill({"ab": ""})
    with pytest.raises(h.CommandError, match=words) as raised:
        call()
    assert "\n" not in str(raised.value)


def test_a_folder_in_no_repository_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for call in (h.git_status, h.git_diff, lambda path: h.git_log(1, path)):
        with pytest.raises(h.CommandError, match=f"'{tmp_path}' is in no git repository: `git init` makes one"):
            call(tmp_path)


def test_a_missing_git_is_named(repo, monkeypatch):
    monkeypatch.setenv("PATH", str(repo))
    with pytest.raises(FileNotFoundError, match=r"there is no command git .*: neither a file nor on PATH"):
        h.git_status()


# The user's own modules


@pytest.fixture
def fresh(folder, monkeypatch):
    """A copy of the package of its own, to which modules can be added, and the current folder to import from."""
    monkeypatch.syspath_prepend(folder)
    before = set(sys.modules)
    spec = spec_from_file_location("fresh", PACKAGE / "__init__.py", submodule_search_locations=[str(PACKAGE)])
    assert spec
    assert spec.loader
    sys.modules["fresh"] = module_from_spec(spec)
    spec.loader.exec_module(sys.modules["fresh"])
    yield sys.modules["fresh"]
    for name in set(sys.modules) - before:
        del sys.modules[name]


TOOLS = """
import functools
from os.path import join
from dataclasses import dataclass

LIMIT = 3

@dataclass
class Thing:
    size: int

def greet(): "Say hello."; return "hello"
def _hidden(): pass
def git(): return Thing(1)

@functools.cache
def cached(): return 1
"""


def test_public_functions_of_a_file_become_helpers(fresh):
    fill({"in/tools.py": TOOLS})
    before = set(dir(fresh))
    assert fresh.add_modules(["in/tools.py"]) == []
    assert set(dir(fresh)) - before == {"greet", "git", "cached"}
    assert fresh.git_status.__module__ == "fresh._git"
    assert (fresh.greet(), fresh.git().size, fresh.cached()) == ("hello", 1, 1)
    assert "Say hello." in pydoc.render_doc(fresh)


def test_a_setting_names_several_modules_and_all_of_a_module_is_public_that_it_says(fresh):
    fill(
        {
            "one_tool.py": "def one(): return 1",
            "named.py": "__all__ = ['_two', 'N']\ndef _two(): ...\ndef no(): ...\nN = 2",
        }
    )
    assert fresh.add_modules(os.pathsep.join(["", "one_tool", f"{os.getcwd()}/named.py"])) == []
    assert {"one", "_two", "N"} <= set(dir(fresh))
    assert not hasattr(fresh, "no")


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("def ok(): pass\n1/0", "ZeroDivisionError: division by zero"),
        ("import sys; sys.exit('enough')", "SystemExit: enough"),
        ("def", "SyntaxError: "),
        ("__all__ = ['absent']", "AttributeError: module 'fresh.added_bad' has no attribute 'absent'"),
        (None, "FileNotFoundError: "),
    ],
)
def test_a_module_that_fails_is_one_sentence_and_costs_nothing_else(fresh, source, problem):
    fill({"good.py": "def good(): ..."} | ({"bad.py": source} if source else {}))
    before = set(dir(fresh))
    [sentence] = fresh.add_modules(["bad.py", "good.py"])
    assert sentence.startswith(f"the helper module 'bad.py' could not be loaded: {problem}")
    assert set(dir(fresh)) - before == {"good"}


def test_a_missing_module_name_is_one_sentence(fresh):
    assert fresh.add_modules(["no_such_module"]) == [
        "the helper module 'no_such_module' could not be loaded: ModuleNotFoundError: No module named 'no_such_module'"
    ]


def test_a_name_that_is_taken_stays_what_it_is(fresh):
    fill(
        {"a.py": "def read(): ...\ndef mine(): return 'a'", "b.py": "def mine(): ...\ndef sys(): ...\ndef other(): ..."}
    )
    assert fresh.add_modules(["a.py", "b.py"]) == [
        "'read' of the helper module 'a.py' was left out: the name is taken by the built-in helpers",
        "'mine' of the helper module 'b.py' was left out: the name is taken by 'a.py'",
        "'sys' of the helper module 'b.py' was left out: the name is taken by the built-in helpers",
    ]
    assert (fresh.mine(), fresh.read.__module__, fresh.other()) == ("a", "fresh._files", None)


def test_adding_a_file_again_reads_it_again(fresh):
    fill({"a.py": "def mine(): return 1"})
    fresh.add_modules("a.py")
    fill({"a.py": "def mine(): return 'changed'"})
    assert fresh.add_modules("a.py") == []
    assert (fresh.mine(), dir(fresh).count("mine")) == ("changed", 1)
