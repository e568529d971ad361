"""README.md says what is there: its tables are made from the code, and its commands and YAML compose.

`python tests/test_readme.py` writes the tables anew.
"""

import argparse
import ast
import dataclasses
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf, open_dict
from torch.distributed.run import get_args_parser

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.resolve import Machine, resolve
from elastic_hydra.config.schema import ElasticConfig

# Hydra 1.4's fixture saves and restores a ConfigStore that must have the plugins' entries by then.
Plugins.instance()

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
EXAMPLE = ROOT / "examples" / "digits"
PROFILES = ROOT / "conf" / "hydra" / "launcher"


# --- tables ----------------------------------------------------------------------------------------------------------


def fields(cls: type) -> list[tuple[str, str, str]]:
    """Return name, annotation and docstring of every field of a class."""
    source = Path(sys.modules[cls.__module__].__file__ or "").read_text()
    name = cls.__name__.split(",")[0]
    node = next(n for n in ast.parse(source).body if isinstance(n, ast.ClassDef) and n.name == name)
    return [
        (field.target.id, ast.unparse(field.annotation), text_after(node.body, index))
        for index, field in enumerate(node.body)
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
    ]


def text_after(body: list[ast.stmt], index: int) -> str:
    following = body[index + 1] if index + 1 < len(body) else None
    if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
        return " ".join(str(following.value.value).split())
    return ""


def keys(cls: type, prefix: str = "") -> Iterator[tuple[str, str, Any, str]]:
    """Yield key, type, default and meaning, nested ones after the plain ones."""
    defaults, nested = cls(), []
    for key, annotation, meaning in fields(cls):
        default = getattr(defaults, key)
        if key.startswith("_"):
            continue
        if dataclasses.is_dataclass(default):
            nested.append((type(default), f"{prefix}{key}."))
        else:
            yield prefix + key, type_name(annotation, default), default, meaning
    for child, path in nested:
        yield from keys(child, path)


def type_name(annotation: str, default: Any) -> str:
    if isinstance(default, Enum):
        return "str"
    optional = re.fullmatch(r"Optional\[(.*)\]", annotation)
    name = optional[1] if optional else annotation
    union = re.fullmatch(r"Union\[(.*)\]", name)
    name = (union[1].replace(",", " or") if union else name).replace("Dict[str, ", "dict[str, ").replace("List", "list")
    name = {"Any": "see there", "dict[str, Any]": "dict"}.get(name, name)
    return f"{name} or null" if optional else name


def shown(default: Any) -> str:
    if isinstance(default, Enum):
        default = default.value
    text = yaml.safe_dump(default, default_flow_style=True, width=1000).replace("\n...", "").strip()
    return f"`{text}`"


def reference() -> str:
    lines = ["| key of `hydra.launcher` | type | default | meaning |", "| --- | --- | --- | --- |"]
    for key, kind, default, meaning in keys(ElasticConfig):
        assert meaning, f"{key} has no docstring"
        lines.append(f"| `{key}` | {kind} | {shown(default)} | {meaning.replace('|', chr(92) + '|')} |")
    return "\n".join(lines)


def profiles() -> str:
    lines = ["| profile | what it is |", "| --- | --- |"]
    for path in sorted(PROFILES.glob("*/*.yaml")):
        comment = " ".join(line.lstrip("# ") for line in path.read_text().splitlines() if line.startswith("#"))
        lines.append(f"| `hydra/launcher/{path.parent.name}={path.stem}` | {comment} |")
    return "\n".join(lines)


TABLES = {"reference": reference, "profiles": profiles}


def with_tables(text: str) -> str:
    for name, table in TABLES.items():
        begin, end = f"<!-- {name}: written by tests/test_readme.py -->", f"<!-- {name}: end -->"
        assert begin in text
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{table()}\n{end}{rest.split(end)[1]}"
    return text


def test_tables_are_those_of_the_code() -> None:
    assert README.read_text() == with_tables(README.read_text()), "run: python tests/test_readme.py"


# --- torchrun's flags -------------------------------------------------------------------------------------------------


def test_every_flag_of_torchrun_is_there() -> None:
    actions = [a for a in get_args_parser()._actions if not isinstance(a, argparse._HelpAction)]
    flags = {next(s for s in a.option_strings if s.startswith("--")) for a in actions if a.option_strings}
    text = README.read_text()
    assert not [flag for flag in sorted(flags) if f"`{flag}" not in text]


# --- keys, commands and YAML ------------------------------------------------------------------------------------------


def all_keys() -> set[str]:
    found = set()
    for key, *_ in keys(ElasticConfig):
        parts = key.split(".")
        found |= {".".join(parts[: n + 1]) for n in range(len(parts))}
    return found


def test_keys_that_the_text_names_exist() -> None:
    named = set(re.findall(r"(?<!elastic_)hydra\.launcher\.([a-z_]+(?:\.[a-z_]+)*)", README.read_text()))
    named = {name for name in named if not name.startswith("rendezvous.configs.")}
    assert named - all_keys() == set()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(), flags=re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    """Return the arguments of every command of the README that runs the example."""
    found = []
    for block in blocks("bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if any(word.endswith("train.py") for word in words):
                script = next(index for index, word in enumerate(words) if word.endswith("train.py"))
                found.append(words[script + 1 :])
    return found


@pytest.mark.usefixtures("hydra_restore_singletons")  # composing sets the version base of the whole process
@pytest.mark.parametrize("arguments", commands(), ids=" ".join)
def test_commands_compose_and_resolve(arguments: list[str]) -> None:
    overrides = []
    for override in OverridesParser.create().parse_overrides([a for a in arguments if a not in ("-m", "--multirun")]):
        if override.key_or_group in ("hydra/sweeper",) or override.key_or_group.startswith("hydra.sweeper."):
            continue  # needs a package that is not installed
        if override.is_sweep_override():
            values = [] if override.is_discrete_sweep() is False else list(override.sweep_string_iterator())
            overrides += [f"{override.get_key_element()}={value}" for value in values[:1]]
        else:
            overrides.append(str(override.input_line))
    with initialize_config_dir(str(EXAMPLE / "conf"), version_base="1.3"):
        config = compose("config", overrides, return_hydra_config=True)
    if "_target_" in config.hydra.launcher and "elastic" in config.hydra.launcher._target_:
        with open_dict(config):
            config.hydra.runtime.output_dir = "."
        settings: Any = OmegaConf.to_container(config.hydra.launcher, resolve=True)
        refused = [text for text in blocks("text") if text.startswith("hydra.launcher.")]
        expected = pytest.raises(ConfigError) if "hydra.launcher.nodes=4:2" in arguments else nullcontext()
        with expected as error:
            resolve(settings, Machine(cpus=4, gpus=8, torch=(99, 0), has_etcd=True), {})
        assert error is None or [f"{error.value}\n"] == refused


@pytest.mark.parametrize("text", blocks("yaml"), ids=lambda text: text.splitlines()[0])
def test_yaml_is_yaml(text: str) -> None:
    assert yaml.safe_load(text)


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text()))
