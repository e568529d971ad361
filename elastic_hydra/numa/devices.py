"""Which accelerators a worker would see, in the order of their indices, without touching CUDA or ROCm.

Once a process has a CUDA context, no fork of it can use CUDA, and an agent forks. So this module asks the drivers, and
applies the rules of CUDA_VISIBLE_DEVICES (CUDA C++ Programming Guide, "CUDA Environment Variables") and of ROCR_ and
HIP_VISIBLE_DEVICES (ROCm documentation, "GPU isolation techniques") itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from elastic_hydra.numa import nvml
from elastic_hydra.numa.errors import setting_error
from elastic_hydra.numa.nvml import Gpu
from elastic_hydra.numa.pci import AMD, NVIDIA, Device
from elastic_hydra.numa.sysfs import read_text
from elastic_hydra.numa.topology import Topology

_VGA = 0x0300  # class of display adapters; the management controller of a server has one for its console
_NVIDIA_DRIVER = "proc/driver/nvidia/gpus"
_AMD_DRIVER = "sys/class/kfd/kfd/topology/nodes"

_T = TypeVar("_T")


@dataclass(frozen=True)
class Accelerators:
    """All accelerators of a host that this process may open, in their drivers' order."""

    known: tuple[Device, ...] = ()
    """All accelerators on the PCI bus, in the order of their addresses; display adapters, too."""
    gpus: tuple[tuple[Device, Gpu], ...] = ()
    """The GPUs of NVIDIA, else those of AMD, as the driver numbers and names them."""

    def named(self, addresses: Sequence[str]) -> tuple[Device, ...]:
        """The accelerators with some PCI addresses, in the order of the addresses.

        Args:
            addresses: `hydra.launcher.numa.devices`.

        Raises:
            NumaError: An address is not an accelerator of this machine.
        """
        known = {_plain(device.address): device for device in self.known}
        for address in addresses:
            if _plain(address) not in known:
                existing = ", ".join(device.address for device in self.known) or "none"
                raise setting_error("devices", f"[{address}]", f"no such accelerator; this machine has {existing}")
        return tuple(known[_plain(address)] for address in addresses)

    def visible(self, environ: Mapping[str, str]) -> tuple[Device, ...]:
        """The accelerators that a worker started with `environ` would see, by index.

        These are the GPUs of NVIDIA, else those of AMD, else any other accelerators in the order of their PCI
        addresses; plain display adapters do not count. A device's `note` says where its number is a guess.

        Args:
            environ: The worker's environment.
        """
        if not self.gpus:
            return tuple(device for device in self.known if device.pci_class >> 8 != _VGA)
        if self.gpus[0][0].vendor == AMD:
            seen = _pick_amd(self.gpus, environ.get("ROCR_VISIBLE_DEVICES"))
            seen = _pick_amd(seen, environ.get("HIP_VISIBLE_DEVICES", environ.get("CUDA_VISIBLE_DEVICES")))
            return tuple(device for device, _ in seen)
        return _visible_nvidia(_with_note(self.gpus, environ), environ.get("CUDA_VISIBLE_DEVICES"))


def read_accelerators(topology: Topology, root: str | Path = "/", library: Any = None) -> Accelerators:
    """Ask the drivers which accelerators they have.

    Args:
        topology: The machine.
        root: Folder with the machine's `sys` and `proc`.
        library: NVML, as `nvml.load` returns it; None: the files of the driver are read instead.
    """
    top, known = Path(root), topology.devices
    nvidia = [device for device in known if device.vendor == NVIDIA]
    if nvidia:
        gpus = _matched(nvidia, nvml.read_gpus(library)) or _nvidias_files(nvidia, top)
        return Accelerators(known, tuple(gpus or ((device, Gpu(device.address, "")) for device in nvidia)))
    amd = [device for device in known if device.vendor == AMD]
    return Accelerators(known, tuple(_amds_files(amd, top) or ((device, Gpu(device.address, "")) for device in amd)))


def visible_accelerators(
    topology: Topology, environ: Mapping[str, str], root: str | Path = "/", addresses: Sequence[str] = ()
) -> tuple[Device, ...]:
    """The accelerators a worker started with `environ` would see, by index; see `Accelerators`.

    Args:
        topology: The machine.
        environ: The worker's environment.
        root: Folder with the machine's `sys` and `proc`.
        addresses: `hydra.launcher.numa.devices`: PCI addresses. Where there are any, these accelerators are returned
            instead, in this order.

    Raises:
        NumaError: An address is not an accelerator of this machine.
    """
    accelerators = read_accelerators(topology, root, nvml.load() if Path(root) == Path("/") else None)
    return accelerators.named(addresses) if addresses else accelerators.visible(environ)


def used_memory(devices: Iterable[Device], root: str | Path = "/", library: Any = None) -> dict[str, int]:
    """Bytes of accelerators' memory that are in use, by PCI address.

    Accelerators whose driver does not say it are left out.

    Args:
        devices: The accelerators.
        root: Folder with the machine's `sys`.
        library: NVML, as `nvml.load` returns it.
    """
    asked = list(devices)
    used = nvml.used_memory(library, [device.address for device in asked if device.vendor == NVIDIA])
    for device in asked:
        text = read_text(Path(root) / "sys/bus/pci/devices" / device.address / "mem_info_vram_used")  # of amdgpu
        if text is not None and text.isdecimal():
            used[device.address] = int(text)
    return used


def _matched(devices: Sequence[Device], gpus: Sequence[Gpu]) -> list[tuple[Device, Gpu]]:
    by_address = {_plain(device.address): device for device in devices}
    # Some sandboxes show a GPU to the driver but not in sysfs. Such a GPU counts; only its node is unknown.
    return [
        (by_address.get(_plain(gpu.address)) or Device(gpu.address, 0x030200, NVIDIA, 0, None), gpu) for gpu in gpus
    ]


def _nvidias_files(devices: Sequence[Device], root: Path) -> list[tuple[Device, Gpu]]:
    """The GPUs for which NVIDIA's driver has a folder, in PCI order.

    In a container, the runtime shows the folders of the container's GPUs only.
    """
    gpus = []
    for device in devices:
        text = read_text(root / _NVIDIA_DRIVER / device.address / "information")
        if text is not None:
            lines = [line.partition(":") for line in text.splitlines()]
            uuids = [value.strip() for key, _, value in lines if key.strip() == "GPU UUID"]
            gpus.append((device, Gpu(device.address, uuids[0] if uuids else "")))
    return gpus


def _amds_files(devices: Sequence[Device], root: Path) -> list[tuple[Device, Gpu]]:
    """The GPUs among the nodes of the kernel's compute driver: ROCm numbers GPUs in the order of these nodes."""
    by_address = {_plain(device.address): device for device in devices}
    gpus = []
    for number in range(1024):
        text = read_text(root / _AMD_DRIVER / str(number) / "properties")
        if text is None:
            break
        values = {key: int(value) for key, value in _pairs(text) if value.isdecimal()}
        location = values.get("location_id", 0)
        address = f"{values.get('domain', 0):x}:{location >> 8:02x}:{location >> 3 & 31:02x}.{location & 7}"
        device = by_address.get(_plain(address))
        if device is not None and values.get("simd_count", 0) > 0:
            unique = values.get("unique_id", 0)
            gpus.append((device, Gpu(device.address, f"GPU-{unique:016x}" if unique else "")))
    return gpus


def _pairs(text: str) -> Iterable[tuple[str, str]]:
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        yield key, value.strip()


def _with_note(gpus: Sequence[tuple[Device, Gpu]], environ: Mapping[str, str]) -> list[tuple[Device, Gpu]]:
    """The GPUs, with a note where CUDA may number them otherwise.

    By default, CUDA numbers the fastest GPU first. For equal GPUs this is the PCI order; for different ones we cannot
    tell the order.
    """
    if environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID" or len({device.model for device, _ in gpus}) == 1:
        return list(gpus)
    note = "the GPUs differ and CUDA_DEVICE_ORDER is not PCI_BUS_ID, so CUDA may number them otherwise"
    return [(replace(device, note=note), gpu) for device, gpu in gpus]


def _visible_nvidia(gpus: Sequence[tuple[Device, Gpu]], value: str | None) -> tuple[Device, ...]:
    if value is None:
        return tuple(device for device, _ in gpus)
    chosen: list[tuple[str, Device]] = []
    for entry in (part.strip() for part in value.split(",")):
        device = _resolve(entry, gpus)
        if device is None:  # CUDA ignores everything from the first invalid entry on
            break
        chosen.append((entry if entry.startswith("MIG-") else device.address, device))
    if len({name for name, _ in chosen}) < len(chosen):  # CUDA sees no device at all when one is named twice
        return ()
    return tuple(device for _, device in chosen)


def _resolve(entry: str, gpus: Sequence[tuple[Device, Gpu]]) -> Device | None:
    """The GPU that an entry means: an index, a prefix of a GPU's UUID, or the UUID of a MIG instance on the GPU."""
    if entry.isdecimal():
        return gpus[int(entry)][0] if int(entry) < len(gpus) else None
    if entry.startswith("MIG-GPU-"):  # driver R450: MIG-GPU-<uuid of the GPU>/<gpu instance>/<compute instance>
        entry = entry.removeprefix("MIG-").partition("/")[0]
    if entry.startswith("MIG-"):
        return _only(device for device, gpu in gpus for instance in gpu.instances if instance.startswith(entry))
    return _only(device for device, gpu in gpus if entry.startswith("GPU-") and gpu.uuid.startswith(entry))


def _pick_amd(gpus: Sequence[tuple[Device, Gpu]], value: str | None) -> list[tuple[Device, Gpu]]:
    """The GPUs that the entries name, indices or UUIDs, up to the first invalid entry."""
    if value is None:
        return list(gpus)
    chosen: list[tuple[Device, Gpu]] = []
    for entry in (part.strip() for part in value.split(",")):
        if entry.isdecimal():
            pair = gpus[int(entry)] if int(entry) < len(gpus) else None
        else:
            pair = _only((device, gpu) for device, gpu in gpus if entry and gpu.uuid.lower() == entry.lower())
        if pair is None:
            break
        chosen.append(pair)
    return chosen


def _only(candidates: Iterable[_T]) -> _T | None:
    members = list(candidates)
    return members[0] if len(members) == 1 else None


def _plain(address: str) -> str:
    """An address without the leading zeros of its domain: NVML writes the domain with eight digits, sysfs with four."""
    domain, _, rest = address.lower().partition(":")
    return f"{domain.lstrip('0') or '0'}:{rest}"
