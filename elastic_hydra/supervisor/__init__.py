"""Start, signal, await and end processes; neither torch nor Hydra is known here.

A *client* (`client`, in the launcher or in an agent) asks a *server* (`server`) for processes; what they say to each
other stands in `protocol`, and `channel` carries it. `open_server` makes the server: a fork of the launcher where that
is sound (`fork_safety`), else a new interpreter. The server forks processes ahead (`spare`), and each becomes what it
is told to be (`forked`): an agent, a worker, or a program.

Which module runs in which process::

    launcher    client, server_process, open_server, pickles, main_module
    server      server, children, remains; fresh_server, where it is a new interpreter
    agent       spare, forked, entry; client, by which it asks for its workers
    worker      spare, forked, entry, ending; in a new interpreter: entry, ending

`context.current()` says in any process which of them it is.

The lifetime of a process is that of the connection through which it was asked for: when the connection closes, for
whatever reason, everything that was started through it ends. No process outlives its server: the kernel kills it, and
what the kernel does not reach is killed by the process that had started the server (`server_process`).
"""
