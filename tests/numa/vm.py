"""A virtual machine with several NUMA nodes, by software emulation: built and booted in well under a minute.

The guest is a Debian or Ubuntu kernel and a RAM disk that holds this Python, its standard library, psutil and the
package under test; `/init` is tests/numa/guest.py itself. Needed are qemu-system-x86_64 and a kernel: the file named by
ELASTIC_HYDRA_TEST_KERNEL, one below /boot that can be read, or one that apt-get can download.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("ELASTIC_HYDRA_TEST_CACHE", "~/.cache/elastic_hydra_tests")).expanduser()
_KERNEL_PACKAGES = ("linux-image-cloud-amd64", "linux-image-virtual", "linux-image-amd64")
# Large, and not needed for anything that runs in the guest.
_LEFT_OUT = {"test", "idlelib", "tkinter", "ensurepip", "lib2to3", "turtledemo", "site-packages", "dist-packages"} | {
    "include",
    "mypy",
    "mypyc",
    "pip",
    "scipy",
    "sklearn",
}
_DONE = "GUEST REPORT "

MACHINE = (
    # 2 packages, 4 nodes with 2 cores of 2 threads each, a fifth node with memory only
    "-smp 16,sockets=2,dies=1,cores=4,threads=2 -m {total}M "
    + "".join(
        f"-object memory-backend-ram,size={{node}}M,id=m{n} -numa node,nodeid={n},cpus={4 * n}-{4 * n + 3},memdev=m{n} "
        for n in range(4)
    )
    + "-object memory-backend-ram,size=256M,id=m4 -numa node,nodeid=4,memdev=m4 "
    + "".join(
        f"-numa dist,src={a},dst={b},val={40 if b == 4 else 12 if a // 2 == b // 2 else 31} "
        for a in range(5)
        for b in range(a + 1, 5)
    )
    # a display device, which looks like a GPU, on nodes 1 and 3
    + "".join(
        f"-device pxb-pcie,id=px{n},bus_nr={64 * bus},bus=pcie.0,numa_node={n} "
        f"-device pcie-root-port,id=rp{n},bus=px{n},chassis={n} -device bochs-display,bus=rp{n} "
        for bus, n in ((1, 1), (2, 3))
    )
)


class Unavailable(Exception):
    """The virtual machine cannot be had here, and why."""


def boot(guest: Path, seconds: float = 240, torch: bool = False) -> dict[str, Any]:
    """Boot the machine and return what it reports.

    Args:
        guest: Its only program.
        seconds: When to give up.
        torch: Give it this environment's other packages too, and the memory to hold them.
    """
    qemu = shutil.which("qemu-system-x86_64")
    if qemu is None:
        raise Unavailable("qemu-system-x86_64 is not installed (Debian: apt-get install qemu-system-x86)")
    CACHE.mkdir(parents=True, exist_ok=True)
    megabytes = 2048 if torch else 512
    machine = MACHINE.format(node=megabytes, total=4 * megabytes + 256)
    command = [qemu, "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max,vendor=GenuineIntel", "-nographic"]
    command += ["-no-reboot", "-nodefaults", "-serial", "stdio", "-display", "none", *machine.split()]
    # The emulated timer is late on a busy host; without the last word the kernel takes that for a fault, and panics.
    command += ["-kernel", str(kernel()), "-append", "console=ttyS0 quiet panic=-1 rdinit=/init no_timer_check"]
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        disk = Path(folder, "initrd")
        # Unpacking 800 MB costs the emulated CPU more than copying them.
        with disk.open("wb") if torch else gzip.open(disk, "wb", compresslevel=1) as file:
            file.writelines(archive(files(guest, torch)))
        output = _run([*command, "-initrd", str(disk)], seconds)
    for line in output.splitlines():
        if line.startswith(_DONE):
            report: dict[str, Any] = json.loads(line.removeprefix(_DONE))
            return report
    raise AssertionError(f"the guest did not report:\n{output[-4000:]}")


def _run(command: list[str], seconds: float) -> str:
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds)
    except subprocess.TimeoutExpired as expired:
        return (expired.stdout or b"").decode(errors="replace")
    return done.stdout + done.stderr


def kernel() -> Path:
    """A kernel that this user may read; downloaded once where there is none."""
    given = os.environ.get("ELASTIC_HYDRA_TEST_KERNEL")
    candidates = [Path(given)] if given else sorted((*CACHE.glob("boot/vmlinuz-*"), *Path("/boot").glob("vmlinuz-*")))
    readable = [path for path in candidates if os.access(path, os.R_OK)]
    if readable:
        return readable[-1]
    if given or shutil.which("apt-get") is None:
        raise Unavailable("no kernel that can be read; name one in ELASTIC_HYDRA_TEST_KERNEL")
    for meta in _KERNEL_PACKAGES:
        listed = subprocess.run(["apt-cache", "depends", meta], capture_output=True, text=True).stdout
        package = re.search(r"Depends: (linux-image-\d\S*)", listed)
        if package:
            break
    else:
        raise Unavailable("apt-get knows no kernel package (apt-get update?)")
    for command in (["apt-get", "download", package[1]], ["sh", "-c", f"dpkg-deb -x {package[1]}_*.deb ."]):
        done = subprocess.run(command, cwd=CACHE, capture_output=True, text=True)
        if done.returncode:
            raise Unavailable(f"{' '.join(command)} failed: {done.stderr.strip()}")
    return max(CACHE.glob("boot/vmlinuz-*"))


def files(guest: Path, torch: bool = False) -> Iterator[tuple[str, Path]]:
    """(path in the guest, file here) for all that the guest needs."""
    python = Path(sys.executable).resolve()
    library = Path(sysconfig.get_path("stdlib"))
    psutil = importlib.util.find_spec("psutil")
    assert psutil is not None
    assert psutil.origin is not None
    yield "/init", guest
    yield "/python", python
    found = [python]
    trees = [(library, str(library)), (Path(psutil.origin).parent, "/site/psutil")]
    if torch:
        trees += [(Path(sysconfig.get_path("purelib")), "/site")]
    trees += [(REPOSITORY / "elastic_hydra", "/site/elastic_hydra")]
    for base, place in trees:
        for path in sorted(base.rglob("*")):
            inner = path.relative_to(base)
            binary = ".so" in path.suffixes or path.name == "torch_shm_manager"
            if path.is_file() and not _LEFT_OUT & set(inner.parts) and (binary or path.suffix == ".py"):
                yield f"{place}/{inner}", path
                found += [path] * binary
    for name in {"guest.py", guest.name}:
        yield f"/site/{name}", Path(__file__).parent / name
    linked = subprocess.run(["ldd", *map(str, found)], capture_output=True, text=True).stdout
    for name in sorted(set(re.findall(r"(/\S+\.so\S*) \(0x", linked)) - set(map(str, found))):
        yield name, Path(name)


def archive(entries: Iterable[tuple[str, Path]]) -> Iterator[bytes]:
    """A cpio archive in the kernel's format (Documentation/driver-api/early-userspace/buffer-format)."""
    seen: set[str] = set()
    number = 0

    def entry(name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> Iterator[bytes]:
        nonlocal number
        number += 1
        encoded = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(encoded), 0)
        head = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
        yield head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)

    def folder(name: str) -> Iterator[bytes]:
        if name not in seen and name != ".":
            seen.add(name)
            yield from folder(os.path.dirname(name) or ".")
            yield from entry(name, stat.S_IFDIR | 0o755)

    for name in ("dev", "proc", "sys", "tmp", "dev/shm"):
        yield from folder(name)
    yield from entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    for place, path in entries:
        yield from folder(os.path.dirname(place.lstrip("/")) or ".")
        yield from entry(place.lstrip("/"), stat.S_IFREG | 0o755, path.read_bytes())
    yield from entry("TRAILER!!!", 0)
