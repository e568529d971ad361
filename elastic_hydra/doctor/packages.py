"""Whether the installed packages fit each other, and whether Hydra finds the launcher."""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement

from elastic_hydra.compat.versions import SINCE_TORCH, lack_of_torch, version_of
from elastic_hydra.doctor.finding import Finding, problem, well

__all__ = ["look"]

_US = "elastic-hydra"
_PLUGIN = "hydra_plugins.elastic_hydra_launcher.launcher"


def look() -> Iterator[Finding]:
    """Yield what is found about the versions of Python and of the packages that this one needs."""
    versions = [f"{name} {_installed(name) or '(not installed)'}" for name in (_US, "torch", "hydra-core", "omegaconf")]
    yield well("versions", ", ".join([f"Python {platform.python_version()}", *versions]))
    yield from _misfits()
    if importlib.util.find_spec("hydra_plugins") is None or importlib.util.find_spec(_PLUGIN) is None:
        yield problem("plugin", f"{_PLUGIN} is not there, so that Hydra finds no launcher", f"install {_US} again")
    lacking = [f"{option} ({lack})" for option in SINCE_TORCH if (lack := lack_of_torch(option, version_of("torch")))]
    if lacking:
        yield well("torch", f"these options cannot be set: {', '.join(lacking)}")


def _installed(package: str) -> str:
    """Return the version of an installed package; empty where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _misfits() -> Iterator[Finding]:
    """Yield the packages that are missing, or whose versions this package does not work with."""
    try:
        requirements = [Requirement(text) for text in metadata.requires(_US) or ()]
    except metadata.PackageNotFoundError:
        yield problem("versions", f"{_US} is imported from a folder that is not installed", "pip install -e it")
        return
    for requirement in requirements:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        wanted = f"{requirement.name}{requirement.specifier}"
        installed = _installed(requirement.name)
        if not installed:
            yield problem("versions", f"{requirement.name} is not installed", f'pip install "{wanted}"')
        elif not requirement.specifier.contains(installed, prereleases=True):
            yield problem("versions", f"{requirement.name} {installed} does not fit", f'pip install "{wanted}"')
