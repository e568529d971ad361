"""How long one process waits for another one: every time-out that is no key, and which must be shorter than which.

A process that has to stop others is itself stopped by somebody, who must leave it time enough. So the time-outs depend
on each other; `ORDERS` says how, and the tests hold it. All values are seconds. Keys of `hydra.launcher` are described
in the schema, and what must hold between two of them is checked together with the configuration.
"""

from __future__ import annotations

import time
from typing import NamedTuple

__all__ = ["ORDERS", "Order", "end_of_agent", "end_of_job", "end_of_server", "now"]

# --- stopping ---------------------------------------------------------------------------------------------------------

AFTER_SIGKILL = 5.0
"""Who stops a process waits for its end after SIGKILL; then the process counts as stuck in the kernel, and is
reported."""
REMAINS = 1.0
"""A server waits for the end of what processes have left behind and what it has killed; so does whoever ends the
orphans of a server."""
CLEAN = 10.0
"""An agent waits for its server to kill what workers have left behind."""
ORPHANS = 5.0
"""A launcher or an agent looks for orphans of a server that has died, to kill them."""
AGENT_MARGIN = 8.0
"""A launcher waits for an agent that it stops: so much longer than the agent waits for its workers
(`shutdown_timeout`; after SIGUSR1 and the like, `checkpoint_timeout` before); then it kills the agent."""
SERVER_MARGIN = 10.0
"""A launcher waits for the end of its server: so much longer than the server waits for its agents; then it kills the
server."""
TRANSPORT = 2.0
"""A launcher waits for ssh, srun or whatever leads to a host to end after SIGTERM; then it kills that."""
SCONTROL = 30.0
"""A launcher that is about to end waits for Slurm's answer; a controller that is away costs scontrol nine seconds."""
SLURM = 60.0
"""A launcher that starts waits for the answer of one of Slurm's commands."""
SLURM_LOOK = 10.0
"""Whoever only looks at a job in Slurm waits for its answer, and does without it then."""
REQUEUE = 60.0
"""A launcher whose Slurm job goes back into the queue waits to be told to end."""
LEASE = 60.0
"""A launcher in a batch system is killed when its sweep's directory was out of its reach for so long: a launcher on
another host may begin a little later."""
HOST_HELLO = 600.0
"""A host process waits for the first word of its launcher, which may compose a job or hear its sweeper out first."""
LOGIN = 120.0
"""A launcher waits for the first word of a host process that needs no place in a queue; then it tries again."""
EXAMINATION = 120.0
"""A launcher waits for what a host says of itself: a directory on it may be out of reach; then it tries again."""
LAUNCHER_AWAY = 86400.0
"""Hosts stay with a launcher that runs, but does something else: its sweeper trains a model, or somebody has stopped
its output by Ctrl-S for the night. One that is stuck keeps them no longer."""
HOST_FAREWELL = 5.0
"""A host process that ends tries to write what its launcher has not read yet."""
HOST_PROCESS = 3.0
"""The warm server on another host ends everything when its host process, which somebody may have stopped, has not done
so: so much later than the host process should have begun."""
HOST_MARGIN = 15.0
"""A launcher takes what has run on a host that is lost for ended: so much later than the host process begins to end
it, and the shutdown time-out of what runs there."""
RAY_HEAD = 5.0
"""A Ray driver waits for an answer at the address of a cluster's head; Ray itself would wait for minutes."""
RAY_TOKEN = 10.0
"""A Ray driver waits for the token of whoever has connected to its port."""
RAY_REASON = 5.0
"""A Ray driver waits for Ray to say why an actor has died whose host process is known to have ended."""
RAY_HOSTS = 120.0
"""A Ray driver whose launcher is gone waits for the hosts to end in order; then their actors end with it."""
RAY_DRIVER = 20.0
"""A launcher that has let its hosts go waits for its Ray driver to leave the cluster; then it kills the driver."""
DEATH_WITH_SERVER = 5.0
"""An agent whose server has died waits for its own death: the kernel closes the connections of a process before it
kills the children."""
HANG_MARGIN = 15.0
"""A launcher waits for an agent whose job has exceeded `watch.time_limit`: so much longer than `shutdown_timeout`;
then it kills the agent."""
STACKS = 3.0
"""An agent waits for its workers to write their stacks, and again for programs that it has to abort for that."""
STACKS_QUIET = 0.05
"""An agent takes the stacks of a worker for complete when no line has come for so long."""

CONTROL_ANSWER = 20.0
"""A command waits for the answer of a launcher, which answers between two steps: it may compose a job, or wait for a
disk."""
MAIL_ANSWER = 90.0
"""A command on another host waits for the answer of a launcher, which looks for requests every few seconds; and both
see what the other one has written when the network file system shows it."""
STACKS_ANSWER = 15.0
"""A command waits for an agent whose workers write their stacks; after a third of that, it asks again."""

# --- finding out who failed first -------------------------------------------------------------------------------------

ROOT_CAUSE_DELAY = 0.5
"""An agent whose workers have all lost a connection waits for the death of the worker that explains it: the kernel
closes a worker's sockets before its parent hears of its end."""
ROOT_CAUSE_LAG = 1.0
"""A death explains lost connections of other workers if it is reported at most so much later."""
ROOT_CAUSE_PATIENCE = 2.0
"""An agent whose workers have lost a connection to another node waits for that node's word about the cause."""
TRACEBACK_HELD = 2.0
"""An agent holds a worker's traceback back from the console, to see whether the worker dies, and of what."""

# --- several nodes ----------------------------------------------------------------------------------------------------

CONSENSUS = 60.0
"""An agent waits for a word that another agent is about to write into their store."""
FAREWELL = 3.0
"""An agent that gives the job up waits for the other agents to read why; a lost node never does."""
STORE_LINGER = 3.0
"""A store stays for the last words of the other nodes when its launcher has ended."""
STORE_HANDSHAKE = 60.0
"""A launcher waits for the answer of a store that has taken its connection: one that starts has to import torch."""
STORE_ANSWER = 10.0
"""A launcher waits for a connection to a store, and for the answer of one that runs."""

# --- the journal ------------------------------------------------------------------------------------------------------

JOURNAL = 10.0
"""A launcher that runs no job any more tries to write what the disk refuses, and a reader waits for the rest of a
line."""


class Order(NamedTuple):
    """A time-out that must be longer than others together."""

    shorter: tuple[str, ...]
    """Names of time-outs that follow one another."""
    longer: str
    otherwise: str
    """What would happen else."""

    def holds(self) -> bool:
        """Whether it is so."""
        return float(sum(globals()[name] for name in self.shorter)) < float(globals()[self.longer])


ORDERS = (
    Order(("AFTER_SIGKILL",), "AGENT_MARGIN", "an agent is killed before it reports a worker that is stuck"),
    Order(("AFTER_SIGKILL", "REMAINS"), "SERVER_MARGIN", "a server is killed while those it has killed still end"),
    Order(
        ("STACKS", "STACKS", "AFTER_SIGKILL"),
        "HANG_MARGIN",
        "an agent that writes stacks and stops its workers is taken for one that hangs",
    ),
    Order(
        ("HOST_PROCESS", "SERVER_MARGIN"),
        "HOST_MARGIN",
        "a job is started again while the server of a lost host still ends its processes",
    ),
    Order(("REMAINS",), "CLEAN", "an agent goes on while the workers' remains still end"),
    Order(("REMAINS",), "ORPHANS", "orphans are looked for only once, and one that starts meanwhile is overlooked"),
    Order(("STACKS_QUIET",), "STACKS", "the stacks of no worker are ever complete"),
    Order(("STACKS",), "STACKS_ANSWER", "a command gives up while the workers still write their stacks"),
    Order(("ROOT_CAUSE_DELAY",), "ROOT_CAUSE_LAG", "a death for which an agent has waited explains nothing"),
    Order(
        ("ROOT_CAUSE_DELAY",),
        "ROOT_CAUSE_PATIENCE",
        "the node that has lost a connection speaks before the node that knows the cause",
    ),
    Order(("ROOT_CAUSE_DELAY",), "TRACEBACK_HELD", "the traceback of a secondary failure is shown like a cause"),
)
"""What must hold between the time-outs."""


def now() -> float:
    """Return the time in seconds on a clock that goes on while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def end_of_agent(shutdown_timeout: float) -> float:
    """Return the seconds within which an agent that gets SIGTERM must have ended.

    Args:
        shutdown_timeout: seconds that its workers have between SIGTERM and SIGKILL.
    """
    return shutdown_timeout + AGENT_MARGIN


def end_of_server(shutdown_timeout: float) -> float:
    """Return the seconds within which a server without clients must have ended.

    Args:
        shutdown_timeout: seconds that the processes of its last client have between SIGTERM and SIGKILL.
    """
    return shutdown_timeout + SERVER_MARGIN


def end_of_job(time_limit: float, shutdown_timeout: float) -> float:
    """Return the seconds after its start when a job must have ended, and its agent, too.

    Args:
        time_limit: seconds that the job may take.
        shutdown_timeout: seconds that its workers have between SIGTERM and SIGKILL.
    """
    return time_limit + shutdown_timeout + HANG_MARGIN
