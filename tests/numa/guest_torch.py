#!/python -I
"""The program of the virtual machine for torch: workers of the real launcher, for the devices on nodes 1 and 3."""

import fcntl
import os
import socket
import struct
import sys

sys.path.insert(0, "/site")

import guest

SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


def workers():
    """What each start method makes of the same settings."""
    import guest_torch

    from elastic_hydra import LaunchConfig, elastic_launch
    from elastic_hydra.config.numa import Cpus, Memory, NumaConfig, OnError

    turn_on_loopback()
    answers = {}
    for method in ("warm", "spawn"):
        numa = NumaConfig(cpus=Cpus.node, memory=Memory.bind, on_memory_error=OnError.error)
        config = LaunchConfig(1, 1, 2, start_method=method, max_restarts=0, numa=numa)
        answers[method] = [value for _, value in sorted(elastic_launch(config, guest_torch.work)().items())]
    return answers


def work():
    """Hold a tensor of 64 MB, compute in parallel, and tell what the kernel says and what torch uses."""
    import torch

    tensor = torch.ones(16 << 20)
    tensor += tensor.sum()
    tasks = len(os.listdir("/proc/self/task"))
    seen = guest.kernel_says(os.getpid(), tensor.data_ptr())
    return seen | {"threads": torch.get_num_threads(), "tasks": tasks}


def turn_on_loopback():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14s", b"lo", 0, b"")
        flags = struct.unpack("16sh14s", fcntl.ioctl(any_socket, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14s", b"lo", flags | IFF_UP, b""))


if __name__ == "__main__":
    guest.main(workers)
