"""What of the log reaches a person's console, and what it says there about whose it is."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

__all__ = ["line_prefix", "prepare_console", "tell_apart"]

_TORCHS_AGENT = "torch.distributed.elastic.agent.server.api"


def tell_apart(label: str) -> None:
    """Set the console of a job's agent up.

    Args:
        label: what each record begins with there, as `#3`; empty: nothing.
    """
    prepare_console()
    if label:
        for handler in _consoles():
            handler.setFormatter(_Labelled(handler.formatter, label))
    # The launcher itself logs which signal it has got, and what it does about it.
    logging.getLogger(_TORCHS_AGENT).addFilter(_is_no_death_signal)


def prepare_console() -> None:
    """Keep from consoles what is for the log only, and have them write what their encoding cannot say as `\\u…`.

    Else there would be a line about an error in logging instead.
    """
    for handler in _consoles():
        handler.addFilter(_is_for_people)
        stream: Any = handler.stream
        if getattr(stream, "errors", None) == "strict" and _is_narrow(stream) and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def line_prefix(template: str, label: str) -> str:
    """Put a job's label into what each line of its workers begins with.

    Args:
        template: of the configuration; may have `${job}`.
        label: as `#3`; empty: the job runs alone, and what separates the label from the rest goes, too.
    """
    if "${job}" not in template:
        return template
    text = template.replace("${job}", label)
    return text if label else text.lstrip(" :")


def _consoles() -> Iterator[logging.StreamHandler[Any]]:
    for logger in (logging.getLogger(), *logging.Logger.manager.loggerDict.values()):
        for handler in getattr(logger, "handlers", ()):
            if isinstance(handler, logging.StreamHandler) and not isinstance(handler, logging.FileHandler):
                yield handler


def _is_narrow(stream: Any) -> bool:
    try:
        "…█".encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return True
    return False


def _is_for_people(record: logging.LogRecord) -> bool:
    return not getattr(record, "in_the_log_only", False)


def _is_no_death_signal(record: logging.LogRecord) -> bool:
    return "death signal" not in str(record.msg)


class _Labelled(logging.Formatter):
    """Puts a label before what another formatter makes."""

    def __init__(self, inner: logging.Formatter | None, label: str) -> None:
        super().__init__()
        self._inner = inner or logging.Formatter()
        self._label = label

    def format(self, record: logging.LogRecord) -> str:
        return f"{self._label}: {self._inner.format(record)}"
