"""Start, signal, await and end processes; neither torch nor Hydra is known here.

A *client* (`client`, in the launcher or in an agent) asks a *server* (`server`) for processes over a socket. The server
is a fork of the launcher where that is sound (`fork_safety`), else a new interpreter (`fresh_server`); `open_server`
chooses. The server forks (`forked`) or executes what it is asked for, and `entry` is what runs in every process that
it starts. A process hands over its end as an `outcome`.

The lifetime of a process is that of the connection through which it was asked for: when the connection closes, for
whatever reason, everything that was started through it ends. No process outlives its server: the kernel kills it.
"""
