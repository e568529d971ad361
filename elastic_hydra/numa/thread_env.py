"""Environment variables that follow from a binding: thread counts for a worker's children, and a memory allocator."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from elastic_hydra.config.lists import format_list
from elastic_hydra.config.numa import Allocator
from elastic_hydra.numa.binding import Binding
from elastic_hydra.numa.errors import setting_error

_OPENMP = "OMP_NUM_THREADS"
_LIBRARIES = ("MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_NAMES = {Allocator.tcmalloc: ("libtcmalloc", "libtcmalloc_minimal"), Allocator.jemalloc: ("libjemalloc",)}
# As torch.backends.xeon.run_cpu sets it: give memory back in the background, and use huge pages for bookkeeping.
_JEMALLOC = "oversize_threshold:1,background_thread:true,metadata_thp:auto"
_FOLDERS = ("usr/local/lib", "usr/local/lib64", "usr/lib/*-linux-gnu*", "lib/*-linux-gnu*", "usr/lib64", "usr/lib")


@dataclass(frozen=True)
class Environment:
    """Environment variables to set, and warnings for the user."""

    variables: Mapping[str, str]
    """Only the variables that are to be set or changed."""
    warnings: tuple[str, ...] = ()
    """Where the user's own settings contradict the binding, one sentence each."""


def environment(binding: Binding, environ: Mapping[str, str], extra: Mapping[str, str] | None = None) -> Environment:
    """The variables of one worker and its children.

    Variables that the user has set stay. MKL and OpenBLAS read OMP_NUM_THREADS where their own variables are missing.
    So if the user has set OMP_NUM_THREADS, none of these variables is added.

    Args:
        binding: The worker's binding.
        environ: The environment that the worker would inherit.
        extra: `hydra.launcher.numa.environ`: variables to set unless the user has set them.
    """
    users = re.match(r"\s*(\d+)", environ.get(_OPENMP, ""))
    variables = {key: value for key, value in (extra or {}).items() if key not in environ}
    if binding.threads is not None and not users:
        threads = {name: str(binding.threads) for name in (_OPENMP, *_LIBRARIES) if name not in environ}
        variables = threads | variables
    return Environment(variables, tuple(_contradictions(binding, environ)))


def preload(allocator: Allocator, environ: Mapping[str, str], root: str | Path = "/") -> Environment:
    """The variables that give a script entry point another memory allocator.

    Args:
        allocator: `hydra.launcher.numa.allocator`.
        environ: The environment of the script; an allocator that is already in its LD_PRELOAD stays.
        root: Folder whose library folders are searched. Those of the running interpreter and of conda come first.

    Raises:
        NumaError: The allocator is not installed; with `auto`, there is only a warning.
    """
    loaded = environ.get("LD_PRELOAD", "")
    if allocator == Allocator.none or "tcmalloc" in loaded or "jemalloc" in loaded:
        return Environment({})
    candidates = (Allocator.tcmalloc, Allocator.jemalloc) if allocator == Allocator.auto else (allocator,)
    for candidate in candidates:
        library = _find(_NAMES[candidate], environ, Path(root))
        if library is not None:
            variables = {"LD_PRELOAD": f"{library}:{loaded}" if loaded else str(library)}
            if candidate == Allocator.jemalloc and "MALLOC_CONF" not in environ:
                variables["MALLOC_CONF"] = _JEMALLOC
            return Environment(variables)
    names = " or ".join(f"{name}.so" for candidate in candidates for name in _NAMES[candidate])
    if allocator == Allocator.auto:
        return Environment({}, warnings=(f"found no {names}: the C library's allocator stays",))
    advice = "Debian: apt-get install libtcmalloc-minimal4 or libjemalloc2; conda: gperftools or jemalloc"
    raise setting_error("allocator", allocator, f"found no {names} ({advice})")


def _contradictions(binding: Binding, environ: Mapping[str, str]) -> Iterable[str]:
    if not binding.cpus:
        return
    users = re.match(r"\s*(\d+)", environ.get(_OPENMP, ""))
    if users and int(users.group(1)) > len(binding.cpus):
        yield f"{_OPENMP}={users.group()} is kept, but the worker has {len(binding.cpus)} CPUs"
    for name, pattern in (
        ("GOMP_CPU_AFFINITY", r"(.*)"),
        ("KMP_AFFINITY", r"proclist=\[([^]]*)\]"),
        ("OMP_PLACES", r"(\{.*)"),
    ):
        listed = re.search(pattern, environ.get(name, ""))
        outside = _cpus(listed.group(1)) - set(binding.cpus) if listed else set()
        if outside:
            outside_text, bound_to = format_list(outside), format_list(binding.cpus)
            yield f"{name}={environ[name]} is kept, but names CPU {outside_text}, and the worker is bound to {bound_to}"
    if "norespect" in environ.get("KMP_AFFINITY", ""):
        yield "KMP_AFFINITY has norespect, so Intel OpenMP's threads will leave the worker's CPUs"
    if environ.get("OMP_PROC_BIND", "").lower() in ("master", "primary"):
        yield f"OMP_PROC_BIND={environ['OMP_PROC_BIND']} is kept: all threads of a worker will share one core"


def _cpus(text: str) -> set[int]:
    """CPUs in the notations of OpenMP: `0 3 4-8:2` (first-last:stride) and `{0:4}` (first:length)."""
    cpus: set[int] = set()
    for first, length in re.findall(r"\{(\d+):(\d+)", text):
        cpus.update(range(int(first), int(first) + int(length)))
    for first, last, stride in re.findall(r"(\d+)(?:-(\d+)(?::(\d+))?)?", re.sub(r"\{\d+:\d+[^}]*\}[:\d]*", "", text)):
        cpus.update(range(int(first), int(last or first) + 1, int(stride or 1)))
    return cpus


def _find(names: Iterable[str], environ: Mapping[str, str], root: Path) -> Path | None:
    """The newest of the named libraries, with or without a version after `.so`."""
    prefixes = [sys.prefix, environ.get("CONDA_PREFIX", sys.prefix)] if root == Path("/") else []
    folders = [Path(prefix, "lib") for prefix in prefixes]
    folders += [folder for pattern in _FOLDERS for folder in sorted(root.glob(pattern))]
    for name in names:
        for folder in folders:
            versions = sorted(folder.glob(f"{name}.so*"))
            if versions:
                return versions[-1]
    return None
