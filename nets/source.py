"""One file of plain PyTorch out of the modules that a network is made of."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType


def modules_of(*names: str) -> list[ModuleType]:
    """Return the modules of this package that these need, and these, each after those that it imports.

    Raises:
        ImportError: one of them imports of this project what is not in this package.
    """
    ordered: dict[str, ModuleType] = {}

    def add(name: str) -> None:
        if name in ordered:
            return
        if not name.startswith(f"{__package__}."):
            raise ImportError(f"{name} is outside of {__package__}, so that no exported network can have it")
        module = import_module(name)
        for node in ast.parse(inspect.getsource(module)).body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("odenas"):
                add(node.module or "")
        ordered[name] = module

    for name in names:
        add(name)
    return list(ordered.values())


def standalone_source(modules: Sequence[ModuleType], docstring: str) -> str:
    """Return the source of the modules as one: their imports merged, those among themselves left out.

    A module may import of this package only what a module before it defines.
    """
    plain: set[str] = set()
    members: dict[str, set[str]] = {}
    bodies: list[str] = []
    for module in modules:
        source = inspect.getsource(module)
        lines = source.splitlines()
        for node in ast.parse(source).body:
            docstring_node = isinstance(node, ast.Expr) and node.lineno == 1
            if docstring_node or isinstance(node, ast.Import | ast.ImportFrom):
                lines[node.lineno - 1 : node.end_lineno] = [""] * ((node.end_lineno or node.lineno) - node.lineno + 1)
            if isinstance(node, ast.Import):
                plain.update(name.name for name in node.names)
            elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("odenas"):
                members.setdefault(node.module or "", set()).update(name.name for name in node.names)
        bodies.append("\n".join(lines).strip())
    future = _import_lines(set(), {"__future__": members.pop("__future__")})
    others = {name for name in plain | set(members) if name.split(".")[0] in ("torch", "safetensors")}
    groups = [
        _import_lines(plain - others, {name: what for name, what in members.items() if name not in others}),
        _import_lines(plain & others, {name: what for name, what in members.items() if name in others}),
    ]
    head = "\n\n".join([f'"""{docstring}"""', future, *groups])
    # What the project's type checker needs to be told is no concern of the file's reader.
    body = re.sub(r"  # type: ignore\[.*\]", "", "\n\n\n".join(bodies))
    return f"{head}\n\n{body}\n"


def _import_lines(plain: set[str], members: dict[str, set[str]]) -> str:
    lines = [f"import {name}" for name in sorted(plain)]
    return "\n".join(
        lines + [f"from {name} import {', '.join(sorted(what))}" for name, what in sorted(members.items())]
    )
