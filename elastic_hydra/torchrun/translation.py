"""From the flags of torchrun to keys and profiles of this package, with a remark on what is not the same."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from elastic_hydra.config.backends import BACKENDS, TIMEOUTS, backend_of
from elastic_hydra.torchrun.shell import Word

__all__ = ["PROFILES", "Translation", "Value", "most_nodes", "translate"]

Value = Word | int | float | bool | str | list[int] | list[str]
"""Of a key: what it is, or a word that the shell fills in."""

PROFILES = ("rendezvous", "numa", "retry")
"""Keys whose values are names of profiles."""

_SAME = {
    "monitor-interval": "monitor_interval",
    "start-method": "start_method",
    "event-log-handler": "event_log_handler",
    "role": "role",
    "redirects": "logs.redirects",
    "tee": "logs.tee",
    "shutdown-timeout": "shutdown_timeout",
}
_LISTS = {
    "local-ranks-filter": "logs.local_ranks_filter",
    "duplicate-stdout-filters": "logs.duplicate_stdout_filters",
    "duplicate-stderr-filters": "logs.duplicate_stderr_filters",
    "signals-to-handle": "signals_to_handle",
}
_OF_THE_MASTER = ("master-addr", "master-port", "node-rank")
_OF_THE_RENDEZVOUS = ("rdzv-backend", "rdzv-endpoint", "rdzv-id", "rdzv-conf", "local-addr", *_OF_THE_MASTER)
_NONE = {
    "run-path": "not needed: scripts start in warm workers, without a new interpreter",
    "logs-specs": "no key says the same: classes of log files are for Python, LaunchConfig(logs_specs=…); leave it out",
    "print-completion": "not for a run: elastic-hydra has a completion of its own; leave it out",
    "use-env": "not needed: LOCAL_RANK is always in the environment",
}
_MASTER_PORT, _C10D_PORT = "29500", "29400"
"""Torch's."""


@dataclass
class Translation:
    """What says the same as some flags."""

    settings: dict[str, Value] = field(default_factory=dict)
    """By key, as it is written on the command line; names of profiles come first."""
    remarks: list[str] = field(default_factory=list)
    """What is not said by a setting, or not quite, and what to do about it: a line each."""


def translate(flags: Mapping[str, Word]) -> Translation:
    """Say the same as torchrun's flags in keys; what torchrun has by default is left to the caller.

    Args:
        flags: by name without hyphens, as `nproc-per-node`; a flag without a value has an empty word.
    """
    said = Translation()
    if (nodes := flags.get("nnodes")) is not None and most_nodes(flags) != 1:
        said.settings["nodes"] = _value(nodes)
    if (workers := flags.get("nproc-per-node")) is not None:
        _set_workers(said, workers)
    _set_rendezvous(said, flags)
    if (binding := flags.get("numa-binding")) is not None:
        said.settings["numa"] = _value(binding)
    if (restarts := flags.get("max-restarts")) is not None and restarts.literal != "0":
        said.settings["retry"] = "restart"  # whatever the cause, as torchrun does
        if restarts.literal != "3":
            said.settings["retry.max_restarts"] = _value(restarts)
    for name, key in _SAME.items():
        if name in flags:
            said.settings[key] = _value(flags[name])
    for name, key in _LISTS.items():
        if name in flags:
            said.settings[key] = _list(flags[name])
    _set_others(said, flags)
    said.remarks += [f"--{name}: {what}" for name, what in _NONE.items() if name in flags]
    return said


def most_nodes(flags: Mapping[str, Word]) -> int | None:
    """Return how many nodes there may be; None: only the shell knows."""
    if "standalone" in flags or "nnodes" not in flags:
        return 1
    text = flags["nnodes"].literal
    match = re.fullmatch(r"(?:\d+:)?(\d+)", text or "")
    return None if match is None else int(match[1])


def _set_workers(said: Translation, workers: Word) -> None:
    said.settings["nproc_per_node"] = _value(workers)
    if workers.literal == "auto":
        said.remarks.append(
            "nproc_per_node=auto: one per GPU, or 1; where there is no GPU, torchrun takes all CPUs: cpu"
        )
    elif workers.literal not in (None, "cpu", "gpu") and not workers.literal.isdigit():
        said.remarks.append(f"nproc_per_node={workers.literal}: give the number of devices, or gpu, cpu, auto")


def _set_rendezvous(said: Translation, flags: Mapping[str, Word]) -> None:
    given = [f"--{name}" for name in _OF_THE_RENDEZVOUS if name in flags]
    if most_nodes(flags) == 1:
        if given:
            said.remarks.append(
                f"{', '.join(given)}: not needed on one node, whose workers meet without a port that somebody chooses"
            )
        return
    backend = flags.get("rdzv-backend", Word("static"))
    name = backend.literal or ""
    is_profile = name in ("static", "c10d", "etcd")
    said.settings["rendezvous" if is_profile else "rendezvous.backend"] = _value(backend)
    (_set_master if name == "static" else _set_endpoint)(said, flags, name)
    for flag, key in (("rdzv-id", "rendezvous.id"), ("local-addr", "rendezvous.local_addr")):
        if flag in flags:
            said.settings[key] = _value(flags[flag])
    if any("RANDOM" in variable for variable in flags.get("rdzv-id", Word("")).variables):
        said.remarks.append("rendezvous.id: $RANDOM is another number on each node; all nodes need the same name")
    if "rdzv-conf" in flags:
        _set_conf(said, flags["rdzv-conf"], name)


def _set_master(said: Translation, flags: Mapping[str, Word], _: str) -> None:
    address, port = flags.get("master-addr", Word("127.0.0.1")), flags.get("master-port", Word(_MASTER_PORT))
    said.settings["rendezvous.endpoint"] = _value(flags.get("rdzv-endpoint") or _joined(address, port))
    said.settings["rendezvous.node_rank"] = _value(flags.get("node-rank", Word("0")))
    if "node-rank" not in flags:
        said.remarks.append("rendezvous.node_rank=0: is for the first node; each other node needs its own number")


def _set_endpoint(said: Translation, flags: Mapping[str, Word], backend: str) -> None:
    endpoint = flags.get("rdzv-endpoint")
    if endpoint is not None:
        if backend == "c10d" and _lacks_port(endpoint):
            endpoint = _joined(endpoint, Word(_C10D_PORT))
        said.settings["rendezvous.endpoint"] = _value(endpoint)
    else:
        said.remarks.append("rendezvous.endpoint: several nodes need HOST:PORT where they meet; add it")
    ignored = [f"--{name}" for name in _OF_THE_MASTER if name in flags]
    if ignored and backend:
        said.remarks.append(f"{', '.join(ignored)}: without effect in torchrun with --rdzv-backend={backend}; left out")


def _set_conf(said: Translation, conf: Word, backend: str) -> None:
    text = conf.literal if conf.literal is not None else conf.without_quotes()
    for part in text.split(","):
        key, _, value = (piece.strip() for piece in part.partition("="))
        if not value:
            said.remarks.append(f"--rdzv-conf={part}: is no KEY=VALUE; give each as rendezvous.KEY=VALUE")
            continue
        known = backend_of(backend).keys
        ours = {theirs: key for key, theirs in known.items()}.get(key, key)
        if key == "timeout" and ours == key and backend in BACKENDS:
            said.remarks.append(f"--rdzv-conf=timeout: torch ignores it with {backend}; join_timeout is what it meant")
            ours = "join_timeout"
        is_key = ours in (*TIMEOUTS, "is_host")
        if is_key and ours not in known:
            said.remarks.append(f"--rdzv-conf={part}: the backend {backend} ignores it; left out")
            continue
        said.settings[f"rendezvous.{ours}" if is_key else f"+rendezvous.configs.{key}"] = _value(Word(value))


def _set_others(said: Translation, flags: Mapping[str, Word]) -> None:
    if "virtual-local-rank" in flags:
        said.settings["virtual_local_rank"] = True
    if (template := flags.get("log-line-prefix-template")) is not None:
        text = template.literal
        said.settings["logs.line_prefix"] = template if text is None else text.replace("${", "\\${")
    if (folder := flags.get("log-dir")) is not None:
        said.settings["logs.dir"] = _value(folder)
        if not (folder.literal or "/").startswith("/"):
            said.remarks.append(
                f"logs.dir={folder.literal}: in the run's own directory; a path from / is where it says"
            )


def _value(word: Word) -> Value:
    text = word.literal
    if text is None:
        return word
    if re.fullmatch(r"-?(0|[1-9]\d*)", text):
        return int(text)
    return float(text) if re.fullmatch(r"\d+\.\d+", text) else text


def _list(word: Word) -> Value:
    if word.literal is None:
        return Word(f'"[{word.without_quotes()}]"')
    parts = [part.replace("\0", ",").strip() for part in word.literal.replace(",,", "\0").split(",")]
    parts = [part for part in parts if part]
    return [int(part) for part in parts] if all(part.isdigit() for part in parts) else parts


def _lacks_port(endpoint: Word) -> bool:
    """Whether it is a host only; of a variable, its name tells."""
    text = endpoint.literal
    if text is not None:
        return ":" not in text.rpartition("]")[2]
    if not endpoint.is_one_variable:
        return False
    return re.search(r"ENDPOINT|URL|RDZV|:-[^}]*:", endpoint.raw, re.IGNORECASE) is None


def _joined(host: Word, port: Word) -> Word:
    text = f"{host.without_quotes()}:{port.without_quotes()}"
    return Word(f'"{text}"' if re.search(r"[\s]", text) and "'" not in text else text)
