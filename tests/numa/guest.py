#!/python -I
"""The only program of the virtual machine (see vm.py): binds workers, and reports what the kernel says of them.

Nothing here asserts; test_vm.py judges. It reads /proc of each worker from outside, never the worker's own report.
"""

import ctypes
import dataclasses
import glob
import json
import os
import sys
import threading
import time
import traceback

sys.path.insert(0, "/site")
MEGABYTE = 1 << 20
LIBC = ctypes.CDLL(None, use_errno=True)


def main(*steps):
    for kind, place in (("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/dev/shm")):
        os.makedirs(place, exist_ok=True)
        LIBC.mount(kind.encode(), place.encode(), kind.encode(), 0, None)
    LIBC.mount(b"cgroup2", b"/sys/fs/cgroup", b"cgroup2", 0, None)
    os.environ["PATH"] = "/"
    report = {}
    for step in steps:
        began = time.monotonic()
        print(step.__name__, flush=True)
        try:
            report[step.__name__] = step()
        except Exception:
            report[step.__name__] = {"error": traceback.format_exc()}
        report[step.__name__ + "_seconds"] = round(time.monotonic() - began, 1)
    print("\nGUEST REPORT " + json.dumps(report), flush=True)
    os.sync()
    LIBC.reboot(0x4321FEDC)  # power off


def host(**keys):
    from elastic_hydra.config.numa import NumaConfig
    from elastic_hydra.numa.machine import read_machine

    settings = NumaConfig(**keys)
    return read_machine(), settings


def as_json(applied):
    return dataclasses.asdict(applied) | {"problems": applied.problems}


def lists_of(allowance):
    from elastic_hydra.config.lists import format_list

    return {"cpus": format_list(allowance.cpus), "mems": format_list(allowance.mems)}


def machine():
    found, _ = host()
    topology = found.topology
    return {
        "cores": topology.cores(topology.cpus),
        "packages": len(topology.groups("package")),
        "nodes": {node.id: [sorted(node.cpus), node.memory] for node in topology.nodes.values()},
        "distance": [[topology.distance(a, b) for b in topology.nodes] for a in topology.nodes],
        "devices": [[device.address, device.node] for device in found.topology.devices],
        "allowance": lists_of(found.allowance),
    }


def workers():
    """Two workers whose devices are on nodes 1 and 3, each with threads and a child of its own."""
    found, settings = host(cpus="node", memory="preferred")
    return [watch(binding, threads=3, child=True) for binding in found.plan(settings, 2, {})]


def memory():
    from elastic_hydra.config.numa import Cpus, Memory, NumaConfig, OnError

    found, _ = host()
    reports = {}
    for policy in (Memory.local, Memory.preferred, Memory.bind, Memory.interleave):
        cpus = Cpus.package if policy == Memory.interleave else Cpus.node
        settings = NumaConfig(cpus=cpus, memory=policy, on_memory_error=OnError.error)
        reports[policy.value] = watch(found.plan(settings, 1, {})[0])
    return reports


def late_migration():
    """Pages touched on node 0 before the worker is bound to node 1."""
    found, settings = host(cpus="node", memory="bind")
    binding = found.plan(settings, 1, {})[0]
    still = dataclasses.replace(binding, migrate=False)
    return {str(one.migrate): watch(one, touch_first=True) for one in (still, binding)}


def script():
    """A script entry point: bound before its interpreter starts, as the launcher's server does it."""
    from elastic_hydra.supervisor.forked import ProcessSpec, become

    found, settings = host(cpus="node", memory="bind")
    program = "a = bytearray(64 << 20); a[::4096] = b'x' * len(a[::4096]); print('ready', flush=True); input()"
    argv, binding = ["/python", "-I", "-c", program], found.plan(settings, 2, {})[1]
    said, say = os.pipe()
    wait, end = os.pipe()

    def become_program():
        os.dup2(wait, 0)
        os.dup2(say, 1)
        os.close(end)
        become(ProcessSpec(argv, dict(os.environ), "/", binding=binding), ())

    pid = fork(become_program)
    os.close(say)
    with os.fdopen(said) as answers:
        answers.readline()
    seen = kernel_says(pid)
    os.write(end, b"\n")
    os.waitpid(pid, 0)
    return seen


def sweep():
    """Jobs side by side, each by an agent that is confined to its slot and plans what it sees there."""
    from elastic_hydra.numa.carve import cut, instances

    found, exclusive = host(cpus="node", exclusive=True, memory="preferred", near="none")
    _, latency = host(cpus="spread", exclusive=True, memory="local", near="none", smt=False, cores_per_worker=1)
    halves = cut(found.topology, found.allowance, 2)
    cores = instances(found.topology, found.allowance, 1)
    return {
        "halves": side_by_side(halves, exclusive, workers=4),
        "instances": side_by_side(cores, latency, workers=1),
    }


def side_by_side(slots, settings, workers):
    """What the kernel says of the workers of one job per slot, all of them alive at once."""
    from elastic_hydra.numa.machine import read_machine
    from elastic_hydra.supervisor.forked import ProcessSpec, become

    agents = []
    for slot in slots:
        said, say = os.pipe()
        wait, end = os.pipe()

        def act(slot=slot, say=say, wait=wait, end=end):
            os.close(end)
            become(ProcessSpec(None, dict(os.environ), "/", cpus=slot.cpus), ())
            started = [start(one) for one in read_machine().plan(settings, workers, {}, slot)]
            os.write(say, b"started\n")
            os.read(wait, 1)
            seen = [kernel_says(worker[0]) for worker in started]
            os.write(say, json.dumps(seen).encode() + b"\n")
            for worker in started:
                finish(worker)

        pid = fork(act)
        os.close(say)
        os.close(wait)
        agents.append((pid, os.fdopen(said), end))
    for _, answers, _ in agents:
        answers.readline()
    seen = []
    for pid, answers, end in agents:  # each looks while the others still run
        os.write(end, b"x")
        seen.append(json.loads(answers.readline()))
        os.waitpid(pid, 0)
    return seen


def hot_unplug():
    """A CPU goes away between plan and binding."""
    found, settings = host(cpus="node", near="none", on_error="warn")
    binding = found.plan(settings, 1, {})[0]
    online = f"/sys/devices/system/cpu/cpu{binding.cpus[-1]}/online"
    write(online, "0")
    try:
        return watch(binding) | {"again": host()[0].plan(settings, 1, {})[0].to_dict()["cpus"]}
    finally:
        write(online, "1")


def cpuset():
    """A container that has node 0 only, while the devices are on nodes 1 and 3."""
    write("/sys/fs/cgroup/cgroup.subtree_control", "+cpuset")
    os.mkdir("/sys/fs/cgroup/job")
    write("/sys/fs/cgroup/job/cpuset.cpus", "0-3")
    write("/sys/fs/cgroup/job/cpuset.mems", "0")
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        write("/sys/fs/cgroup/job/cgroup.procs", "0")
        found, settings = host(cpus="node", memory="preferred")
        binding = found.plan(settings, 1, {})[0]
        seen = watch(binding) | {"why": binding.why, "allowance": lists_of(found.allowance)}
        os.write(writer, json.dumps(seen).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as answers:
        answer = answers.read()
    os.waitpid(child, 0)
    return json.loads(answer)


def fork(act):
    """Run something in a forked process, which ends with it; its process id."""
    pid = os.fork()
    if not pid:
        try:
            act()
        except BaseException:
            traceback.print_exc()
        finally:  # whatever happens: a second copy of this program would power the machine off
            os._exit(0)
    return pid


def watch(binding, **keys):
    worker = start(binding, **keys)
    seen = kernel_says(worker[0])
    return seen | finish(worker)


def start(binding, *, threads=0, child=False, touch_first=False):
    """Fork a worker that binds itself, touches 64 MB and waits; (pid, its report, the pipe that ends it)."""
    said, say = os.pipe()
    wait, end = os.pipe()
    pid = os.fork()
    if pid:
        os.close(say)
        os.close(wait)
        with os.fdopen(said) as answers:
            return pid, json.loads(answers.readline()), end
    try:
        os.close(end)
        from elastic_hydra.numa import bind

        if touch_first:
            os.sched_setaffinity(0, {0})
            early = touch()
        stop = threading.Event()
        for _ in range(threads):
            threading.Thread(target=stop.wait, daemon=True).start()
        applied = bind.apply(binding)
        if not touch_first:
            early = touch()
        grandchild = os.fork() if child else None
        if grandchild == 0:
            os.read(wait, 1)
            os._exit(0)
        os.write(
            say,
            json.dumps({"applied": as_json(applied), "child": grandchild and kernel_says(grandchild)}).encode() + b"\n",
        )
        os.read(wait, 1)
        assert early
    except BaseException:
        os.write(say, json.dumps({"error": traceback.format_exc()}).encode() + b"\n")
    finally:
        os._exit(0)


def finish(worker):
    pid, answer, end = worker
    os.write(end, b"xx")  # one for its child
    os.close(end)
    os.waitpid(pid, 0)
    return answer


def touch():
    block = bytearray(64 * MEGABYTE)
    block[::4096] = b"x" * len(block[::4096])
    return block


def kernel_says(pid, address=None):
    """CPUs of every thread; memory policy and pages per node of one block: the largest, or that of an address."""
    masks = set()
    for status in glob.glob(f"/proc/{pid}/task/*/status"):
        lines = dict(line.split(":\t", 1) for line in read(status).splitlines() if ":\t" in line)
        masks.add(lines.get("Cpus_allowed_list", ""))
    blocks = read(f"/proc/{pid}/numa_maps").splitlines()
    if address is None:
        block = max(blocks, key=pages, default="")
    else:
        block = [line for line in blocks if int(line.split()[0], 16) <= address][-1]
    counts = [word[1:].split("=") for word in block.split() if word[0] == "N" and "=" in word]
    nodes = {node: int(count) for node, count in counts}
    return {"masks": sorted(masks), "policy": block.split()[1] if block else "", "pages": nodes}


def pages(line):
    return max((int(word[5:]) for word in line.split() if word.startswith("anon=")), default=0)


def read(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def write(path, text):
    with open(path, "w") as file:
        file.write(text)


if __name__ == "__main__":
    main(machine, workers, memory, late_migration, script, sweep, hot_unplug, cpuset)
