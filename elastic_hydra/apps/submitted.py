"""`detach=slurm`: the launcher as a Slurm job, which goes back into the queue when its time is over.

::

    login shell: python app.py -m … detach=slurm ── sbatch --hold, a line in the journal, release ── ends
                     └─ batch script: exec python app.py -m … hydra.sweep.dir=DIR requeue=auto ── launcher

The job is held until the journal tells of it: a launcher that resumes a sweep has to read all of its journal.
"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Sequence

from elastic_hydra import timeouts
from elastic_hydra.apps.relaunch import Output, Relaunch
from elastic_hydra.config.detach import SbatchConfig
from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.problems import ROOT
from elastic_hydra.hosts.advised import advice_for
from elastic_hydra.hosts.engines import engine_of
from elastic_hydra.hosts.slurm_commands import Answer, answer_of
from elastic_hydra.hosts.slurm_options import additional_options, advice, named_options
from elastic_hydra.hosts.srun import login_environment
from elastic_hydra.journal import lock
from elastic_hydra.journal.events import LauncherSubmitted
from elastic_hydra.journal.files import open_private
from elastic_hydra.journal.place import FILE_NAME
from elastic_hydra.journal.writer import append, at_work
from elastic_hydra.overview.words import shown_path
from elastic_hydra.sweeps.detached import OUTPUT
from elastic_hydra.sweeps.settings import hosts_keys_of, sbatch_keys_of

__all__ = ["options_of", "script_of", "submit"]

_KEY = f"{ROOT}.detach=slurm"
_PROGRAMS = ("sbatch", "scontrol", "squeue", "scancel")


def submit(relaunch: Relaunch) -> int:
    """Submit a launcher, and say where it is.

    Args:
        relaunch: the launcher.

    Returns:
        the exit code: 0.

    Raises:
        ConfigError: Slurm refuses the job, or the launcher would be of no use there.
    """
    keys = sbatch_keys_of(relaunch.settings)
    _check(relaunch, keys)
    journal = relaunch.folder / FILE_NAME
    with Output(relaunch.output, relaunch.key) as output:
        try:
            job = _submitted(relaunch, keys)
        except BaseException:
            output.take_back()
            raise
    command = relaunch.command(further(relaunch))
    event = LauncherSubmitted(
        slurm_job=job,
        host=os.uname().nodename,
        command=command,
        program=relaunch.program,
        cwd=os.getcwd(),
        dir=str(relaunch.folder),
        single=relaunch.single,
        output=str(relaunch.output),
    )
    os.close(open_private(journal, os.O_RDWR | os.O_APPEND))
    append(journal, event)
    if why := _why_held(job):
        raise ConfigError(f"{_KEY}: Slurm job {job} is submitted, but held: {why}. Say `scontrol release {job}`")
    print(f"{shown_path(relaunch.folder)}: the launcher is Slurm job {job}\n{relaunch.how_to_look()}")
    return 0


def further(relaunch: Relaunch) -> list[str]:
    """Return the overrides that a launcher in a batch job needs."""
    return [relaunch.word("requeue", "auto")]


def script_of(relaunch: Relaunch, keys: SbatchConfig) -> str:
    """Return the batch script."""
    return "\n".join(
        [
            "#!/bin/bash",
            "set -e",
            f"cd {shlex.quote(os.getcwd())}",
            *(keys.setup or ()),
            f"export {OUTPUT}={shlex.quote(str(relaunch.output))}",
            f"exec {shlex.join(relaunch.command(further(relaunch)))}",
            "",
        ]
    )


def options_of(relaunch: Relaunch, keys: SbatchConfig) -> list[str]:
    """Return the options of sbatch."""
    output = str(relaunch.output).replace("%", "%%")  # Slurm would put numbers in place of %j and the like
    return [
        f"--job-name={keys.name or relaunch.name}",
        f"--nodes={keys.nodes}",
        "--ntasks-per-node=1",
        f"--output={output}",
        "--open-mode=append",
        "--export=ALL",
        "--requeue",
        f"--signal=B:USR1@{_signal_delay(relaunch, keys)}",
        *named_options(keys),
        *additional_options(keys),
    ]


def _signal_delay(relaunch: Relaunch, keys: SbatchConfig) -> int:
    """Return how long before the time limit the launcher is told, in seconds."""
    if keys.signal_delay_s is not None:
        return keys.signal_delay_s
    settings = relaunch.settings
    end = timeouts.end_of_server(timeouts.end_of_agent(float(settings.shutdown_timeout)))
    return int(settings.checkpoint_timeout + end)


def _check(relaunch: Relaunch, keys: SbatchConfig) -> None:
    """Refuse what could not go well in the queue, as far as that is known now."""
    settings = relaunch.settings
    missing = [program for program in _PROGRAMS if shutil.which(program) is None]
    if missing:
        raise ConfigError(
            f"{_KEY}: there is no program {' and no '.join(missing)} here: start the sweep where Slurm's commands work "
            "(a login node), or set detach=local"
        )
    if relaunch.has_launcher_per_node:
        raise ConfigError(
            f"{_KEY}: with {ROOT}.nodes={settings.nodes} each node has a launcher of its own: have a script written by "
            "`elastic-hydra plan --render sbatch`, and submit that"
        )
    if keys.nodes > 1 and settings.hosts.engine != "allocation":
        raise ConfigError(
            f"{ROOT}.sbatch.nodes={keys.nodes}: the launcher uses one node only, unless hydra/launcher/hosts=allocation"
        )
    told = _signal_delay(relaunch, keys)
    if keys.timeout_min is not None and keys.timeout_min * 60 <= told:
        raise ConfigError(
            f"{ROOT}.sbatch.timeout_min={keys.timeout_min}: jobs are told to write checkpoints {told} s before that: "
            "give more time, or make sbatch.signal_delay_s, checkpoint_timeout or shutdown_timeout shorter"
        )
    if settings.hosts.engine == "slurm":
        engine_of(hosts_keys_of(settings))
    if lock.is_held(relaunch.folder / FILE_NAME):
        raise at_work(relaunch.folder, relaunch.key)


def _submitted(relaunch: Relaunch, keys: SbatchConfig) -> str:
    """Have Slurm take the job, held, and return its id.

    Raises:
        ConfigError: it does not; with what to do.
    """
    argv = ["sbatch", "--parsable", "--hold", *options_of(relaunch, keys)]
    answer = _asked(argv, script_of(relaunch, keys))
    words = answer.output.splitlines()[-1:]  # before it, a site may say something
    job = words[0].partition(";")[0] if words else ""
    if answer.code != 0 or not job.isdigit():
        said = answer.said.splitlines()
        what = advice_for(said, advice(keys)) or f"`{shlex.join(argv)}` must work"
        raise ConfigError(f"{_KEY}: Slurm refuses the launcher ({'; '.join(said)}). {what}")
    return job


def _why_held(job: str) -> str:
    """Release a job, and return why that has failed; empty: it has not."""
    try:
        answer = answer_of(["scontrol", "release", job], login_environment(os.environ))
    except TimeoutError:  # its advice to try again would submit another job
        return "scontrol has not answered"
    return (answer.said or f"scontrol has ended with {answer.code}") if answer.code else ""


def _asked(argv: Sequence[str], script: str = "") -> Answer:
    """Run one of Slurm's commands as in a login shell."""
    try:
        return answer_of(argv, login_environment(os.environ, kept=["SBATCH_"]), script=script)
    except TimeoutError as error:
        raise ConfigError(f"{_KEY}: {error}") from error
