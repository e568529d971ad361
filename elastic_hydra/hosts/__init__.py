"""Machines that give slots: how the launcher reaches each, what it finds there, and the process that runs there.

::

    launcher                                       host
        sweeps ── HostConnection ══ stream ══════▶   host process     one loop, no thread
                        │                              └── warm server ── agents, workers
                    Transport                                (a fresh interpreter)
                    opens the stream, says why it ended, kills it: a command such as ssh or srun, or a relay

Who dies with whom:

- A launcher that is gone, or not heard of for `silence` seconds, ends everything on its hosts: each host process ends
  its warm server in order (SIGTERM, after the shutdown time-out SIGKILL), and itself.
- A host process that is gone ends what runs there, too: its warm server sees that its client is gone.
- A host that says nothing for so long is lost to the launcher. Its processes count as ended only when it is certain
  that nothing of them runs any more.

Four rules hold for the stream. Each was found by a failure, with srun, ssh, or a cable that was cut:

1. Every frame ends in a newline. srun's daemon keeps what follows the last newline.
2. Both sides ping, and both have a deadline. A cut cable gives no end of file, ever.
3. The host process says farewell. An end of file, and the exit code of ssh or srun, prove nothing.
4. Nobody but the host process holds its end of the stream, and nobody but the launcher the other: else a process that
   stays behind keeps the end of file from coming.

To write another way to reach a host: write a `Transport` (`transport`), which for a command line is a call of
`CommandTransport`. All else is the same for all of them.

Which module runs where::

    launcher        engines and their transports, listed, link, keep_alive, connection, processes, wanted
    host            host_process, environment, event_file
    both            stream, hello, signs_of_life
"""
