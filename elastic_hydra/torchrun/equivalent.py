"""A command line of torchrun as a command of this package, and as a YAML profile."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from elastic_hydra.torchrun.command_line import CommandLine, from_environment, read
from elastic_hydra.torchrun.shell import Word
from elastic_hydra.torchrun.translation import PROFILES, Value, translate

__all__ = ["Equivalent", "equivalent", "overrides_from_environment"]

_PLAIN_OVERRIDE = re.compile(r"[A-Za-z0-9_./-][A-Za-z0-9_.:@/-]*")
_PLAIN_YAML = re.compile(r"[A-Za-z_./][A-Za-z0-9_./-]*")
_WORDS_OF_YAML = ("null", "true", "false", "yes", "no", "on", "off", "y", "n")
_VARIABLE = re.compile(r"\$(?:\{(?P<long>[A-Za-z_]\w*)(?::?[-=](?P<default>[\w.:/-]*))?\}|(?P<short>[A-Za-z_]\w*))")
_OF_THE_SHELL_ALONE = ("RANDOM", "SECONDS", "LINENO", "HOSTNAME", "OSTYPE", "BASH_SOURCE", "UID")
"""Variables that a shell has and does not hand on."""


@dataclass
class Equivalent:
    """What does the same as a command line of torchrun."""

    command: str
    profile: str
    """YAML, for `--config-name`; its first line says under which name to save it."""
    remarks: list[str] = field(default_factory=list)
    """What is not the same, or cannot be known, and what to do about it: a line each."""


def equivalent(text: str) -> Equivalent:
    """Say the same as a command line of torchrun.

    Args:
        text: as a shell would run it, with whatever is before and behind it.

    Raises:
        TorchrunError: there is no torchrun in it, or torchrun would refuse it.
    """
    line = read(text)
    flags = {"nproc-per-node": Word("1")} | line.flags
    said = translate(flags)
    remarks = [*line.remarks, *said.remarks]
    remarks += [f"{name}: its flags are known to the shell only; give the line with them" for name in line.unknown]
    program = _program(line, remarks)
    settings = [_override(key, value) for key, value in said.settings.items()]
    words = " ".join([f"{line.before}elastic-hydra run", *settings, "--", program])
    return Equivalent(words + line.after, _profile(said.settings), remarks)


def overrides_from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the overrides that say what torchrun finds in `PET_…` variables, by key.

    Args:
        environ: of the process.
    """
    settings = translate(from_environment(environ)).settings
    return {key: "".join(shlex.split(_override(key, value))) for key, value in settings.items()}


# --- the program --------------------------------------------------------------------------------------------------


def _program(line: CommandLine, remarks: list[str]) -> str:
    """Return the words behind `--`, up to the script's own arguments, which stay as they are."""
    script = line.script
    if script is None:
        remarks.append("the script is among the arguments that only the shell knows: they must begin with it")
        return "-m" if line.has("module") else ""
    words = [script.raw]
    if line.has("module"):
        words.insert(0, "-m")
    elif not line.has("no-python") and not script.raw.strip("\"'").endswith(".py"):
        words.insert(0, "python")
    if line.passes_local_rank and not line.has("no-python"):
        words.append("'--local-rank=${local_rank}'")
        remarks.append(
            "--local-rank: torch.distributed.launch gives it to the script; one that reads LOCAL_RANK needs none"
        )
    return " ".join(words)


# --- the command --------------------------------------------------------------------------------------------------


def _override(key: str, value: Value) -> str:
    """Return a word of a shell's command line that gives a key its value."""
    if isinstance(value, Word):
        return f"{key}={value.raw}"
    text = f"{key}={_in_grammar(value)}"
    return text if _PLAIN_OVERRIDE.fullmatch(text.replace("=", "", 1).lstrip("+")) else shlex.quote(text)


def _in_grammar(value: Value) -> str:
    """Write a value in the grammar of Hydra's overrides."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{','.join(_in_grammar(part) for part in value)}]"
    if isinstance(value, str) and not _PLAIN_OVERRIDE.fullmatch(value):
        return '"' + value.replace('"', '\\"') + '"'
    return str(value)


# --- the profile --------------------------------------------------------------------------------------------------


def _profile(settings: Mapping[str, Value]) -> str:
    """Write settings as a configuration file, with what must be given on the command line in comments."""
    lines = ["defaults:", "  - elastic", "  - override logs: console"]
    tree: dict[str, list[str]] = {"": []}
    left: list[str] = []
    for key, value in settings.items():
        text = _in_yaml(value)
        group, _, name = key.lstrip("+").rpartition(".")
        if text is None or (key in PROFILES and isinstance(value, Word)):
            override = " ".join(_override(key, value).split())
            left.append(f"# {key}: comes from the shell; give it on the command line: {override}")
        elif key in PROFILES:
            lines.append(f"  - override {key}: {text}")
        else:
            tree.setdefault(group, []).append(f"{name}: {text}")
    lines += ["  - _self_", "", *tree.pop("")]
    for group, keys in tree.items():
        names = group.split(".")
        if names[0] not in [line.rstrip(":") for line in lines]:
            lines.append(f"{names[0]}:")
        indent = "  "
        if len(names) > 1:
            lines.append(f"  {names[1]}:")
            indent = "    "
        lines += [indent + key for key in keys]
    names = sorted(set(re.findall(r"oc\.env:(\w+)", "\n".join(lines))))
    head = ["# launch.yaml" + (f": its variables must be exported: {', '.join(names)}" if names else "")]
    return "\n".join([*head, *lines, *left]).rstrip() + "\n"


def _in_yaml(value: Value) -> str | None:
    """Write a value in YAML; None: a configuration file cannot say it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return f"[{', '.join(_in_yaml(part) or '' for part in value)}]"
    if isinstance(value, Word):
        return _interpolation(value)
    if isinstance(value, str) and (value.lower() in _WORDS_OF_YAML or not _PLAIN_YAML.fullmatch(value)):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def _interpolation(word: Word) -> str | None:
    """Write a word with variables of the environment as OmegaConf's interpolation; None: it has others, too."""
    text = word.without_quotes()
    found = list(_VARIABLE.finditer(text))
    names = [match["long"] or match["short"] for match in found]
    rest = _VARIABLE.sub("", text)
    if not found or any(char in rest for char in "$`'\"\\<") or any(name in _OF_THE_SHELL_ALONE for name in names):
        return None

    def replacement(match: re.Match[str]) -> str:
        default = "" if match["default"] is None else f",{match['default'] or 'null'}"
        return f"${{oc.env:{match['long'] or match['short']}{default}}}"

    text = _VARIABLE.sub(replacement, text)
    return json.dumps(f"${{oc.decode:'{text}'}}" if text.startswith("[") else text, ensure_ascii=False)
