"""A command line of torchrun, found in the shell's text around it, and taken apart: flags, script, and the rest."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from elastic_hydra.torchrun.flags import FLAGS, TorchrunError, flag_of
from elastic_hydra.torchrun.shell import Operator, Word, commands, split

__all__ = ["CommandLine", "from_environment", "join", "read"]

_MODULES = ("torch.distributed.run", "torch.distributed.launch")
_OTHERS = {
    "accelerate": "accelerate launch has flags of its own: --num_processes is nproc_per_node, --num_machines is nodes",
    "deepspeed": "deepspeed has flags of its own: --num_gpus is nproc_per_node, --num_nodes is nodes",
    "horovodrun": "horovodrun starts programs that use Horovod, and no torch.distributed",
}
_MAY_BE_EMPTY = (
    "rdzv-conf",
    "rdzv-endpoint",
    "rdzv-id",
    "role",
    "local-addr",
    "local-ranks-filter",
    "signals-to-handle",
)
"""Flags whose empty value torchrun takes, mostly for none."""
_HOLDS_FLAGS = re.compile(
    r"\$\{?(?:\w*_)?(?:[a-z]*args?|flags?|opt(?:ion)?s?|params?|launch\w*|distributed|torchrun\w*)(?:_|\W|$)",
    re.IGNORECASE,
)
"""A variable whose name says that it holds flags."""
_ASKED_FOR = re.compile(r"[\"']?\$\((which|command -v) torchrun\)[\"']?")
"""torchrun, where the shell looks for it."""
_NAMING_A_PROGRAM = ("command", "which", "type", "hash", "echo", "printf")
"""Commands that name a program, and do not run it."""
_KEYWORDS = ("if", "then", "elif", "else", "while", "until", "do", "{")
"""Words of the shell's grammar that stand before a command, and are no part of it."""
_LIST = re.compile(r"\[\s*\"torchrun\".*?\]", re.DOTALL)
"""The words of a command as YAML, JSON and Dockerfiles have them."""
_IN_QUOTES = re.compile(r"(^|[\s;&=\"'])torchrun[\s\\]|torch\.distributed\.(run|launch)[\s\\]")
"""A command line that is one word of another one."""


@dataclass
class CommandLine:
    """What torchrun is told."""

    before: str
    """The text in front of torchrun: variables, `srun`, `nohup`."""
    script: Word | None
    """None: `-m` or the script itself is in words that only the shell knows."""
    after: str
    """The text behind the script, as it stands there: its arguments, redirections, pipes."""
    flags: dict[str, Word] = field(default_factory=dict)
    """By name; those without a value have an empty word."""
    passes_local_rank: bool = False
    """Whether the script gets `--local-rank`, as from `torch.distributed.launch`."""
    unknown: list[str] = field(default_factory=list)
    """Variables in the place of flags, of which nothing is known."""
    remarks: list[str] = field(default_factory=list)
    """What a reader must know about how the text was read."""

    def has(self, name: str) -> bool:
        """Whether a flag was given; `PET_…=0` gives none."""
        return name in self.flags


def read(text: str) -> CommandLine:
    """Find torchrun in a text, and take its command line apart.

    Args:
        text: what a shell would run: one command line, or a script with one in it.

    Raises:
        TorchrunError: there is no torchrun in it, or torchrun would refuse it.
    """
    parts = split(text := _of_a_list(text) or text)
    found = [(words, at) for words in commands(parts) if (at := _launcher(words)) is not None]
    if not found:
        for document in (each for part in parts if isinstance(part, Operator) for each in part.documents):
            if "torchrun" in document or "torch.distributed" in document:
                return read(document)  # what the text writes into a script
        raise TorchrunError(_why_none(text, commands(parts)))
    words, (first, last) = found[0][0], found[0][1]
    if (open_word := next((word for word in words if word.is_open), None)) is not None:
        raise TorchrunError(f"{_shortened(open_word.raw)}: a quote or a bracket is not closed: close it")
    begin = next(word for word in words if word.raw not in _KEYWORDS)
    line = CommandLine(before=text[begin.start : words[first].start], script=None, after="")
    if len(found) > 1:
        line.remarks.append(f"{len(found) - 1} more of torchrun's command lines follow: give them one at a time")
    line.passes_local_rank = words[last].raw.endswith(".launch")
    assigned = _assigned(parts)
    rest = _read_flags(line, words[last + 1 :], assigned)
    if line.has("nnodes") and assigned.get(_name(line.flags["nnodes"]), "").isdigit():
        line.flags["nnodes"] = Word(assigned[_name(line.flags["nnodes"])])  # one node needs no rendezvous
    if line.has("use-env"):
        line.passes_local_rank = False
    end = _end_of_line(parts, words[last].start, len(text))
    if not rest:
        raise TorchrunError("torchrun has no script to run: put it, or -m and a module, behind the flags")
    if rest[0].is_one_variable and _is_of_all_arguments(rest[0]):
        line.after = text[rest[0].start : end].rstrip(" \t\r\n\\")
    else:
        line.script = rest[0]
        of_a_variable = [word.raw for word in rest[1:] if word.start == word.end]
        line.after = " ".join(["", *of_a_variable]) + text[rest[0].end : end].rstrip(" \t\r\n\\")
    return line


def from_environment(environ: Mapping[str, str]) -> dict[str, Word]:
    """Return the flags that torchrun finds in `PET_…` variables, by name.

    Args:
        environ: of the process.
    """
    found = {}
    for flag in FLAGS:
        value = environ.get(flag.variable, "") if flag.is_variable else ""
        if flag.has_value and value:
            found[flag.name] = Word.quoted(value)
        elif not flag.has_value and value not in ("", "0"):
            found[flag.name] = Word("")
    return found


def _of_a_list(text: str) -> str:
    """Return the command line that a list of words stands for; empty: there is no such list."""
    with contextlib.suppress(ValueError):  # it only looks like one
        if (found := _LIST.search(text)) is not None:
            return shlex.join(map(str, json.loads(found[0])))
    return ""


def _launcher(words: Sequence[Word]) -> tuple[int, int] | None:
    """Return the first and the last word that stand for torchrun."""
    for at, word in enumerate(words):
        text = word.literal or ""
        if text in _NAMING_A_PROGRAM:
            return None
        if os.path.basename(text.lstrip("!")) == "torchrun" or _ASKED_FOR.fullmatch(word.raw):
            return at, at
        if text in _MODULES and at > 0 and re.fullmatch(r"-[a-zA-Z]*m", words[at - 1].raw):
            first = at - 1
            while first > 0 and words[first].raw.startswith("-"):
                first -= 1
            return first, at
    return None


def _why_none(text: str, found: Sequence[Sequence[Word]]) -> str:
    for words in found:
        for word in words:
            name = os.path.basename(word.literal or "")
            if name in _OTHERS:
                return f"{_OTHERS[name]}. Write: elastic-hydra run nproc_per_node=N -- SCRIPT"
            if _IN_QUOTES.search(word.raw):
                return "torchrun is in quotes, for another shell: give only what is between them"
    if not text.strip():
        return "no command line is given: write it behind from-torchrun, as torchrun --nproc-per-node=2 train.py"
    what = "neither torchrun nor python -m torch.distributed.run is in it"
    return f"{_shortened(text)}: {what}: give a command line that has one"


def _shortened(text: str) -> str:
    shown = " ".join(text.split())
    return shown if len(shown) < 60 else f"{shown[:57]}…"


def _read_flags(line: CommandLine, words: Sequence[Word], assigned: dict[str, str]) -> list[Word]:
    """Put the flags into `line`, and return the words from the script on."""
    rest = list(words)
    while rest:
        word = rest[0]
        text = word.literal if word.literal is not None else word.raw.strip("\"'")
        if text == "--":
            return rest[1:]
        if text.startswith("-") and text != "-":
            rest = _take_flag(line, text, rest)
        elif _is_of_flags(word, rest[1:]):
            rest = _known_words(line, word, assigned) + rest[1:]
        elif re.fullmatch(r"python[0-9.]*", text):
            line.remarks.append(f"{text}: torchrun takes it for the script, and fails; it is left out")
            rest = rest[1:]
        else:
            return rest
    return rest


def _take_flag(line: CommandLine, text: str, rest: list[Word]) -> list[Word]:
    word, name = rest[0], text.partition("=")[0]
    if not name.startswith("--") and len(name) > 2:  # -r3, -t3
        flag = flag_of(name[:2])
        value: Word | None = Word(text[2:])
    else:
        flag = flag_of(name)
        value = word.after(f"{name}=") if "=" in text else None
    if not flag.has_value:
        line.flags[flag.name] = Word("")
        return rest[1:]
    if value is None:
        if len(rest) < 2:
            raise TorchrunError(f"{name}: it needs a value, and none follows: add it")
        value, rest = rest[1], rest[1:]
    if value.literal == "" and flag.name not in _MAY_BE_EMPTY:
        raise TorchrunError(f"{name}: its value is empty: give one, or leave the flag out")
    line.flags[flag.name] = value
    return rest[1:]


def _is_of_all_arguments(word: Word) -> bool:
    return re.match(r"\$\{?[@*]", word.raw.strip('"')) is not None


def _is_of_flags(word: Word, following: Sequence[Word]) -> bool:
    """Whether a variable stands for flags, and not for the script."""
    if not word.is_one_variable or _is_of_all_arguments(word) or not following:
        return False
    text = following[0].raw.strip("\"'")
    return _HOLDS_FLAGS.match(word.raw.strip('"')) is not None or text.endswith(".py") or _is_flag(text)


def _is_flag(text: str) -> bool:
    with contextlib.suppress(TorchrunError):
        return text.startswith("-") and flag_of(text.partition("=")[0]).name != ""
    return False


def _known_words(line: CommandLine, word: Word, assigned: dict[str, str]) -> list[Word]:
    """Return the words that a variable stands for; it is noted when they are not known."""
    name = _name(word)
    if name not in assigned:
        line.unknown.append(word.raw)
        return []
    words = [part for part in split(assigned.pop(name)) if isinstance(part, Word)]  # once: it may name itself
    return [Word(part.raw, word.end, word.end) for part in words]


def _name(word: Word) -> str:
    """Return the name of the variable that a word is; empty: it is none."""
    return re.sub(r"\W.*", "", word.raw.strip('"').lstrip("${")) if word.is_one_variable else ""


def _assigned(parts: Sequence[Word | Operator]) -> dict[str, str]:
    """Return what the variables hold that the text itself sets: `ARGS="…"` and `ARGS=(…)`."""
    found: dict[str, str] = {}
    array: list[str] | None = None
    name = ""
    for part, following in zip(parts, [*parts[1:], Operator("\n", 0)], strict=True):
        if array is not None:
            if isinstance(part, Word):
                array.append(part.raw)
            elif part.text == ")":
                found[name], array = " ".join(array), None
        elif isinstance(part, Word) and (match := re.match(r"([A-Za-z_][A-Za-z_0-9]*)\+?=", part.raw)):
            name = match[1]
            if isinstance(following, Operator) and following.text == "(":
                array = []
            else:
                value = part.raw[match.end() :]
                is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
                before = f"{found[name]} " if match[0].endswith("+=") and name in found else ""
                found[name] = before + (value[1:-1] if is_quoted else value)
    return found


def _end_of_line(parts: Sequence[Word | Operator], start: int, length: int) -> int:
    """Return where the line with torchrun ends: pipes and redirections belong to it, another command does not."""
    depth = 0
    for part in parts:
        if isinstance(part, Word) or part.start < start:
            continue
        depth += (part.text == "(") - (part.text == ")")
        if part.text in ("\n", ";") or depth < 0:
            return part.start
    return length


def join(words: Sequence[str]) -> str:
    """Return the text of words that a shell has split already."""
    return words[0] if len(words) == 1 else shlex.join(words)
