"""A real Slurm cluster for tests: its daemons run below pytest, on hosts that are network namespaces.

::

    login    slurmctld; here tests run sbatch, srun, scontrol
    h1, h2   slurmd; each has an address, a name and a /etc/hosts of its own

Nothing of it can be seen outside: key, sockets and state are in a temporary folder, addresses and ports in the
namespaces. Where namespaces are forbidden all daemons are on this machine, at ports that were free. The daemons end
with pytest, however it ends; jobs of a pytest that was killed stay until they end by themselves.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import pytest

from tests.nodes.hosts import Cable, Host

__all__ = ["Cluster", "lack", "needs_slurm", "slurm"]

Seen = TypeVar("Seen")
needs_slurm = [pytest.mark.system, pytest.mark.slurm]
"""Marks of tests that use the fixture `slurm`."""

_PROGRAMS = {
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "srun": "slurm-client",
    "munged": "munge",
    "setpriv": "util-linux",
}
"""What a cluster needs, and the packages that have it."""
_COMMANDS = ("srun", "sbatch", "scancel", "scontrol", "squeue", "salloc", "sinfo")
_LOGIN = 8
"""Number of the host where slurmctld runs."""
_CPUS = 4
_GPUS = 2
_CONF = """\
ClusterName=tests
SlurmctldHost={controller}({address})
SlurmctldPort={port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.sock
CredType=cred/munge
CommunicationParameters=NoCtldInAddrAny
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,sched_min_interval=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmdParameters=config_overrides
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
SlurmctldTimeout=60
SlurmdTimeout=60
KillWait=30
MinJobAge=3600
JobRequeue=1
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SwitchType=switch/none
GresTypes=gpu
{nodes}
PartitionName=low Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=0
PartitionName=graceful Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=600
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10
"""


class Cluster:
    """A Slurm cluster with two GPUs per node, whose partition `high` preempts jobs of the others.

    Jobs of `low`, the default, are told at once that they are preempted. In `graceful` their steps are told, and the
    batch script ten minutes later.

    Args:
        folder: for all that it keeps; a short path, since sockets are in it.
        nodes: how many nodes it has, named h1, h2 and so on.

    Raises:
        OSError: it does not start; the message has the ends of the logs.
    """

    def __init__(self, folder: Path, nodes: int = 2) -> None:
        self.folder = folder
        self._daemons: list[subprocess.Popen[bytes]] = []
        self._cable = _cable(folder)
        self.has_networks = self._cable is not None
        """Whether each node has an address of its own; otherwise all are this machine, and names lead nowhere."""
        self.login = self._host(_LOGIN, "login")
        """Where slurmctld runs."""
        self.nodes = [self._host(number, f"h{number}") for number in range(1, nodes + 1)]
        """Hosts of the nodes."""
        self.environ = {**_without_slurm(os.environ), "SLURM_CONF": str(folder / "slurm.conf")}
        """Variables of a login shell."""
        self._write_files()
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    # --- what tests do with it -------------------------------------------------------------------------------------

    def command(self, argv: Sequence[str]) -> list[str]:
        """Return the command that runs `argv` on the login host; it needs the variables `environ`."""
        return self.login.command(argv)

    def run(self, *argv: str, **variables: str) -> str:
        """Run a program on the login host to its end, and return what it prints.

        Raises:
            AssertionError: it fails.
        """
        done = subprocess.run(
            self.command(argv),
            env={**self.environ, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        assert done.returncode == 0, f"{argv}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def submit(self, script: Path, *options: str, **variables: str) -> str:
        """Submit a batch script, and return the job's id. Its output is in the file `JOBID.out` beside the script."""
        output = script.with_name("%j.out")
        always = ("--parsable", "--requeue", "--open-mode=append", f"--output={output}", f"--chdir={script.parent}")
        return self.run("sbatch", *always, *options, str(script), **variables).strip()

    def job(self, job: str) -> Mapping[str, str]:
        """Return what `scontrol show job` says: `JobState`, `Reason`, `Restarts`, `ExitCode` and so on."""
        words = self.run("scontrol", "--oneliner", "show", "job", job).split()
        return {key: value for key, _, value in (word.partition("=") for word in words)}

    def wait_for(self, seen: Callable[[], Seen | None], what: str, timeout: float = 240.0) -> Seen:
        """Wait until `seen()` is true, and return it."""
        deadline = time.monotonic() + timeout
        while not (found := seen()):
            assert time.monotonic() < deadline, f"waiting for {what}\n{self.logs()}"
            time.sleep(0.1)
        return found

    def wait_for_state(self, job: str, *states: str) -> Mapping[str, str]:
        """Wait until a job is in one of some states, and return what `scontrol show job` says."""
        return self.wait_for(
            lambda: found if (found := self.job(job))["JobState"] in states else None,
            f"job {job} in one of the states {states}: it is {dict(self.job(job))}",
        )

    def start_again(self, job: str) -> None:
        """Start a job that was requeued soon: Slurm would wait for two minutes.

        A node refuses to start a job again in the second in which it has killed it, and the job would hang.
        """
        self.wait_for_state(job, "PENDING")
        self.run("scontrol", "update", f"JobId={job}", "StartTime=now+3")

    def write_commands(self, folder: Path) -> None:
        """Write Slurm's commands into a folder: from there, they are those of a login shell of this cluster."""
        folder.mkdir()
        for name in _COMMANDS:
            command = self.command([str(shutil.which(name))])
            (folder / name).write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
            (folder / name).chmod(0o755)

    @contextlib.contextmanager
    def cut(self, node: str) -> Iterator[None]:
        """Let nothing reach a node, or leave it, for a while."""
        assert self._cable is not None
        host = self._cable.hosts[node]
        self._cable.drop(host, "disabled")
        try:
            yield
        finally:
            self._cable.drop(host, "forwarding")

    def cancel_all(self) -> None:
        """Cancel all jobs, and wait until none of them is left on a node."""
        self.run("scancel", "--user=root")
        with contextlib.suppress(AssertionError):
            self.run("scancel", "--user=root", "--signal=KILL", "--full")
        self.wait_for(lambda: not self.run("squeue", "--noheader"), "an empty queue")

    def logs(self) -> str:
        """Return the ends of the daemons' logs."""
        return "\n".join(
            f"--- {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-15:])
            for path in sorted(self.folder.glob("*.log"))
        )

    def close(self) -> None:
        """End all jobs and daemons."""
        if len(self._daemons) > 1:
            with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
                self.cancel_all()
        # The controller is killed: asked to end, it waits for seconds, and what it would save goes with the folder.
        for daemon in reversed(self._daemons):
            daemon.kill()
            daemon.wait()
        if self._cable is not None:
            self._kill_in_namespaces()
            self._cable.close()

    # --- how it is made --------------------------------------------------------------------------------------------

    def _host(self, number: int, name: str) -> Host:
        if self._cable is None:
            return Host(name, "127.0.0.1")
        return self._cable.connect(number)

    def _write_files(self) -> None:
        (self.folder / "key").write_bytes(os.urandom(1024))
        (self.folder / "key").chmod(0o400)
        (self.folder / "state").mkdir()
        for number in range(_GPUS):
            os.mknod(self.folder / f"gpu{number}", 0o20666, os.makedev(1, 3))  # a twin of /dev/null
        names = ",".join(host.name for host in self.nodes)
        (self.folder / "gres.conf").write_text(
            f"NodeName={names} Name=gpu File={self.folder}/gpu[0-{_GPUS - 1}]\n",
        )
        # Otherwise slurmd does not start where no control groups are mounted; nothing here uses them.
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        here, ports = socket.gethostname().partition(".")[0], _ports(1 + len(self.nodes))
        text = _CONF.format(
            folder=self.folder,
            controller=self.login.name if self.has_networks else here,
            address=self.login.address,
            port=6817 if self.has_networks else ports.pop(),
            nodes="\n".join(
                f"NodeName={host.name} NodeAddr={host.address} CPUs={_CPUS} RealMemory=4000 Gres=gpu:{_GPUS} "
                + ("State=UNKNOWN" if self.has_networks else f"NodeHostname={here} Port={ports.pop()}")
                for host in self.nodes
            ),
        )
        (self.folder / "slurm.conf").write_text(text)

    def _start(self) -> None:
        munge = {name: f"--{name}-file={self.folder}/munge.{name}" for name in ("pid", "log", "seed")}
        key, sock = f"--key-file={self.folder}/key", f"--socket={self.folder}/munge.sock"
        self._daemon(Host("", ""), "munged", "--foreground", "--force", key, sock, *munge.values())
        self.wait_for((self.folder / "munge.sock").exists, "munged")
        self._daemon(self.login, "slurmctld", "-D")
        for host in self.nodes:
            self._daemon(host, "slurmd", "-D", "-N", host.name)
        self.wait_for(self._is_up, "idle nodes")

    def _daemon(self, host: Host, *argv: str) -> None:
        path = f"{os.environ['PATH']}{os.pathsep}/usr/sbin"
        with (self.folder / f"{argv[0]}.{host.name}.err.log").open("wb") as output:
            daemon = subprocess.Popen(
                host.command(["setpriv", "--pdeathsig=KILL", *argv]),
                cwd="/",
                env={**self.environ, "PATH": path},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._daemons.append(daemon)

    def _is_up(self) -> bool:
        ended = [daemon.args for daemon in self._daemons if daemon.poll() is not None]
        if ended:
            raise OSError(f"{ended} ended\n{self.logs()}")
        done = subprocess.run(
            self.command(["sinfo", "--noheader", "--Node", "--partition=low", "--format=%t"]),
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.split() == ["idle"] * len(self.nodes)

    def _kill_in_namespaces(self) -> None:
        """Kill what is left on the hosts: Slurm's step daemons, and processes of jobs that have escaped them."""
        ours = {_network(host.pid) for host in [self.login, *self.nodes]}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and _network(int(entry.name)) in ours:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(entry.name), signal.SIGKILL)


def _network(pid: int | None) -> str | None:
    """Return which network namespace a process is in; None: it has ended."""
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/ns/net")
    return None


def _cable(folder: Path) -> Cable | None:
    if shutil.which("ip") is None:
        return None
    try:
        return Cable(folder, names={_LOGIN: "login"})
    except OSError:
        return None


def _ports(count: int) -> list[int]:
    """Return ports that were free a moment ago."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]


def _without_slurm(environ: Mapping[str, str]) -> dict[str, str]:
    """Return variables without those that a job has from Slurm, if the tests themselves run in one."""
    return {name: value for name, value in environ.items() if not name.startswith(("SLURM_", "SBATCH_", "PYTEST_"))}


def lack() -> str:
    """Say why there can be no cluster here; empty: there can be one."""
    path = f"{os.environ['PATH']}{os.pathsep}/usr/sbin"
    missing = [package for program, package in _PROGRAMS.items() if shutil.which(program, path=path) is None]
    if missing:
        return f"a Slurm cluster needs {', '.join(missing)}"
    return "" if os.geteuid() == 0 else "a Slurm cluster needs root"


@pytest.fixture(scope="session")
def slurm_cluster() -> Iterator[Cluster]:
    """One cluster for all tests of this process."""
    if why := lack():
        pytest.skip(why)
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp", ignore_cleanup_errors=True) as folder:
        cluster = Cluster(Path(folder))
        try:
            yield cluster
        finally:
            cluster.close()


@pytest.fixture
def slurm(slurm_cluster: Cluster) -> Iterator[Cluster]:
    """The cluster, with an empty queue before and after the test."""
    yield slurm_cluster
    slurm_cluster.cancel_all()
