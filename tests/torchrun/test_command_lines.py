"""Command lines of torchrun, from public repositories and made up, and what does the same here."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf
from torch.distributed.run import get_args_parser

from elastic_hydra.config.resolve import Launch, resolve
from elastic_hydra.torchrun.command_line import read
from elastic_hydra.torchrun.equivalent import equivalent, overrides_from_environment
from elastic_hydra.torchrun.flags import FLAGS, TorchrunError, flag_of
from tests.config.settings import GPU_HOST

Plugins.instance()


CONF = Path(__file__).parents[2] / "conf" / "hydra" / "launcher"


def _entries() -> dict[str, str]:
    parts = (Path(__file__).parent / "command_lines.txt").read_text().split("\n@ ")[1:]
    entries = [part.partition("\n") for part in parts]
    return {name: text.rstrip() + "\n" for name, _, text in entries}


ENTRIES = _entries()

UNLIKE = {equivalent(text).profile: name for name, text in ENTRIES.items()}
"""Of those with the same flags, one: by its profile."""

VARIABLES = {
    **dict.fromkeys(("NNODES", "NUM_NODES", "NODE_NUM", "SLURM_NNODES"), "2"),
    **dict.fromkeys(("NODE_RANK", "SLURM_NODEID"), "1"),
    **dict.fromkeys(("MASTER_ADDR", "master_addr", "head_node_ip"), "10.0.0.1"),
    **dict.fromkeys(("MASTER_PORT", "PORT", "port_number"), "29501"),
    **dict.fromkeys(("NGPU", "GPU", "GPUS", "NUM_GPU", "NUM_GPUS", "NUM_PROC", "NUM_TRAINERS", "WORLD_SIZE"), "4"),
    **dict.fromkeys(("GPUS_PER_NODE", "NPROC_PER_NODE", "GPU_PER_NODE", "GPU_NUM_PER_NODE", "NPROCS"), "4"),
    "LOG_RANK": "0,3",
    "SCRIPT": "train.py",
}
"""What those who wrote the command lines have in their environment."""

KEYS = {
    "nnodes": "nodes=",
    "nproc-per-node": "nproc_per_node=",
    "rdzv-backend": "rendezvous",
    "rdzv-endpoint": "rendezvous.endpoint=",
    "rdzv-id": "rendezvous.id=",
    "master-addr": "rendezvous.endpoint=",
    "master-port": "rendezvous.endpoint=",
    "node-rank": "rendezvous.node_rank=",
    "max-restarts": "retry=restart",
    "local-ranks-filter": "logs.local_ranks_filter=",
    "role": "role=",
    "tee": "logs.tee=",
    "module": "-- -m ",
}
"""Where a flag's value has to be, if no remark is about the flag."""

DEFAULTS = {("nnodes", "1"), ("max-restarts", "0"), ("standalone", "")}


def launch_of(config: Any) -> Launch:
    settings: Any = OmegaConf.to_container(config, resolve=True)
    # The environment has texts only, and these two keys may be texts.
    counts = {key: str(settings[key]) for key in ("nodes", "nproc_per_node")}
    return resolve(settings | counts, GPU_HOST, {})


def words_of(command: str) -> list[str]:
    """Return the overrides of a command, as a shell makes them that has the variables."""
    settings = command[command.index("elastic-hydra run") :].partition(" -- ")[0]
    script = f'elastic-hydra() {{ shift; printf "%s\\0" "$@"; }}; set -- 2 script.py; {settings}'
    environment = {**VARIABLES, "PATH": os.environ["PATH"]}
    out = subprocess.run(["bash", "-c", script], env=environment, stdout=subprocess.PIPE, check=True).stdout
    return out.decode().split("\0")[:-1]


def test_they_are_of_many_repositories() -> None:
    assert len({name.split()[0] for name in ENTRIES}) >= 60


@pytest.mark.system  # a shell makes the words
@pytest.mark.parametrize("name", UNLIKE.values())
def test_command_and_profile_say_the_same_and_can_be_launched(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = equivalent(ENTRIES[name])
    words = words_of(found.command)
    with initialize_config_dir(str(CONF), version_base=None):
        of_command = launch_of(compose("elastic", overrides=["logs=console", *words]))
    for variable, value in VARIABLES.items():
        monkeypatch.setenv(variable, value)
    (tmp_path / "launch.yaml").write_text(found.profile)
    not_there = [word for word in words if f"# {word.partition('=')[0]}:" in found.profile]
    search_path = f"hydra.searchpath=[file://{CONF}]"
    with initialize_config_dir(str(tmp_path), version_base=None):
        of_profile = launch_of(compose("launch", overrides=[search_path, *not_there]))
    assert of_profile == of_command


@pytest.mark.parametrize("name", ENTRIES)
def test_no_flag_is_dropped_silently(name: str) -> None:
    line, said = read(ENTRIES[name]), equivalent(ENTRIES[name])
    for flag, value in line.flags.items():
        told = (flag, value.literal) in DEFAULTS or any(f"--{flag}" in remark for remark in said.remarks)
        assert told or KEYS[flag] in said.command, flag


CASES = {
    "torchrun --nproc_per_node=4 train.py --lr 0.1": "nproc_per_node=4 -- train.py --lr 0.1",
    "torchrun train.py": "nproc_per_node=1 -- train.py",
    "torchrun --nproc-per-node 2 -- train.py -- x": "nproc_per_node=2 -- train.py -- x",
    "torchrun --nproc=2 -m package.train --nnodes=3": "nproc_per_node=2 -- -m package.train --nnodes=3",
    "torchrun --no-python ./train --nnodes=3": "nproc_per_node=1 -- ./train --nnodes=3",
    "torchrun train --x": "nproc_per_node=1 -- python train --x",
    "torchrun -r3 -t 0:3,1:1 train.py": "nproc_per_node=1 logs.redirects=3 'logs.tee=\"0:3,1:1\"' -- train.py",
    "torchrun --max-restarts=2 train.py": "nproc_per_node=1 retry=restart retry.max_restarts=2 -- train.py",
    "torchrun --max-restarts=3 train.py": "nproc_per_node=1 retry=restart -- train.py",
    "torchrun --numa-binding=node train.py": "nproc_per_node=1 numa=node -- train.py",
    "torchrun --signals-to-handle=SIGTERM,SIGUSR1 a.py": (
        "nproc_per_node=1 'signals_to_handle=[SIGTERM,SIGUSR1]' -- a.py"
    ),
    "torchrun --virtual-local-rank --shutdown-timeout 5 a.py": (
        "nproc_per_node=1 shutdown_timeout=5 virtual_local_rank=true -- a.py"
    ),
    "torchrun --nnodes=2 --rdzv-backend=c10d --rdzv-endpoint=a:1 --rdzv-conf=read_timeout=9,x=1 a.py": (
        "nodes=2 nproc_per_node=1 rendezvous=c10d rendezvous.endpoint=a:1 rendezvous.read_timeout=9 "
        "+rendezvous.configs.x=1 -- a.py"
    ),
    "torchrun --nnodes=2 --rdzv-backend=etcd-v2 --rdzv-endpoint=a:1 a.py": (
        "nodes=2 nproc_per_node=1 rendezvous.backend=etcd-v2 rendezvous.endpoint=a:1 -- a.py"
    ),
    "torchrun --nnodes=2 --node-rank=1 --master-addr=$A a.py": (
        "nodes=2 nproc_per_node=1 rendezvous=static rendezvous.endpoint=$A:29500 rendezvous.node_rank=1 -- a.py"
    ),
    "torchrun --duplicate-stdout-filters 'a b,c,,d' a.py": (
        'nproc_per_node=1 \'logs.duplicate_stdout_filters=["a b","c,d"]\' -- a.py'
    ),
    'torchrun "--nproc-per-node=$N" a.py': 'nproc_per_node="$N" -- a.py',
    'command: ["torchrun", "--nproc_per_node=2", "a.py", "a b"]': "nproc_per_node=2 -- a.py 'a b'",
    "if command -v torchrun; then\n torchrun --nproc_per_node=2 a.py\nfi": "nproc_per_node=2 -- a.py",
    "for n in 1 2; do torchrun --nproc_per_node=$n a.py; done": "nproc_per_node=$n -- a.py",
    'ARGS="--nnodes=1"\nARGS="$ARGS --nproc_per_node 2"\ntorchrun $ARGS a.py': "nproc_per_node=2 -- a.py",
    'ARGS="--tee 3"\nARGS+=" --nproc_per_node 2"\ntorchrun $ARGS a.py': "nproc_per_node=2 logs.tee=3 -- a.py",
    "python -um torch.distributed.run --nproc_per_node $N a.py": "nproc_per_node=$N -- a.py",
    'ARGS=(--nproc_per_node 2 -m)\ntorchrun "${ARGS[@]}" pkg.train': "nproc_per_node=2 -- -m pkg.train",
}


@pytest.mark.parametrize("text", CASES)
def test_what_is_made_of_a_command_line(text: str) -> None:
    assert equivalent(text).command == f"elastic-hydra run {CASES[text]}"


def test_what_is_around_it_stays_as_it_is() -> None:
    text = 'cd x; A=1 B="$C" nohup $(which torchrun) --nproc-per-node=2 a.py "$@" > log 2>&1 | tee x & # more\ndate'
    said = 'A=1 B="$C" nohup elastic-hydra run nproc_per_node=2 -- a.py "$@" > log 2>&1 | tee x & # more'
    assert equivalent(text).command == said


def test_a_here_document_is_kept_and_is_no_command_line() -> None:
    document = "it's\ntorchrun --nnodes=9 b.py\n\tEOF"
    said = equivalent(f"torchrun --nproc-per-node=2 a.py <<-'EOF' > log\n{document}\ntorchrun c.py\n")
    assert said.command == f"elastic-hydra run nproc_per_node=2 -- a.py <<-'EOF' > log\n{document}"
    assert [remark[:8] for remark in said.remarks] == ["1 more o"]


@pytest.mark.parametrize("end", ["\nEOF\nsbatch run.sh\n", "\nEOF", ""])
def test_a_command_line_in_a_here_document_is_found_if_there_is_no_other(end: str) -> None:
    text = f"cat > run.sh <<EOF\n#SBATCH -N 2\nsrun torchrun --nproc-per-node=2 a.py{end}"
    assert equivalent(text).command == "srun elastic-hydra run nproc_per_node=2 -- a.py"
    assert equivalent(f"{text}\nEOF\ntorchrun b.py").command == "elastic-hydra run nproc_per_node=1 -- b.py"


@pytest.mark.parametrize("text", ["a.py \\", "a.py <<< x", "a.py '' \"\" \"$(echo ')')\"", "a.py ${A:-'}'} `date`"])
def test_what_is_closed_is_kept(text: str) -> None:
    assert equivalent(f"torchrun {text}").command.startswith("elastic-hydra run nproc_per_node=1 -- a.py")


REFUSED = {
    "torchrun --rdzc_backend=c10d a.py": "--rdzc_backend: torchrun has no such flag (did you mean --rdzv-backend?)",
    "torchrun --r=1 a.py": "--r: torchrun has no such flag",
    "torchrun --nproc_per_node": "--nproc_per_node: it needs a value",
    "torchrun --nproc_per_node=2": "torchrun has no script to run",
    "accelerate launch --num_processes=2 a.py": "--num_processes is nproc_per_node",
    'bash -c "torchrun --nnodes=2 x.py"': "torchrun is in quotes",
    'srun bash -c "torchrun \\\n --rdzv-endpoint=$(hostname) x.py"': "torchrun is in quotes",
    "torchrun --nproc-per-node= a.py": "--nproc-per-node: its value is empty: give one",
    "torchrun --nnodes '' a.py": "--nnodes: its value is empty",
    'torchrun --max-restarts="" a.py': "--max-restarts: its value is empty",
    "torchrun a.py --name 'x y": "'x y: a quote or a bracket is not closed",
    'torchrun "--nproc-per-node=2 a.py': "a quote or a bracket is not closed",
    "torchrun a.py $(date": "$(date: a quote or a bracket is not closed",
    "torchrun a.py `date": "`date: a quote or a bracket is not closed",
    "cat <<EOF\ntorchrun --rdzc=1 a.py\nEOF": "--rdzc: torchrun has no such flag",
    "torchrun --help": "--help: runs nothing with torchrun",
    "which torchrun": "which torchrun: neither torchrun nor",
    "python train.py": "python train.py: neither torchrun nor",
    "": "no command line is given: write it behind from-torchrun",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_command_line_of_torchrun_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(TorchrunError, match=f"^.*{re.escape(REFUSED[text])}.*$"):
        equivalent(text)


REMARKS = {
    "torchrun --run-path /a.py": "--run-path: not needed",
    "torchrun --logs-specs=x a.py": "--logs-specs: no key says the same",
    "torchrun --nproc-per-node=auto a.py": "nproc_per_node=auto: one per GPU, or 1",
    "torchrun --nproc-per-node=xpu a.py": "nproc_per_node=xpu: give the number of devices",
    "torchrun --log-dir=logs a.py": "logs.dir=logs: in the run's own directory",
    "torchrun $TORCHRUN_ARGS a.py": "$TORCHRUN_ARGS: its flags are known to the shell only",
    "torchrun --nnodes=2 --rdzv-backend=c10d --node-rank=1 a.py": "--node-rank: without effect in torchrun",
    "torchrun --nnodes=2 --rdzv-backend=c10d a.py": "rendezvous.endpoint: several nodes need HOST:PORT",
    "torchrun --nnodes=2 --rdzv-backend=static --rdzv-conf=read_timeout=3 a.py": "the backend static ignores it",
}


@pytest.mark.parametrize("text", REMARKS)
def test_what_is_not_the_same_is_said(text: str) -> None:
    assert any(REMARKS[text] in remark for remark in equivalent(text).remarks)


# --- torchrun itself --------------------------------------------------------------------------------------------------


def torchruns_flags() -> dict[str, bool]:
    """Return whether each flag of the installed torchrun takes a value, by its name with hyphens."""
    actions = [action for action in get_args_parser()._actions if not isinstance(action, argparse._HelpAction)]
    names = [next((name for name in action.option_strings if name.startswith("--")), "") for action in actions]
    return {name: action.nargs != 0 for name, action in zip(names, actions, strict=True) if name}


@pytest.mark.parametrize("name", torchruns_flags())
def test_every_flag_of_torchrun_is_known(name: str) -> None:
    flag = flag_of(name.replace("-", "_").replace("__", "--", 1))
    assert flag.names[0] == name
    assert flag.has_value == torchruns_flags()[name]


def test_variables_of_torchrun_are_read() -> None:
    environ = {
        "PET_NNODES": "2",
        "PET_NPROC_PER_NODE": "4",
        "PET_RDZV_BACKEND": "c10d",
        "PET_RDZV_ENDPOINT": "head:29400",
        "PET_STANDALONE": "0",
        "PET_TEE": "0:3,1:3",
        "PET_LOG_DIR": "",
    }
    assert overrides_from_environment(environ) == {
        "nodes": "nodes=2",
        "nproc_per_node": "nproc_per_node=4",
        "rendezvous": "rendezvous=c10d",
        "rendezvous.endpoint": "rendezvous.endpoint=head:29400",
        "logs.tee": 'logs.tee="0:3,1:3"',
    }


def test_variables_of_torchrun_have_the_names_that_torchrun_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    flags = [flag for flag in FLAGS if f"--{flag.name}" in torchruns_flags()]
    for flag in flags:
        monkeypatch.setenv(flag.variable, "7")
    args = vars(get_args_parser().parse_args(["script.py"]))
    found = {name.replace("_", "-") for name, value in args.items() if value in ("7", True, 7)}
    assert found == {flag.name for flag in flags if flag.is_variable}
