"""Hosts by ssh: machines of a list, on each of which one command starts the host process.

::

    launcher ── ssh n1 ══ sshd on n1 ── host process
             └─ ssh n2 ══ sshd on n2 ── host process

ssh itself never asks for anything. Whether a connection is dead, the signs of life of its two ends say, and not ssh: so
that a cable may be cut for as long as the configuration says. The host process notices that its launcher is gone by the
end of its stream, or by silence: sshd kills nothing.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.hosts import HostsConfig
from elastic_hydra.hosts.advised import AdvisedTransport, python_advice
from elastic_hydra.hosts.listed import LIST_KEY, listed_hosts
from elastic_hydra.hosts.transport import Ended, host_command

__all__ = ["SshEngine", "SshTransport", "engine"]

_OPTIONS = (
    "-T",  # no terminal: it would change bytes
    "-a",
    "-x",
    "-oBatchMode=yes",
    "-oConnectTimeout=30",  # the kernel would try for two minutes
    "-oServerAliveInterval=0",
    # A connection of its own: the end of one that is shared would end all hosts.
    "-oControlMaster=no",
    "-oControlPath=none",
)
_OF_SSH = 255
"""The exit code of ssh when the connection has failed; any other is that of the host process."""
_ADVICE = {
    r"Could not resolve hostname": "ssh does not know {place}: correct {key}, or give it an address in ~/.ssh/config",
    r"REMOTE HOST IDENTIFICATION HAS CHANGED": (
        "{place} has another key than ~/.ssh/known_hosts says: if it was set up anew, remove the old one "
        "(ssh-keygen -R), then connect once by hand: ssh {place} true"
    ),
    r"Host key verification failed": (
        "the key of {place} is not known here: connect once by hand and confirm it: ssh {place} true"
    ),
    r": Permission denied \(": (
        "{place} takes none of your keys, and nobody is here to type a password: `ssh {place} true` must work without "
        "one; look at the user's name, copy your key there (ssh-copy-id {place}), or start an ssh-agent"
    ),
    r"Connection refused": "{place} has no ssh server at that port: start sshd, or set the port in ~/.ssh/config",
    r"No route to host|Connection timed out|Operation timed out|Network is unreachable": (
        "{place} cannot be reached from here: look whether it is up, or leave it out of {key}"
    ),
    r"kex_exchange_identification|^Connection (closed|reset) by": (
        "the ssh server of {place} ends connections before they are logged in: it may have too many at once "
        "(MaxStartups in its sshd_config)"
    ),
    r"[Bb]ad configuration option|unknown option|illegal option|^command-line: line 0": (
        "correct hydra.launcher.hosts.ssh_options: each is one word for ssh, as -p2222 or -oProxyJump=login"
    ),
}


def engine(keys: HostsConfig) -> SshEngine:
    """Return the hosts of the list.

    Raises:
        ConfigError: the list, or ssh, cannot be used.
    """
    if shutil.which("ssh") is None:
        raise ConfigError("hydra.launcher.hosts.engine=ssh: there is no program ssh here; install OpenSSH's client")
    return SshEngine(listed_hosts(keys.list), keys.python or "", tuple(keys.ssh_options), keys.max)


@dataclass(frozen=True)
class SshEngine:
    """Hosts that ssh reaches."""

    names: Sequence[str]
    """As ssh takes them."""
    python: str = ""
    """The interpreter on the hosts; empty: the path of this one."""
    options: Sequence[str] = ()
    """Further options for ssh."""
    most: int | None = None
    """How many hosts there are at most; None: all of them."""
    is_elastic = False

    def places(self) -> Sequence[str]:
        """Return the hosts' names."""
        return self.names[: self.most]

    def transport(self, place: str) -> SshTransport:
        """Return a new way to a host."""
        return SshTransport(place, self.python, self.options)


class SshTransport(AdvisedTransport):
    """ssh, with the host process as its remote command.

    Args:
        place: the host, as ssh takes it.
        python: the interpreter there; empty: the path of this one.
        options: further options for ssh.
        environment: of ssh; None: that of this process.
    """

    def __init__(
        self, place: str, python: str = "", options: Sequence[str] = (), environment: Mapping[str, str] | None = None
    ) -> None:
        # The login shell, whichever it is, gets one line. `exec` lets ssh have the exit code of the host process.
        remote = f"exec {shlex.join(host_command(python))}"
        advice = {pattern: text.format(place=place, key=LIST_KEY) for pattern, text in _ADVICE.items()}
        advice |= python_advice(python or sys.executable, place)
        # Of an option that is there twice, ssh takes the first: the user's.
        super().__init__(["ssh", *options, *_OPTIONS, "--", place, remote], environment, f"ssh {place}", advice)

    def ended(self) -> Ended | None:
        """Return how ssh has ended; any exit code but its own is the host process's, which then has ended, too."""
        ended = super().ended()
        if ended is None or not 0 <= ended.code < _OF_SSH:
            return ended
        return replace(ended, host_is_gone=True)
