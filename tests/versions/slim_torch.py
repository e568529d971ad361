"""Make a CUDA build of torch importable on a machine without CUDA's libraries.

Run by the environment's own Python after `pip install --no-deps torch`, where no index of CPU builds can be reached.
One small library takes the name of each that is missing. Its functions say only that there is no device.
"""

from __future__ import annotations

import re
import subprocess
import sysconfig
import tempfile
from pathlib import Path

SITE = Path(sysconfig.get_path("purelib"))
LIBRARIES = SITE / "torch" / "lib"
STUB = "libnocuda.so"
_CUDA = re.compile(r"(__)?(cu|nv|nccl)[A-Za-z_]\w*$")
_NO_DEVICE = {"cudaGetDeviceCount": 100, "cuInit": 100}
"""What these return: CUDA's number for that. All others return 0."""


def main() -> None:
    """Build the library, and take the requirements of CUDA out of torch's metadata."""
    own = sorted(path for path in LIBRARIES.glob("*.so*") if not path.is_symlink() and path.name != STUB)
    _build_stub(_undefined(own))
    for name in _missing(own):
        (LIBRARIES / name).unlink(missing_ok=True)
        (LIBRARIES / name).symlink_to(STUB)
    for metadata in SITE.glob("torch-*.dist-info/METADATA"):
        text = re.sub(r"(?m)^Requires-Dist: (nvidia-|triton|cuda-)[^\n]*\n", "", metadata.read_text())
        metadata.write_text(text)


def _missing(own: list[Path]) -> list[str]:
    """Return the names of libraries that torch's own need, and that neither torch nor the system has."""
    needed = {name for path in own for name in re.findall(r"\(NEEDED\).*\[(.*)\]", _output("readelf", "-d", str(path)))}
    system = re.findall(r"(?m)^\s*(\S+) \(libc6,x86-64", _output("/sbin/ldconfig", "-p"))
    return sorted(needed - {path.name for path in own} - set(system))


def _undefined(own: list[Path]) -> dict[str, str]:
    """Return the functions of CUDA that torch's libraries call, each with the version of its symbol or ""."""
    defined = {symbol.partition("@")[0] for path in own for symbol in _symbols(path, "--defined-only")}
    versions: dict[str, str] = {}
    for symbol in set().union(*(_symbols(path, "--undefined-only") for path in own)):
        name, _, version = symbol.partition("@")
        if name not in defined and _CUDA.match(name):
            versions[name] = version.lstrip("@") or versions.get(name, "")
    return versions


def _build_stub(versions: dict[str, str]) -> None:
    source = "".join(f"long {name}(void) {{ return {_NO_DEVICE.get(name, 0)}; }}\n" for name in sorted(versions))
    script = ""
    for version in sorted({*versions.values()} - {""}):
        names = " ".join(f"{name};" for name in sorted(versions) if versions[name] == version)
        script += f"{version} {{ global: {names} }};\n"
    with tempfile.TemporaryDirectory() as folder:
        code, symbol_versions = Path(folder, "stub.c"), Path(folder, "stub.map")
        code.write_text(source)
        symbol_versions.write_text(script)
        flags = [
            "-shared",
            "-fPIC",
            "-w",
            "-fno-builtin",
            f"-Wl,-soname,{STUB}",
            f"-Wl,--version-script={symbol_versions}",
        ]
        _output("gcc", *flags, "-o", str(LIBRARIES / STUB), str(code))


def _symbols(path: Path, kind: str) -> set[str]:
    return {line.split()[-1] for line in _output("nm", "-D", kind, str(path)).splitlines()}


def _output(*command: str) -> str:
    return subprocess.run(command, check=True, text=True, capture_output=True).stdout


if __name__ == "__main__":
    main()
