"""Writes the parts of the reference that are made from the code: `python docs/generate.py`.

Each stands in its page between `<!-- NAME: written by docs/generate.py -->` and `<!-- NAME: end -->`, and is committed,
so that the pages read well where nothing is built. `tests/test_docs.py` fails when a page is not what the code says.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple, get_args

import click
import yaml

import elastic_hydra
from elastic_hydra import timeouts
from elastic_hydra.cli.main import VERBS, cli
from elastic_hydra.compat.shortcuts import SHORTCUTS
from elastic_hydra.config.schema import START_METHODS, ElasticConfig
from elastic_hydra.config.words import Kind
from elastic_hydra.journal import events
from elastic_hydra.journal.events import EVENTS, VERSION, Event, State
from elastic_hydra.torchrun.flags import FLAGS

DOCS = Path(__file__).parent
PROFILES = DOCS.parent / "conf" / "hydra" / "launcher"


def _one_of(words: Iterable[str]) -> str:
    names = [f"`{word}`" for word in words]
    return f"{', '.join(names[:-1])} or {names[-1]}"


_COUNT_OR_AUTO = "whole number or `auto`"
_STREAMS = "0, 1, 2 or 3; or `{local rank: 0 to 3}`"
_FAILURES = "list of kinds, groups, exception classes, exit codes, signals"

TYPES = {
    "nodes": '1 or more, or `"MIN:MAX"`',
    "nproc_per_node": "1 or more, `auto`, `gpu` or `cpu`",
    "start_method": _one_of(START_METHODS),
    "parallel": _COUNT_OR_AUTO,
    "resources.gpus_per_worker": _COUNT_OR_AUTO,
    "resources.cpus_per_worker": _COUNT_OR_AUTO,
    "resources.memory_per_job": "size or null",
    "on_failure": "`continue` or `stop`",
    "max_failures": "whole number, fraction below 1, or null",
    "detach": "`false`, `true`, `local` or `slurm`",
    "resume": "`true`, `false`, `failed`, `interrupted` or `all`",
    "requeue": "`never` or `auto`",
    "requeue_limit": "1 or more, or null",
    "return_values": "`rank0` or `all`",
    "signals_to_handle": "list of signals",
    "omp_num_threads": "1 or more, `auto` or null",
    "rendezvous.endpoint": "`HOST:PORT` or empty",
    "hosts.list": "list of texts, or the name of a file",
    "hosts.gpus_per_node": "0 or more, `TYPE:NUMBER`, or null",
    "hosts.additional_parameters": "mapping or null",
    "resources.duration": "time such as `90min`, seconds, or null",
    "numa.threads": "1 or more, `auto` or null",
    "retry.only_on": _FAILURES,
    "retry.never_on": _FAILURES,
    "watch.progress": "list of `heartbeat`, `output`, `cpu`",
    "watch.memory_limit": "size or null",
    "logs.redirects": _STREAMS,
    "logs.tee": _STREAMS,
    "logs.other_ranks_level": "`DEBUG`, `INFO`, `WARNING`, `ERROR`, `CRITICAL` or `OFF`",
}
"""What a value may be, where the annotation of its field does not say it; tests try these out."""

_PLAIN_TYPES = {
    "bool": "`true` or `false`",
    "int": "whole number",
    "float": "number",
    "str": "text",
    "List[int]": "list of whole numbers",
    "List[str]": "list of texts",
    "Dict[str, str]": "mapping of texts",
    "Dict[str, float]": "mapping of numbers",
    "Dict[str, Any]": "mapping",
}


class Field(NamedTuple):
    """A field of a dataclass, as its source says it."""

    name: str
    annotation: str
    doc: str


class Key(NamedTuple):
    """A key of `hydra.launcher`."""

    name: str
    type: str
    default: Any
    doc: str


def fields_of(cls: type) -> list[Field]:
    """Return the fields that a class itself has, with the texts below them."""
    source = Path(sys.modules[cls.__module__].__file__ or "").read_text()
    name = cls.__name__.split(",")[0]
    node = next(n for n in ast.parse(source).body if isinstance(n, ast.ClassDef) and n.name == name)
    return [
        Field(statement.target.id, ast.unparse(statement.annotation), _text_after(node.body, index))
        for index, statement in enumerate(node.body)
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    ]


def _text_after(body: list[ast.stmt], index: int) -> str:
    following = body[index + 1] if index + 1 < len(body) else None
    if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
        return " ".join(str(following.value.value).split())
    return ""


def keys_of(cls: type, prefix: str = "") -> Iterator[Key]:
    """Yield the keys of a class of the schema, nested ones after the plain ones."""
    defaults, groups = cls(), []
    for name, annotation, doc in fields_of(cls):
        default = getattr(defaults, name)
        if name.startswith("_"):
            continue
        if dataclasses.is_dataclass(default):
            groups.append((type(default), f"{prefix}{name}."))
        else:
            yield Key(prefix + name, type_of(prefix + name, annotation, default), default, doc)
    for group, path in groups:
        yield from keys_of(group, path)


def type_of(key: str, annotation: str, default: Any) -> str:
    """Say what the value of a key may be."""
    if key in TYPES:
        return TYPES[key]
    if isinstance(default, Enum):
        return _one_of(member.value for member in type(default))
    optional = re.fullmatch(r"Optional\[(.*)\]", annotation)
    plain = _PLAIN_TYPES.get(optional[1] if optional else annotation)
    if plain is None:
        raise ValueError(f"hydra.launcher.{key}: {annotation} does not say what it may be; add it to docs/generate.py")
    return f"{plain.replace(' or ', ', ')} or null" if optional else plain


# --- parts of pages ---------------------------------------------------------------------------------------------------


def configuration() -> str:
    """Return a table for the plain keys and one for each group."""
    groups: dict[str, list[Key]] = {"": []}
    for key in keys_of(ElasticConfig):
        if not key.doc:
            raise ValueError(f"hydra.launcher.{key.name} has no text below its field")
        groups.setdefault(key.name.rpartition(".")[0], []).append(key)
    parts = []
    for group, keys in groups.items():
        parts += [f"## hydra.launcher{'.' * bool(group)}{group}", ""]
        parts += ["| key of `hydra.launcher` | value | default | meaning |", "| --- | --- | --- | --- |"]
        parts += [f"| `{key.name}` | {_cell(key.type)} | {_shown(key.default)} | {_cell(key.doc)} |" for key in keys]
        parts.append("")
    return "\n".join(parts).rstrip()


def profiles() -> str:
    """Return a table for each group of profiles, made from the comments of the YAML files."""
    parts = []
    for folder in sorted(path for path in PROFILES.iterdir() if path.is_dir()):
        parts += [f"## {folder.name}", "", "| profile | what it is |", "| --- | --- |"]
        for path in sorted(folder.glob("*.yaml")):
            comment = " ".join(line.lstrip("# ") for line in path.read_text().splitlines() if line.startswith("#"))
            parts.append(f"| `hydra/launcher/{folder.name}={path.stem}` | {_cell(comment)} |")
        parts.append("")
    return "\n".join(parts).rstrip()


def kinds() -> str:
    """Return a table of the kinds of failure."""
    node = next(n for n in ast.parse(inspect.getsource(Kind)).body if isinstance(n, ast.ClassDef))
    parts = ["| kind | meaning |", "| --- | --- |"]
    for index, statement in enumerate(node.body):
        if isinstance(statement, ast.Assign):
            name = ast.unparse(statement.targets[0])
            parts.append(f"| `{Kind[name].value}` | {_cell(_text_after(node.body, index))} |")
    return "\n".join(parts)


def python() -> str:
    """Return the signature and docstring of each public name."""
    parts = []
    for name in elastic_hydra.__all__:
        if name == "main":
            continue  # the page itself says what it is; its signature is that of the installed Hydra
        thing = getattr(elastic_hydra, name)
        has_fields = dataclasses.is_dataclass(thing)
        text = inspect.getdoc(thing) or ""
        members = _members(thing)  # who makes an object of such a class is a function that stands here, too
        parts += [f"## {name}", "", *_signature(name, thing), *_docstring(_summary(text) if members else text)]
        if has_fields:
            parts += ["", "| field | type | meaning |", "| --- | --- | --- |"]
            parts += [f"| `{f.name}` | `{_cell(f.annotation)}` | {_cell(f.doc)} |" for f in fields_of(thing) if f.doc]
        if thing is elastic_hydra.LaunchConfig:
            parts += ["", "All other fields are those of `torch.distributed.launcher.api.LaunchConfig`."]
        parts += [*members, ""]
    return "\n".join(parts).rstrip()


def _members(thing: Any) -> list[str]:
    """Return a table of the public methods and properties of a class that has some and is no dataclass."""
    if not inspect.isclass(thing) or dataclasses.is_dataclass(thing):
        return []
    public = [(name, member) for name, member in vars(thing).items() if not name.startswith("_")]
    named = [(f"{name}()" if inspect.isfunction(member) else name, member) for name, member in public]
    rows = [f"| `{name}` | {_cell(_summary(inspect.getdoc(member) or ''))} |" for name, member in named]
    return ["", "| member | meaning |", "| --- | --- |", *rows] if rows else []


def _summary(text: str) -> str:
    """Return a docstring without its sections."""
    paragraphs = text.split("\n\n")
    return " ".join(itertools.takewhile(lambda part: not re.match(r"(Args|Returns|Raises):", part), paragraphs))


def _signature(name: str, thing: Any) -> list[str]:
    if dataclasses.is_dataclass(thing) or _members(thing):
        return []
    source = inspect.getsource(thing.__init__ if inspect.isclass(thing) else thing)
    node = ast.parse(textwrap.dedent(source)).body[0]
    assert isinstance(node, ast.FunctionDef)
    arguments = [ast.unparse(argument) for argument in node.args.args if argument.arg != "self"]
    first_default = len(arguments) - len(node.args.defaults)
    for index, default in enumerate(node.args.defaults):
        arguments[first_default + index] += f" = {ast.unparse(default)}"
    arguments += ["*"] if node.args.kwonlyargs else []
    for argument, only_default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True):
        value = "" if only_default is None else f" = {ast.unparse(only_default)}"
        arguments.append(ast.unparse(argument) + value)
    returns = "" if inspect.isclass(thing) or node.returns is None else f" -> {ast.unparse(node.returns)}"
    lines = [f"    {argument}," for argument in arguments]
    body = ["(", *lines, f"){returns}"] if lines else [f"(){returns}"]
    return ["```text", f"{name}{body[0]}", *body[1:], "```", ""]


def _docstring(text: str) -> list[str]:
    """Turn a docstring's sections into lists."""
    lines, section = [], ""
    for line in text.splitlines():
        if heading := re.fullmatch(r"(Args|Returns|Raises):", line):
            section = heading[1]
            lines += [f"**{section}**", ""]
        elif section and section != "Returns" and (item := re.fullmatch(r" {4}([\w, ]+): (.*)", line)):
            lines.append(f"* `{item[1].replace(', ', '`, `')}`: {item[2]}")
        elif section and line.startswith(" " * 4):
            lines.append(line[4:] if section == "Returns" else f"  {line.strip()}")
        else:
            lines.append(line)
    return lines


def journal_events() -> str:
    """Return the events of a journal, and the fields that their lines have."""
    parts = [f"The version of the format is {VERSION}. Every line has these fields; those of its event follow.", ""]
    parts += [*_TABLE_OF_FIELDS, "| `event` | text | What has happened: a title below. |", *_rows(Event)]
    for name, event in EVENTS.items():
        parts += ["", f"### {name}", "", inspect.getdoc(event) or "", "", *_TABLE_OF_FIELDS, *_rows(event)]
    return "\n".join(parts)


_TABLE_OF_FIELDS = ["| field | value | meaning |", "| --- | --- | --- |"]

_EVENT_TYPES = {
    **_PLAIN_TYPES,
    "Any": "anything",
    "State": _one_of(get_args(State)),
    "Sequence[int]": "list of whole numbers",
    "Sequence[str]": "list of texts",
    "Sequence[Mapping[str, Any]]": "list of mappings",
    "Mapping[str, str]": "mapping of texts",
}


def _rows(cls: type, prefix: str = "") -> Iterator[str]:
    """Yield a row for each field of an event; those of a dataclass in it after its own."""
    for field in fields_of(cls):
        kind = field.annotation.removesuffix(" | None")
        yield f"| `{prefix}{field.name}` | {_EVENT_TYPES.get(kind, 'mapping')} | {_cell(field.doc)} |"
        if kind not in _EVENT_TYPES:
            yield from _rows(getattr(events, kind), f"{field.name}.")


def shortcuts() -> str:
    """Return a table of the shortcuts through Hydra."""
    rows = [f"| `{name}` | {_cell(text)} |" for name, text in SHORTCUTS.items()]
    return "\n".join(["| name | what it does |", "| --- | --- |", *rows])


_TIME_OUTS = (
    "_timeout",
    "_wait",
    "time_limit",
    "progress_limit",
    "start_up_limit",
    "keep_alive_interval",
    "max_attempt",
)
"""How the names of keys end that are time-outs, or of which one is made."""


def time_outs() -> str:
    """Return the keys that are time-outs, the fixed ones, and what must hold between these."""
    keys = [key for key in keys_of(ElasticConfig) if key.name.endswith(_TIME_OUTS)]
    parts = ["| key of `hydra.launcher` | default | meaning |", "| --- | --- | --- |"]
    parts += [f"| `{key.name}` | {_shown(key.default)} | {_cell(key.doc)} |" for key in keys]
    parts += ["", "| fixed time-out | seconds | who waits for what |", "| --- | --- | --- |"]
    body = ast.parse(inspect.getsource(timeouts)).body
    for index, statement in enumerate(body):
        if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant):
            name = ast.unparse(statement.targets[0])
            parts.append(f"| `{name}` | {getattr(timeouts, name):g} | {_cell(_text_after(body, index))} |")
    parts += ["", "| these, one after the other | are less than | or else |", "| --- | --- | --- |"]
    for order in timeouts.ORDERS:
        parts.append(f"| {' + '.join(f'`{name}`' for name in order.shorter)} | `{order.longer}` | {order.otherwise} |")
    return "\n".join(parts)


def packages() -> str:
    """Return the packages in the order that CI holds, each with the first paragraph that it begins with."""
    layers = re.search(r"^layers = \[(.*?)\]", (DOCS.parent / "pyproject.toml").read_text(), re.DOTALL | re.MULTILINE)
    parts = ["| package | its subject |", "| --- | --- |"]
    for name in re.findall(r'"(.*?)"', layers[1] if layers else ""):
        path = DOCS.parent / name.replace(".", "/")
        source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        text = ast.get_docstring(ast.parse(source.read_text())) or ""
        parts.append(
            f"| `{name.removeprefix('elastic_hydra.')}` | {_cell(' '.join(text.split(chr(10) * 2)[0].split()))} |"
        )
    return "\n".join(parts)


def torchruns_flags() -> str:
    """Return what says the same as each flag of torchrun."""
    rows = [f"| `{'`, `'.join(flag.names)}` | {_cell(flag.target)} | {_cell(flag.note)} |" for flag in FLAGS]
    return "\n".join(["| torchrun | key, or profile | |", "| --- | --- | --- |", *rows])


def _shown(default: Any) -> str:
    if isinstance(default, Enum):
        default = default.value
    text = yaml.safe_dump(default, default_flow_style=True, width=1000).replace("\n...", "").strip()
    return f"`{text}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def verbs() -> str:
    """Return the help of each verb of the command line."""
    parts = []
    context = click.Context(cli)
    for name in VERBS:
        command = cli.get_command(context, name)
        assert command is not None
        arguments = [parameter for parameter in command.params if isinstance(parameter, click.Argument)]
        options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
        usage = " ".join(
            [name, *("[OPTION]…" for _ in options[:1]), *(str(argument.metavar) for argument in arguments)]
        )
        parts += [f"## {name}", "", "```text", f"elastic-hydra {usage}", "```", "", _paragraphs(command.help or ""), ""]
        if options:
            parts += ["| option | meaning |", "| --- | --- |"]
            parts += [f"| `{_spelled(option)}` | {_cell(option.help or '')} |" for option in options] + [""]
    return "\n".join(parts).rstrip()


def _paragraphs(text: str) -> str:
    """Return the help of a verb, in which a block that begins with `\\b` keeps its lines."""
    parts = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        kept = paragraph.startswith("\b\n")
        parts.append(f"```text\n{textwrap.dedent(paragraph[2:])}\n```" if kept else paragraph)
    return "\n\n".join(parts)


def _spelled(option: click.Option) -> str:
    """Return the names of an option, with what follows them."""
    value = "" if option.is_flag else f" {option.metavar or option.type.name.upper()}"
    return ", ".join(option.opts) + value


# --- pages ------------------------------------------------------------------------------------------------------------

PAGES: dict[str, tuple[str, Callable[[], str]]] = {
    "configuration": ("reference/configuration.md", configuration),
    "profiles": ("reference/profiles.md", profiles),
    "kinds": ("guides/retries.md", kinds),
    "python": ("reference/python.md", python),
    "time-outs": ("explanation/architecture.md", time_outs),
    "packages": ("explanation/architecture.md", packages),
    "journal": ("reference/journal.md", journal_events),
    "flags": ("guides/from-torchrun.md", torchruns_flags),
    "verbs": ("reference/command-line.md", verbs),
    "shortcuts": ("guides/troubleshooting.md", shortcuts),
}


def page_with(name: str) -> tuple[Path, str]:
    """Return a page, and its text with the part that is made from the code."""
    file_name, make = PAGES[name]
    path = DOCS / file_name
    begin, end = f"<!-- {name}: written by docs/generate.py -->", f"<!-- {name}: end -->"
    before, rest = path.read_text().split(begin)
    return path, f"{before}{begin}\n\n{make()}\n\n{end}{rest.split(end)[1]}"


def main() -> None:
    """Write all pages anew."""
    for name in PAGES:
        path, text = page_with(name)
        path.write_text(text)


if __name__ == "__main__":
    main()
