"""NVIDIA's GPUs as NVML lists them, the library of the driver. Asking it creates no CUDA context.

The functions are described in NVML's API reference (nvml.h); `nvidia-smi` uses the same library.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["Gpu", "load", "names", "read_gpus", "used_memory"]

_UUID_BYTES = 96
_NAME_BYTES = 96


@dataclass(frozen=True)
class Gpu:
    """One GPU."""

    address: str
    """PCI address, with eight digits for the domain."""
    uuid: str
    """`GPU-…`; empty where unknown."""
    instances: tuple[str, ...] = ()
    """UUIDs of its MIG instances, `MIG-…`."""


class _PciInfo(ctypes.Structure):
    _fields_ = (
        ("bus_id_legacy", ctypes.c_char * 16),
        *((name, ctypes.c_uint) for name in ("domain", "bus", "device", "device_id", "subsystem_id")),
        ("bus_id", ctypes.c_char * 32),
    )


class _Memory(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_ulonglong) for name in ("total", "free", "used"))


def load() -> Any:
    """The library NVML; None where no driver is installed."""
    try:
        return ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None


def read_gpus(library: Any) -> list[Gpu]:
    """The GPUs that this process may open, in the order of their PCI addresses; none where the driver does not answer.

    In a container or a Slurm job, these are the GPUs of the container or the job, and the indices in
    CUDA_VISIBLE_DEVICES count only these.

    Args:
        library: NVML, as `load` returns it.
    """
    if library is None or library.nvmlInit_v2():
        return []
    try:
        count = ctypes.c_uint()
        if library.nvmlDeviceGetCount_v2(ctypes.byref(count)):
            return []
        return [gpu for index in range(count.value) for gpu in _gpu(library, index)]
    finally:
        library.nvmlShutdown()


def names(library: Any) -> list[str]:
    """The models of the GPUs that this process may open, in the order of their PCI addresses, as `nvidia-smi -L`.

    Args:
        library: NVML, as `load` returns it.
    """
    if library is None or library.nvmlInit_v2():
        return []
    found, count, handle = [], ctypes.c_uint(), ctypes.c_void_p()
    text = ctypes.create_string_buffer(_NAME_BYTES)
    try:
        if library.nvmlDeviceGetCount_v2(ctypes.byref(count)):
            return []
        for index in range(count.value):
            opened = not library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(handle))
            if opened and not library.nvmlDeviceGetName(handle, text, ctypes.c_uint(_NAME_BYTES)):
                found.append(text.value.decode(errors="replace"))
    finally:
        library.nvmlShutdown()
    return found


def used_memory(library: Any, addresses: Iterable[str]) -> dict[str, int]:
    """Bytes that all processes together use on some GPUs, by PCI address.

    GPUs for which the driver does not say it are left out.

    Args:
        library: NVML, as `load` returns it.
        addresses: PCI addresses.
    """
    if library is None or library.nvmlInit_v2():
        return {}
    used, handle, memory = {}, ctypes.c_void_p(), _Memory()
    try:
        for address in addresses:
            if library.nvmlDeviceGetHandleByPciBusId_v2(address.encode(), ctypes.byref(handle)):
                continue
            if not library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)):
                used[address] = int(memory.used)
    finally:
        library.nvmlShutdown()
    return used


def _gpu(library: Any, index: int) -> Iterator[Gpu]:
    """One GPU, or none if this process may not open it or it has fallen off the bus."""
    handle, place = ctypes.c_void_p(), _PciInfo()
    if library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(index), ctypes.byref(handle)):
        return
    if library.nvmlDeviceGetPciInfo_v3(handle, ctypes.byref(place)):
        return
    yield Gpu(place.bus_id.decode().lower(), _uuid(library, handle), tuple(_instances(library, handle)))


def _instances(library: Any, gpu: ctypes.c_void_p) -> Iterator[str]:
    most, handle = ctypes.c_uint(), ctypes.c_void_p()
    if library.nvmlDeviceGetMaxMigDeviceCount(gpu, ctypes.byref(most)):  # an old driver
        return
    for index in range(most.value):
        if not library.nvmlDeviceGetMigDeviceHandleByIndex(gpu, ctypes.c_uint(index), ctypes.byref(handle)):
            yield _uuid(library, handle)


def _uuid(library: Any, handle: ctypes.c_void_p) -> str:
    text = ctypes.create_string_buffer(_UUID_BYTES)
    return "" if library.nvmlDeviceGetUUID(handle, text, ctypes.c_uint(_UUID_BYTES)) else text.value.decode()
