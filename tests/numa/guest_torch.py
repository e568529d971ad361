#!/python -I
"""The program of the virtual machine for torch: workers that are bound after `import torch`."""

import os
import sys

sys.path.insert(0, "/site")

import guest


def workers():
    """A spawned and a forked worker of torch.multiprocessing, for the devices on nodes 1 and 3."""
    import torch.multiprocessing

    found, settings = guest.host(cpus="node", memory="bind")
    answers = []
    for method, binding in zip(("spawn", "fork"), found.plan(settings, 2, {}), strict=True):
        context = torch.multiprocessing.get_context(method)
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(binding, theirs))
        process.start()
        answer = ours.recv()
        answers.append(guest.kernel_says(process.pid) | answer)
        ours.send("done")
        process.join()
    return answers


def work(binding, pipe):
    """Bind, hold a tensor of 64 MB, compute in parallel, and tell what torch uses."""
    import torch

    from elastic_hydra.numa import bind

    applied = bind.apply(binding)
    torch.set_num_threads(binding.threads)
    tensor = torch.ones(16 << 20)
    tensor += tensor.sum()
    threads = len(os.listdir("/proc/self/task"))
    pipe.send({"threads": torch.get_num_threads(), "tasks": threads, "problems": applied.problems})
    pipe.recv()
    del tensor


if __name__ == "__main__":
    guest.main(workers)
