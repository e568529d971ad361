"""Private names of other packages, and their versions, are used in `elastic_hydra.compat` only."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.compat.names import is_own_class, is_private

ROOT = Path(__file__).parents[2]
FILES = sorted(path for top in ("elastic_hydra", "hydra_plugins", "conf") for path in (ROOT / top).rglob("*.py"))
OUTSIDE = [path for path in FILES if ROOT / "elastic_hydra" / "compat" not in path.parents]


def names_made_in(tree: ast.AST) -> set[str]:
    """Return the attributes that a module gives to its own classes: their instances may have other names, too."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_own_class(node.value):
            found.add(node.attr)
    return found


def is_text(node: ast.AST, own: set[str]) -> bool:
    """Whether a node is the text of a private name."""
    return isinstance(node, ast.Constant) and is_private(str(node.value)) and node.value not in own


def is_use(node: ast.AST, own: set[str]) -> bool:
    """Whether a node is what only compat may have.

    Args:
        node: of a module's source.
        own: names that the module has made.
    """
    match node:
        case ast.Attribute(value=value, attr=name):
            private = is_private(name) and name not in own and not is_own_class(value)
            return private or name in ("__version__", "version_info")
        case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
            path = [getattr(node, "module", None) or "", *(alias.name for alias in aliases)]
            return any(map(is_private, ".".join(path).split(".")))
        case ast.Call(func=ast.Name(id="getattr" | "hasattr" | "setattr" | "delattr"), args=[_, name, *_]):
            return is_text(name, own)
        case ast.Subscript(value=ast.Attribute(attr="__dict__"), slice=key):
            return is_text(key, own)
    return False


def uses(source: str) -> list[str]:
    """Return what a module says that only compat may say, each with its line."""
    tree = ast.parse(source)
    own = names_made_in(tree)
    nodes = [node for node in ast.walk(tree) if is_use(node, own)]
    return [f"{getattr(node, 'lineno', 0)}: {ast.unparse(node)}" for node in nodes]


@pytest.mark.parametrize("path", OUTSIDE, ids=lambda path: str(path.relative_to(ROOT)))
def test_private_names_and_versions_of_others_are_used_in_compat_only(path: Path) -> None:
    found = uses(path.read_text())
    assert not found, "give it a name in elastic_hydra/compat, and use that one"


@pytest.mark.parametrize(
    "line",
    [
        "torch.__version__",
        "if sys.version_info < (3, 11): pass",
        "node._get_node('a')",
        "from hydra._internal.utils import run_and_report",
        "import torch._dynamo",
        "from torch.distributed.elastic.rendezvous.dynamic_rendezvous import _RendezvousExitOp",
        "getattr(handlers, '_log_handlers', {})",
        "config.__dict__['_content']",
        "class Agent(Base):\n    def f(self, other): return other._worker_group",
    ],
)
def test_each_way_of_using_one_is_found(line: str) -> None:
    assert uses(line)


@pytest.mark.parametrize(
    "line",
    [
        "os._exit(1)",
        "class Agent(Base):\n    def f(self): return self._worker_group, super()._shutdown()",
        "class Mine:\n    def __init__(self): self._n = 0\n    def add(self, other): return self._n + other._n",
        "function.__name__, module.__dict__",
        "from elastic_hydra.compat.versions import version_of",
    ],
)
def test_what_is_public_or_our_own_may_be_used(line: str) -> None:
    assert not uses(line)
