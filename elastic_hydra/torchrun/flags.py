"""Every flag of torchrun, and what says the same here: the one table, also of the guide."""

from __future__ import annotations

from dataclasses import dataclass

from elastic_hydra.config.errors import nearest

__all__ = ["FLAGS", "Flag", "TorchrunError", "flag_of"]


class TorchrunError(ValueError):
    """A command line is none of torchrun's, or torchrun would refuse it. The text says what to do."""


@dataclass(frozen=True)
class Flag:
    """One flag of `torchrun`, or of `python -m torch.distributed.launch`."""

    names: tuple[str, ...]
    """With hyphens; torchrun takes underscores as well. The long one comes first."""
    target: str
    """The key that says the same, in Markdown; empty: there is none."""
    note: str = ""
    """What else there is to know, in Markdown."""
    has_value: bool = True
    is_variable: bool = True
    """Whether torchrun reads it from the environment, too."""

    @property
    def name(self) -> str:
        """Its long name, without hyphens before it: `nproc-per-node`."""
        return self.names[0].lstrip("-")

    @property
    def variable(self) -> str:
        """The name of the variable from which torchrun takes its value where the flag is not given."""
        return "PET_" + self.name.replace("-", "_").upper()


FLAGS = (
    Flag(("--nnodes",), "`nodes`", '`2` or `"1:4"`'),
    Flag(
        ("--nproc-per-node",),
        "`nproc_per_node`",
        "a number, `auto`, `gpu`, `cpu`. `auto` is one per GPU, or 1 (torchrun: all CPUs)",
    ),
    Flag(
        ("--rdzv-backend",),
        "`rendezvous.backend`",
        "the profile `rendezvous=c10d` sets the timeouts that go with it",
    ),
    Flag(("--rdzv-endpoint",), "`rendezvous.endpoint`"),
    Flag(("--rdzv-id",), "`rendezvous.id`", "of the sweep; each job gets an id of its own from it"),
    Flag(
        ("--rdzv-conf",),
        "`rendezvous.join_timeout`, `.last_call_timeout`, `.close_timeout`, `.heartbeat_timeout`, "
        "`.keep_alive_interval`, `.keep_alive_max_attempt`, `.read_timeout`, `.is_host`",
        "anything else: `+rendezvous.configs.KEY=VALUE`. A timeout that the backend would ignore is refused",
    ),
    Flag(("--standalone",), "`rendezvous=local`", "the default; it opens no port to the network", has_value=False),
    Flag(
        ("--max-restarts",),
        "`retry=restart`, `retry.max_restarts`",
        "that profile starts again whatever the cause, as torchrun does",
    ),
    Flag(
        ("--monitor-interval",),
        "`monitor_interval`",
        "how soon a new node is noticed; the end of a worker is noticed at once",
    ),
    Flag(("--start-method",), "`start_method`", "torchrun starts a new interpreter for each script whatever it says"),
    Flag(("--event-log-handler",), "`event_log_handler`"),
    Flag(("--role",), "`role`"),
    Flag(
        ("--module", "-m"),
        "",
        "`elastic-hydra run … -- -m package.train`; a Hydra app: `python -m package.train -m hydra/launcher=elastic`",
        has_value=False,
    ),
    Flag(
        ("--no-python",),
        "",
        '`elastic-hydra run … -- ./program`; from Python: `elastic_launch(config, "/path/to/program")(*arguments)`',
        has_value=False,
    ),
    Flag(("--run-path",), "", "has no use here: scripts start in warm workers anyway", has_value=False),
    Flag(
        ("--log-dir",),
        "`logs.dir`",
        "relative to the job's output directory, where the default is `logs` (torchrun: a temporary folder)",
    ),
    Flag(("--redirects", "-r"), "`logs.redirects`", '`3`, `"{0: 1, 1: 3}"`, or torchrun\'s `"0:1,1:3"`'),
    Flag(("--tee", "-t"), "`logs.tee`", "likewise"),
    Flag(("--local-ranks-filter",), "`logs.local_ranks_filter`", "`[0,1]`"),
    Flag(("--duplicate-stdout-filters",), "`logs.duplicate_stdout_filters`", "a list", is_variable=False),
    Flag(("--duplicate-stderr-filters",), "`logs.duplicate_stderr_filters`", "a list", is_variable=False),
    Flag(("--node-rank",), "`rendezvous.node_rank`", "with `rendezvous=static`"),
    Flag(("--master-addr",), "`rendezvous.endpoint`", "with `rendezvous=static`: `ADDRESS:PORT` of node 0"),
    Flag(("--master-port",), "`rendezvous.endpoint`", "likewise"),
    Flag(("--local-addr",), "`rendezvous.local_addr`"),
    Flag(
        ("--logs-specs",),
        "",
        "no key: the log files are laid out as Hydra's users expect. From Python: `LaunchConfig(logs_specs=…)`",
        is_variable=False,
    ),
    Flag(
        ("--numa-binding",),
        "`numa=node`, `socket`, `exclusive`, `core-complex`",
        "see [NUMA](numa.md)",
        is_variable=False,
    ),
    Flag(("--signals-to-handle",), "`signals_to_handle`", "a list"),
    Flag(("--shutdown-timeout",), "`shutdown_timeout`", "it holds wherever workers are stopped"),
    Flag(("--virtual-local-rank",), "`virtual_local_rank`", has_value=False),
    Flag(("--log-line-prefix-template",), "`logs.line_prefix`", "torchrun: from torch 2.14 on; here: with any torch"),
    Flag(
        ("--print-completion",),
        "",
        "(torch 2.14) Hydra has its own: `python train.py --shell-completion install=bash`",
        is_variable=False,
    ),
    Flag(
        ("--use-env",),
        "",
        "(`torch.distributed.launch`) always so: `LOCAL_RANK` is in the environment. A script that wants "
        "`--local-rank` as well gets `'--local-rank=${local_rank}'`",
        has_value=False,
    ),
)
"""In the order of torchrun's help; `--use-env` is the one that `torch.distributed.launch` has besides."""


def flag_of(name: str) -> Flag:
    """Return the flag of this name; like torchrun, it takes underscores and any beginning that leaves no choice.

    Args:
        name: as on the command line, with its hyphens.

    Raises:
        TorchrunError: torchrun has no such flag.
    """
    hyphens = "-" * (len(name) - len(name.lstrip("-")))
    wanted = hyphens + name.lstrip("-").replace("_", "-")
    if wanted in ("-h", "--help"):
        raise TorchrunError(f"{name}: runs nothing with torchrun: `elastic-hydra run --help` shows the usage")
    for flag in FLAGS:
        if wanted in flag.names:
            return flag
    found = [flag for flag in FLAGS if hyphens == "--" and flag.names[0].startswith(wanted)]
    if len(found) == 1:
        return found[0]
    known = [flag.names[0] for flag in FLAGS]
    raise TorchrunError(f"{name}: torchrun has no such flag{nearest(wanted, known)}: correct it, or leave it out")
