"""Which accelerators this process would see, in the order of their indices, without touching CUDA or ROCm.

A CUDA context in an agent would make every later fork of it unusable for CUDA, so the driver's files and tools are read
and the rules of CUDA_VISIBLE_DEVICES (CUDA C++ Programming Guide, "CUDA Environment Variables") are applied here.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from elastic_hydra.numa.errors import setting_error
from elastic_hydra.numa.pci import AMD, NVIDIA, Device
from elastic_hydra.numa.sysfs import read_text
from elastic_hydra.numa.topology import Topology

_VGA = 0x0300  # also what a server's management controller shows its console on
_SMI_SECONDS = 20.0

_T = TypeVar("_T")
Run = Callable[[Sequence[str]], "str | None"]


@dataclass(frozen=True)
class _Gpu:
    """One GPU as the driver names it."""

    device: Device
    uuid: str


def visible_accelerators(
    topology: Topology,
    environ: Mapping[str, str],
    root: str | Path = "/",
    run: Run | None = None,
    addresses: Sequence[str] = (),
) -> tuple[Device, ...]:
    """The accelerators a worker started with `environ` would see, by index.

    NVIDIA's come first, else AMD's, else any other accelerator by PCI address; plain display adapters do not count.

    Args:
        topology: The machine.
        environ: The worker's environment: CUDA_VISIBLE_DEVICES, CUDA_DEVICE_ORDER; for AMD ROCR_, HIP_ and
            CUDA_VISIBLE_DEVICES.
        root: Folder with the machine's `sys` and `proc`.
        run: Runs a command and returns its output, None when that fails; by default only for the real machine.
        addresses: `hydra.launcher.numa.devices`: these PCI addresses, in this order, instead of all the above.

    Returns:
        One device per index. `note` says where an order or place is a guess.

    Raises:
        NumaError: An address is not an accelerator of this machine.
    """
    if addresses:
        return _by_address(topology, addresses)
    if run is None:
        run = _run if Path(root) == Path("/") else _run_nothing
    nvidia = [device for device in topology.devices if device.vendor == NVIDIA]
    if nvidia:
        return _visible_nvidia(nvidia, environ, Path(root), run)
    amd = [device for device in topology.devices if device.vendor == AMD]
    if amd:
        visible = _pick_amd(_kfd_order(amd, Path(root)), environ.get("ROCR_VISIBLE_DEVICES"))
        return _pick_amd(visible, environ.get("HIP_VISIBLE_DEVICES", environ.get("CUDA_VISIBLE_DEVICES")))
    return tuple(device for device in topology.devices if device.pci_class >> 8 != _VGA)


def _by_address(topology: Topology, addresses: Sequence[str]) -> tuple[Device, ...]:
    known = {device.address.lower(): device for device in topology.devices}
    for address in addresses:
        if address.lower() not in known:
            there = ", ".join(known) or "none"
            raise setting_error("devices", f"[{address}]", f"no such accelerator; this machine has {there}")
    return tuple(known[address.lower()] for address in addresses)


def _visible_nvidia(devices: Sequence[Device], environ: Mapping[str, str], root: Path, run: Run) -> tuple[Device, ...]:
    gpus = _ask_smi(devices, run) or _ask_driver(devices, root) or [_Gpu(device, "") for device in devices]
    if environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID" and len({gpu.device.model for gpu in gpus}) > 1:
        note = "the GPUs differ and CUDA_DEVICE_ORDER is not PCI_BUS_ID, so CUDA may number them otherwise"
        gpus = [replace(gpu, device=replace(gpu.device, note=note)) for gpu in gpus]
    value = environ.get("CUDA_VISIBLE_DEVICES")
    if value is None:
        return tuple(gpu.device for gpu in gpus)
    parents = _mig_parents(run) if "MIG-" in value else {}
    chosen: list[tuple[str, Device]] = []
    for entry in (part.strip() for part in value.split(",")):
        device = _resolve(entry, gpus, parents)
        if device is None:  # CUDA ignores everything from the first invalid entry on
            break
        chosen.append((entry if entry.startswith("MIG-") else device.address, device))
    if len({name for name, _ in chosen}) < len(chosen):  # and sees no device at all when one is named twice
        return ()
    return tuple(device for _, device in chosen)


def _resolve(entry: str, gpus: Sequence[_Gpu], parents: Mapping[str, str]) -> Device | None:
    """The GPU of one entry: an index, a prefix of one GPU's UUID, or a MIG instance (its parent)."""
    if entry.isdecimal():
        return gpus[int(entry)].device if int(entry) < len(gpus) else None
    if entry.startswith("MIG-GPU-"):  # driver R450: MIG-GPU-<uuid of the GPU>/<gpu instance>/<compute instance>
        entry = entry.removeprefix("MIG-").partition("/")[0]
    elif entry.startswith("MIG-"):
        entry = _only(uuid for mig, uuid in parents.items() if mig.startswith(entry)) or ""
    if not entry.startswith("GPU-"):
        return None
    return _only(gpu.device for gpu in gpus if gpu.uuid.startswith(entry))


def _only(found: Iterable[_T]) -> _T | None:
    several = list(found)
    return several[0] if len(several) == 1 else None


def _ask_smi(devices: Sequence[Device], run: Run) -> list[_Gpu]:
    """NVIDIA's own list, in PCI order; inside a container or a Slurm job only the GPUs it may open."""
    text = run(("nvidia-smi", "--query-gpu=index,uuid,pci.bus_id", "--format=csv,noheader"))
    by_address = {_plain(device.address): device for device in devices}
    gpus = []
    for line in (text or "").splitlines():
        words = [word.strip() for word in line.split(",")]
        if len(words) == 3 and words[0].isdecimal():
            device = by_address.get(_plain(words[2]))
            # Some sandboxes show a GPU to the driver but not in sysfs: then only its place is unknown.
            gpus.append((int(words[0]), _Gpu(device or Device(words[2].lower(), 0x030200, NVIDIA, 0, None), words[1])))
    return [gpu for _, gpu in sorted(gpus, key=lambda entry: entry[0])]


def _ask_driver(devices: Sequence[Device], root: Path) -> list[_Gpu]:
    """The driver's folder per GPU, in PCI order; a container's runtime shows only the container's GPUs there."""
    gpus = []
    for device in devices:
        text = read_text(root / "proc/driver/nvidia/gpus" / device.address / "information")
        if text is not None:
            lines = [line.partition(":") for line in text.splitlines()]
            uuids = [value.strip() for key, _, value in lines if key.strip() == "GPU UUID"]
            gpus.append(_Gpu(device, uuids[0] if uuids else ""))
    return gpus


def _mig_parents(run: Run) -> dict[str, str]:
    """MIG instance to the UUID of its GPU, from the indented lines of `nvidia-smi -L`."""
    parents: dict[str, str] = {}
    gpu = ""
    for line in (run(("nvidia-smi", "-L")) or "").splitlines():
        uuid = line.rpartition("UUID: ")[2].rstrip(") ")
        if uuid.startswith("MIG-"):
            parents[uuid] = gpu
        elif uuid.startswith("GPU-"):
            gpu = uuid
    return parents


def _kfd_order(devices: Sequence[Device], root: Path) -> tuple[Device, ...]:
    """AMD's GPUs in the order of the kernel's compute driver, which ROCm numbers them by."""
    by_address = {_plain(device.address): device for device in devices}
    folder = root / "sys/class/kfd/kfd/topology/nodes"
    found: list[Device] = []
    for number in range(1024):
        text = read_text(folder / str(number) / "properties")
        if text is None:
            break
        values = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
        place = int(values.get("location_id", "0"))
        address = f"{int(values.get('domain', '0')):x}:{place >> 8:02x}:{place >> 3 & 31:02x}.{place & 7}"
        device = by_address.get(_plain(address))
        if device is not None and int(values.get("simd_count", "0")) > 0:
            found.append(device)
    return tuple(found or devices)


def _pick_amd(devices: Sequence[Device], value: str | None) -> tuple[Device, ...]:
    if value is None:
        return tuple(devices)
    chosen: list[Device] = []
    for entry in (part.strip() for part in value.split(",")):
        if not entry.isdecimal() or int(entry) >= len(devices):
            break
        chosen.append(devices[int(entry)])
    return tuple(chosen)


def _plain(address: str) -> str:
    """An address without the leading zeros of its domain: nvidia-smi writes eight digits, sysfs four."""
    domain, _, rest = address.lower().partition(":")
    return f"{domain.lstrip('0') or '0'}:{rest}"


def _run(command: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SMI_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):  # not installed, no driver, or a driver that hangs
        return None
    return done.stdout


def _run_nothing(command: Sequence[str]) -> str | None:
    return None
