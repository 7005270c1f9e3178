"""Child side: the functions and classes of Python files, read without running them."""

from __future__ import annotations

import ast
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import suppress
from copy import copy
from typing import NamedTuple

from ._files import load
from ._found import Found
from ._paths import StrPath, expand
from ._search import code_files

_Node = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


class Definition(NamedTuple):
    """A function or class: h.read(d.path, d.line, d.end) is its source, decorators included.

    kind: "function" or "class". name: with what it is in, such as "Shape.area". signature: such as "def area(self)".
    """

    path: str
    kind: str
    name: str
    signature: str
    line: int
    end: int

    def __repr__(self) -> str:
        outer = self.name.rpartition(".")[0]
        return f"{self.path}:{self.line}-{self.end}: {self.signature}" + (f"  [in {outer}]" if outer else "")


def parse(path: StrPath) -> Found[Definition]:
    """Return every function and class of a Python file, nested ones too, in the order of their lines.

    Raises FileNotFoundError, IsADirectoryError, and SyntaxError or ValueError if the file is not Python.
    """
    return Found(_definitions(expand(path), load(path)))


def find_function(name: str, path: StrPath = ".") -> Found[Definition]:
    """Return the functions and methods of this name in one Python file, or in all below a folder.

    name: as "area", or with what it is in, as "Shape.area". In a folder, what .gitignore excludes and files that are
    not valid Python are left out; a single file raises what `parse` raises.
    """
    return Found(_find("function", name, path))


def find_class(name: str, path: StrPath = ".") -> Found[Definition]:
    """Return the classes of this name in one Python file, or in all below a folder, as `find_function` does."""
    return Found(_find("class", name, path))


def _find(kind: str, name: str, path: StrPath) -> Iterator[Definition]:
    keyword = "class" if kind == "class" else "def"
    line = rf"\b{keyword}\s+{re.escape(name.rpartition('.')[2])}"
    definitions = parse(path) if os.path.isfile(expand(path)) else _in_tree(path, re.compile(line.encode()))
    return (found for found in definitions if found.kind == kind and f".{found.name}".endswith(f".{name}"))


def _in_tree(path: StrPath, line: re.Pattern[bytes]) -> Iterator[Definition]:
    """The definitions in those files that have such a line: most need not be parsed, which is slow."""
    for file in code_files(path, "*.py"):
        with suppress(OSError, SyntaxError, ValueError, RecursionError):
            source = load(file)
            if line.search(source):
                yield from _definitions(file, source)


def _definitions(path: str, source: bytes) -> list[Definition]:
    with warnings.catch_warnings(module=warnings):  # not by its name, under which the user may have another
        warnings.simplefilter("ignore")  # a file's invalid escapes are not what was asked for
        module = ast.parse(source, path)
    return list(_below(module, path, ""))


def _below(node: ast.AST, path: str, prefix: str) -> Iterator[Definition]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Node):
            kind = "class" if isinstance(child, ast.ClassDef) else "function"
            name = prefix + child.name
            line = min(node.lineno for node in (child, *child.decorator_list))
            yield Definition(path, kind, name, _signature(child), line, child.end_lineno or child.lineno)
            yield from _below(child, path, f"{name}.")
        else:
            yield from _below(child, path, prefix)


def _signature(node: _Node) -> str:
    bare = copy(node)
    bare.body, bare.decorator_list = [], []
    return ast.unparse(bare).strip().removesuffix(":")
