"""Words of a shell's command line as they stand there, with quotes and variables, which the shell fills in later."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Operator", "Word", "commands", "split"]

_OPERATOR = re.compile(r"\n|;;|;|&&|\|\||\|&|\||&>>|&>|[0-9]*(?:>>|>&|>\||>|<<<|<<|<&|<>|<)|&|\(|\)")
_PLACEHOLDER = re.compile(r"<[A-Za-z_][A-Za-z_ -]*>")
"""What a text for people has where a value belongs, such as `<host>`; for the shell it would be a redirection."""
_NOT_QUOTED = re.compile(r"[A-Za-z0-9_@%+=:,./~-]+")
_CLOSING = {"{": "}", "(": ")"}


@dataclass(frozen=True)
class Operator:
    """What separates commands, or redirects: `;`, `|`, a line's end, `2>`."""

    text: str
    start: int
    documents: tuple[str, ...] = ()
    """The here-documents that are between a line's end and the next command."""

    @property
    def redirects(self) -> bool:
        """Whether the next word names a file, and the command goes on after it."""
        return "<" in self.text or ">" in self.text


@dataclass(frozen=True)
class Word:
    """A word of a command line.

    Args:
        raw: as it stands there.
        start: where it begins in the text.
        end: where it ends.
        is_open: whether a quote or a bracket in it is not closed.
    """

    raw: str
    start: int = 0
    end: int = 0
    is_open: bool = False

    @classmethod
    def quoted(cls, text: str) -> Word:
        """Make the word that stands for this text."""
        return cls(text if _NOT_QUOTED.fullmatch(text) else shlex.quote(text))

    @property
    def literal(self) -> str | None:
        """The text that the shell makes of it; None: only the shell knows, since a variable or a command is in it."""
        if self.variables or self.is_computed or _PLACEHOLDER.search(self.raw):
            return None
        try:
            return "".join(shlex.split(self.raw.replace("\\\n", ""))) if self.raw else ""
        except ValueError:  # a quote that is not closed
            return self.raw

    @property
    def variables(self) -> list[str]:
        """The shell's variables in it, as they stand there: `$NAME`, `${NAME:-1}`, `$@`."""
        return [part for part in self._expansions() if not part.startswith(("$(", "`"))]

    @property
    def is_computed(self) -> bool:
        """Whether the output of a command, or a calculation, is a part of it."""
        return any(part.startswith(("$(", "`")) for part in self._expansions())

    @property
    def is_one_variable(self) -> bool:
        """Whether it is a variable and nothing else, in quotes or not: the shell may make several words of it."""
        return self.raw.strip('"') in self.variables

    def after(self, prefix: str) -> Word:
        """Return what follows a literal beginning, as `8` of `--nproc-per-node=8`, with the quotes around both."""
        for quote in ('"', "'"):
            if self.raw.startswith(quote + prefix):
                return Word(quote + self.raw[len(prefix) + 1 :])
        return Word(self.raw[len(prefix) :])

    def without_quotes(self) -> str:
        """Return the text with its variables, for places where nothing but a pair of quotes could be around it."""
        inner = self.raw[1:-1]
        is_in_quotes = len(self.raw) > 1 and self.raw[0] == self.raw[-1] == '"' and '"' not in inner
        return inner if is_in_quotes else self.raw

    def _expansions(self) -> list[str]:
        found, at, in_double = [], 0, False
        while at < len(self.raw):
            char = self.raw[at]
            if char == "'" and not in_double:
                at = _end_of_single(self.raw, at)
                continue
            if char == '"':
                in_double = not in_double
            end = _end_of_expansion(self.raw, at)
            if end is not None:
                found.append(self.raw[at:end])
            at = end or at + (2 if char == "\\" else 1)
        return found


def split(text: str) -> list[Word | Operator]:
    """Split a shell's text into words and operators; comments and line continuations are left out.

    Args:
        text: one command line, or several. What the shell would refuse is taken as it stands.
    """
    found: list[Word | Operator] = []
    expected: list[tuple[str, bool]] = []
    at = 0
    while at < len(text):
        if text[at] in " \t\r" or re.match(r"\\[ \t\r]*\n", text[at:]):
            at += len(re.match(r"\\[ \t\r]*\n|[ \t\r]", text[at:])[0])  # type: ignore[index]
        elif text[at] == "#":
            at = (text + "\n").index("\n", at)
        elif (operator := _OPERATOR.match(text, at)) is not None and not _PLACEHOLDER.match(text, at):
            documents: list[str] = []
            if operator[0] == "\n":
                documents, at = _here_documents(text, at, expected)
            found.append(Operator(operator[0], at, tuple(documents)))
            at += len(operator[0])
        else:
            end = _end_of_word(text, at)
            word = Word(text[at:end], at, min(end, len(text)), is_open=end > len(text))
            if found and isinstance(found[-1], Operator) and re.fullmatch("[0-9]*<<", found[-1].text):
                # With a hyphen, the shell cuts tabs at the begin of each line.
                expected.append((re.sub(r"^-|[\\\"']", "", word.raw), word.raw.startswith("-")))
            found.append(word)
            at = word.end
    return found


def _here_documents(text: str, at: int, expected: list[tuple[str, bool]]) -> tuple[list[str], int]:
    """Read the here-documents that begin behind the end of a line.

    Args:
        text: of the shell.
        at: where the line ends.
        expected: the words that end the documents, and whether tabs may be before them; it is empty afterwards.

    Returns:
        the documents, and where the last line of the last one ends.
    """
    documents = []
    for word, may_be_indented in expected:
        begin = at + 1
        tabs = r"\t*" if may_be_indented else ""
        end = re.compile(rf"^{tabs}{re.escape(word)}$", re.MULTILINE).search(text, begin)
        documents.append(text[begin : end.start() if end is not None else len(text)])
        at = end.end() if end is not None else len(text)
    expected.clear()
    return documents, at


def commands(parts: Sequence[Word | Operator]) -> list[list[Word]]:
    """Return the words of each simple command, without redirections and the files that these name."""
    found: list[list[Word]] = [[]]
    is_file = False
    for part in parts:
        if isinstance(part, Word):
            if not is_file:
                found[-1].append(part)
            is_file = False
        elif part.redirects:
            is_file = True
        else:
            found.append([])
    return [words for words in found if words]


def _end_of_word(text: str, at: int) -> int:
    while at < len(text):
        char = text[at]
        if placeholder := _PLACEHOLDER.match(text, at):
            at = placeholder.end()
        elif char in " \t\r\n;&|<>()" or re.match(r"\\[ \t\r]*\n", text[at : at + 80]):
            return at
        elif char == "'":
            at = _end_of_single(text, at)
        elif char == '"':
            at = _end_of_double(text, at)
        elif char == "\\":
            at = min(at + 2, len(text))
        else:
            at = _end_of_expansion(text, at) or at + 1
    return at


# What is not closed ends behind the end of the text.


def _end_of_single(text: str, at: int) -> int:
    end = text.find("'", at + 1)
    return len(text) + 1 if end < 0 else end + 1


def _end_of_double(text: str, at: int) -> int:
    at += 1
    while at < len(text) and text[at] != '"':
        at = _end_of_expansion(text, at) or at + (2 if text[at] == "\\" else 1)
    return min(at, len(text)) + 1


def _end_of_expansion(text: str, at: int) -> int | None:
    """Return where what the shell fills in ends; None: nothing of that kind begins here."""
    if text[at] == "`":
        end = text.find("`", at + 1)
        return len(text) + 1 if end < 0 else end + 1
    if text[at] != "$" or at + 1 == len(text):
        return None
    if text[at + 1] in _CLOSING:
        return _end_of_brackets(text, at + 1)
    name = re.compile(r"[A-Za-z_][A-Za-z_0-9]*|[0-9@*#?$!-]").match(text, at + 1)
    return None if name is None else name.end()


def _end_of_brackets(text: str, at: int) -> int:
    opening, depth = text[at], 0
    while at < len(text):
        if text[at] == "'":
            at = _end_of_single(text, at)
            continue
        depth += (text[at] == opening) - (text[at] == _CLOSING[opening])
        at += 1
        if depth == 0:
            return at
    return len(text) + 1
