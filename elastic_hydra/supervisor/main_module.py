"""The launcher's `__main__` in another interpreter: the script, or the module of `python -m`, executed there again.

What must never happen: that the script launches again there. So the code under a guard is not executed, Hydra's
entry point is replaced, and a call that would launch ends the execution (`stop_if_executed_again`).
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
import os
import sys
import threading
import types
from collections.abc import Iterator
from dataclasses import dataclass, field

from elastic_hydra.compat import loaded
from elastic_hydra.supervisor import context

__all__ = ["Interpreter", "MainModule", "become_main", "stop_if_executed_again"]

__tracebackhide__ = True

_EXECUTED_AGAIN = "__mp_main__"
"""What guards compare in place of `__main__`; processes of `multiprocessing` have the same name there."""

_executing = False

_parsing = threading.Lock()
"""Held while a file is parsed: some Pythons raise SystemError where two threads do that at once."""


class _LaunchReachedError(BaseException):
    """A module that is executed again has come to its launch: all that workers need of it is there."""


def stop_if_executed_again() -> None:
    """End the execution of a `__main__` that has no guard around its launch; called where something is launched."""
    if _executing:
        raise _LaunchReachedError


def become_main(path: str, name: str | None = None) -> types.ModuleType:
    """Put a new module in the place of `__main__`, also under the name that `multiprocessing` has for it.

    Args:
        path: the file that will be executed in it.
        name: under which it can be imported, if it is to be one that `python -m` runs.
    """
    main = types.ModuleType("__main__")
    main.__dict__.update(__file__=path, __builtins__=__builtins__)
    if name is not None and (spec := importlib.util.find_spec(name)) is not None:
        main.__spec__, main.__loader__, main.__package__ = spec, spec.loader, spec.parent
    sys.modules["__main__"] = sys.modules["__mp_main__"] = main
    return main


@dataclass(frozen=True)
class MainModule:
    """A `__main__` that another interpreter can make for itself."""

    path: str
    """The file that was executed."""
    name: str | None
    """Of the module in `python -m name`; None for a script."""
    uses_hydra: bool
    """Whether Hydra was there when it launched."""

    @classmethod
    def of_this_process(cls) -> MainModule | None:
        """Describe this process's `__main__`; None where no file has all of it, as in notebooks."""
        main = sys.modules["__main__"]
        path, spec = getattr(main, "__file__", None), getattr(main, "__spec__", None)
        if path is None or not path.endswith((".py", ".pyw")) or not os.path.isfile(path) or hasattr(sys, "ps1"):
            return None
        return cls(os.path.abspath(path), None if spec is None else spec.name, "hydra.main" in sys.modules)

    def defined(self) -> frozenset[str]:
        """Return the names that the module gets when it is executed again; what is under a guard sets none."""
        names = _Names()
        names.visit(self._parsed())
        return frozenset(names.outside - names.guarded)

    def execute(self) -> None:
        """Be the `__main__` of this process from now on.

        What is behind a guard is not executed, nor what follows a call that launches. Guards apart, the module has its
        own name, so that its classes, loggers and files with pickles have it as well.

        Raises:
            Exception: whatever the module itself raises.
        """
        tree = self._parsed()
        _Guards().visit(tree)
        code = compile(tree, self.path, "exec", dont_inherit=True)
        main = become_main(self.path, self.name)
        with _launches_stopped(self.uses_hydra), contextlib.suppress(_LaunchReachedError, SystemExit):
            exec(code, main.__dict__)

    def _parsed(self) -> ast.Module:
        with open(self.path, "rb") as file:
            source = file.read()
        with _parsing:
            return ast.parse(source, self.path)


@dataclass(frozen=True)
class Interpreter:
    """What another interpreter takes over from this one before it imports anything of the user's."""

    path: list[str]
    argv: list[str]
    directory: str
    """Where the launcher was started: a script may read files beside it."""
    main: MainModule | None
    names: frozenset[str] = field(default_factory=frozenset)
    """What it finds in its `__main__`."""

    @classmethod
    def like_this(cls, directory: str) -> Interpreter:
        """Describe this process.

        Args:
            directory: the launcher's.
        """
        main = MainModule.of_this_process()
        path = [entry or directory for entry in sys.path]
        return cls(path, list(sys.argv), directory, main, frozenset() if main is None else main.defined())

    def adopt(self) -> None:
        """Take it over, all but `__main__`."""
        sys.path[:] = self.path
        sys.argv[:] = self.argv

    def execute_main(self) -> None:
        """Have the launcher's `__main__` here as well, if it can be had.

        Raises:
            Exception: whatever the module itself raises.
        """
        context.change(main_to_execute=None)
        if self.main is None:
            return
        here = os.getcwd()
        os.chdir(self.directory)
        try:
            self.main.execute()
        finally:
            os.chdir(here)
        context.change(same_main=True)


@contextlib.contextmanager
def _launches_stopped(hydra: bool) -> Iterator[None]:
    global _executing

    def stop(*_: object, **__: object) -> None:
        raise _LaunchReachedError

    with contextlib.ExitStack() as stack:
        if hydra:
            stack.enter_context(loaded.hydra_runs(stop))
        _executing = True
        try:
            yield
        finally:
            _executing = False


_CALLED_LATER = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


def _is_name(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "__name__"


def _is_guard(node: ast.AST) -> bool:
    return any(
        isinstance(part, ast.Compare) and any(map(_is_name, (part.left, *part.comparators))) for part in ast.walk(node)
    )


class _Guards(ast.NodeTransformer):
    """Lets comparisons of `__name__` find another name, but for those in functions, which are called later."""

    def visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, _CALLED_LATER):
            return node
        if isinstance(node, ast.Compare):
            parts = [
                ast.copy_location(ast.Constant(_EXECUTED_AGAIN), part) if _is_name(part) else part
                for part in (node.left, *node.comparators)
            ]
            node.left, node.comparators = parts[0], parts[1:]
        self.generic_visit(node)
        return node


class _Names(ast.NodeVisitor):
    """Collects what a module's own statements bind, outside of guards and in them."""

    def __init__(self) -> None:
        self.outside: set[str] = set()
        self.guarded: set[str] = set()
        self._names = self.outside

    def visit(self, node: ast.AST) -> None:
        if isinstance(node, ast.If) and _is_guard(node.test):
            self._visit_guarded(node)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            self._names.add(node.name)  # what is in its body is not the module's
        elif isinstance(node, ast.alias):
            self._names.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            self._names.add(node.id)
        elif not isinstance(node, (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)):
            self.generic_visit(node)

    def _visit_guarded(self, node: ast.If) -> None:
        before, self._names = self._names, self.guarded
        for statement in node.body:
            self.visit(statement)
        self._names = before
        for statement in node.orelse:
            self.visit(statement)
