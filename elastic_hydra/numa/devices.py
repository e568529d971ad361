"""Which accelerators a worker would see, in the order of their indices, without touching CUDA or ROCm.

A CUDA context in an agent would make every later fork of it unusable for CUDA. So the drivers are asked, and the rules
of CUDA_VISIBLE_DEVICES (CUDA C++ Programming Guide, "CUDA Environment Variables") and of ROCR_ and HIP_VISIBLE_DEVICES
(ROCm documentation, "GPU isolation techniques") are applied here.
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

_VGA = 0x0300  # also what a server's management controller shows its console on
_NVIDIA_DRIVER = "proc/driver/nvidia/gpus"
_AMD_DRIVER = "sys/class/kfd/kfd/topology/nodes"

_T = TypeVar("_T")


@dataclass(frozen=True)
class Accelerators:
    """All accelerators of a host that this process may open, in their drivers' order."""

    known: tuple[Device, ...] = ()
    """Every one on the PCI bus, by address; display adapters too."""
    gpus: tuple[tuple[Device, Gpu], ...] = ()
    """NVIDIA's, else AMD's, as the driver numbers and names them."""

    def named(self, addresses: Sequence[str]) -> tuple[Device, ...]:
        """Those with the given PCI addresses, in their order.

        Args:
            addresses: `hydra.launcher.numa.devices`.

        Raises:
            NumaError: An address is not an accelerator of this machine.
        """
        known = {_plain(device.address): device for device in self.known}
        for address in addresses:
            if _plain(address) not in known:
                there = ", ".join(device.address for device in self.known) or "none"
                raise setting_error("devices", f"[{address}]", f"no such accelerator; this machine has {there}")
        return tuple(known[_plain(address)] for address in addresses)

    def visible(self, environ: Mapping[str, str]) -> tuple[Device, ...]:
        """Those that a worker started with `environ` would see, by index.

        NVIDIA's, else AMD's, else any other accelerator by PCI address; plain display adapters do not count. A device's
        `note` says where its number is a guess.
        """
        if not self.gpus:
            return tuple(device for device in self.known if device.pci_class >> 8 != _VGA)
        if self.gpus[0][0].vendor == AMD:
            seen = _pick_amd(self.gpus, environ.get("ROCR_VISIBLE_DEVICES"))
            seen = _pick_amd(seen, environ.get("HIP_VISIBLE_DEVICES", environ.get("CUDA_VISIBLE_DEVICES")))
            return tuple(device for device, _ in seen)
        return _visible_nvidia(_with_note(self.gpus, environ), environ.get("CUDA_VISIBLE_DEVICES"))


def read_accelerators(topology: Topology, root: str | Path = "/", library: Any = None) -> Accelerators:
    """Ask the drivers what they have.

    Args:
        topology: The machine.
        root: Folder with the machine's `sys` and `proc`.
        library: NVML, as `nvml.load` returns it; None: the driver's files must do.
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
        addresses: `hydra.launcher.numa.devices`: these PCI addresses, in this order, instead.

    Raises:
        NumaError: An address is not an accelerator of this machine.
    """
    there = read_accelerators(topology, root, nvml.load() if Path(root) == Path("/") else None)
    return there.named(addresses) if addresses else there.visible(environ)


def used_memory(devices: Iterable[Device], root: str | Path = "/", library: Any = None) -> dict[str, int]:
    """Bytes of accelerators' memory that are in use, by PCI address; those whose driver does not say it are left out.

    Args:
        devices: The accelerators.
        root: Folder with the machine's `sys`.
        library: NVML, as `nvml.load` returns it.
    """
    there = list(devices)
    found = nvml.used_memory(library, [device.address for device in there if device.vendor == NVIDIA])
    for device in there:
        text = read_text(Path(root) / "sys/bus/pci/devices" / device.address / "mem_info_vram_used")  # of amdgpu
        if text is not None and text.isdecimal():
            found[device.address] = int(text)
    return found


def _matched(devices: Sequence[Device], gpus: Sequence[Gpu]) -> list[tuple[Device, Gpu]]:
    by_address = {_plain(device.address): device for device in devices}
    # Some sandboxes show a GPU to the driver but not in sysfs: then only its place is unknown.
    return [
        (by_address.get(_plain(gpu.address)) or Device(gpu.address, 0x030200, NVIDIA, 0, None), gpu) for gpu in gpus
    ]


def _nvidias_files(devices: Sequence[Device], root: Path) -> list[tuple[Device, Gpu]]:
    """The driver's folder per GPU, in PCI order; a container's runtime shows only the container's GPUs there."""
    found = []
    for device in devices:
        text = read_text(root / _NVIDIA_DRIVER / device.address / "information")
        if text is not None:
            lines = [line.partition(":") for line in text.splitlines()]
            uuids = [value.strip() for key, _, value in lines if key.strip() == "GPU UUID"]
            found.append((device, Gpu(device.address, uuids[0] if uuids else "")))
    return found


def _amds_files(devices: Sequence[Device], root: Path) -> list[tuple[Device, Gpu]]:
    """The nodes of the kernel's compute driver, in whose order ROCm numbers GPUs."""
    by_address = {_plain(device.address): device for device in devices}
    found = []
    for number in range(1024):
        text = read_text(root / _AMD_DRIVER / str(number) / "properties")
        if text is None:
            break
        values = {key: int(value) for key, value in _pairs(text) if value.isdecimal()}
        place = values.get("location_id", 0)
        address = f"{values.get('domain', 0):x}:{place >> 8:02x}:{place >> 3 & 31:02x}.{place & 7}"
        device = by_address.get(_plain(address))
        if device is not None and values.get("simd_count", 0) > 0:
            unique = values.get("unique_id", 0)
            found.append((device, Gpu(device.address, f"GPU-{unique:016x}" if unique else "")))
    return found


def _pairs(text: str) -> Iterable[tuple[str, str]]:
    for line in text.splitlines():
        key, _, value = line.partition(" ")
        yield key, value.strip()


def _with_note(gpus: Sequence[tuple[Device, Gpu]], environ: Mapping[str, str]) -> list[tuple[Device, Gpu]]:
    """CUDA's own order is the fastest first: among equal GPUs that is the PCI order, among others it cannot be told."""
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
    if len({name for name, _ in chosen}) < len(chosen):  # and sees no device at all when one is named twice
        return ()
    return tuple(device for _, device in chosen)


def _resolve(entry: str, gpus: Sequence[tuple[Device, Gpu]]) -> Device | None:
    """The GPU of one entry: an index, a prefix of one GPU's UUID, or a MIG instance (its GPU)."""
    if entry.isdecimal():
        return gpus[int(entry)][0] if int(entry) < len(gpus) else None
    if entry.startswith("MIG-GPU-"):  # driver R450: MIG-GPU-<uuid of the GPU>/<gpu instance>/<compute instance>
        entry = entry.removeprefix("MIG-").partition("/")[0]
    if entry.startswith("MIG-"):
        return _only(device for device, gpu in gpus for instance in gpu.instances if instance.startswith(entry))
    return _only(device for device, gpu in gpus if entry.startswith("GPU-") and gpu.uuid.startswith(entry))


def _pick_amd(gpus: Sequence[tuple[Device, Gpu]], value: str | None) -> list[tuple[Device, Gpu]]:
    """The entries up to the first invalid one: indices or UUIDs."""
    if value is None:
        return list(gpus)
    chosen: list[tuple[Device, Gpu]] = []
    for entry in (part.strip() for part in value.split(",")):
        if entry.isdecimal():
            one = gpus[int(entry)] if int(entry) < len(gpus) else None
        else:
            one = _only((device, gpu) for device, gpu in gpus if entry and gpu.uuid.lower() == entry.lower())
        if one is None:
            break
        chosen.append(one)
    return chosen


def _only(found: Iterable[_T]) -> _T | None:
    several = list(found)
    return several[0] if len(several) == 1 else None


def _plain(address: str) -> str:
    """An address without the leading zeros of its domain: NVML writes eight digits, sysfs four."""
    domain, _, rest = address.lower().partition(":")
    return f"{domain.lstrip('0') or '0'}:{rest}"
