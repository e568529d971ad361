"""What an installation gives: discovery, profiles, and no torch for apps that do not use the launcher."""

from __future__ import annotations

import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
GROUPS = ["rendezvous=c10d", "rendezvous=static", "numa=spread", "retry=restart", "watch=hangs", "logs=all"]
APP = """
import hydra

@hydra.main(version_base=None, config_path=None)
def main(cfg):
    pass

main()
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module", params=["wheel", "editable"])
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment that has this package and nothing else of its own."""
    folder = tmp_path_factory.mktemp(request.param)
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    site = Path(_run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    what = (
        [str(request.getfixturevalue("wheel"))]
        if request.param == "wheel"
        else ["--no-build-isolation", "-e", str(ROOT)]
    )
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", *what]
    # torch and Hydra come from the environment of the tests, behind the new one's own packages; not its .pth files,
    # for one of them may be an editable installation of this package.
    (site / "zz_tests.pth").write_text("".join(f"{path}\n" for path in sys.path if path.endswith("site-packages")))
    subprocess.run(pip, check=True, capture_output=True, text=True)
    return python


def _run(python: Path, *args: str, cwd: Path | None = None) -> str:
    done = subprocess.run([str(python), *args], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_group_is_there(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    for group in GROUPS:
        words = [
            "app.py",
            "hydra/launcher=elastic",
            f"hydra/launcher/{group}",
            "--cfg",
            "hydra",
            "-p",
            "hydra.launcher",
        ]
        shown = _run(installed, *words, cwd=tmp_path)
        assert "ElasticLauncher" in shown
        # Where the profiles are not found, Hydra composes the name of the option instead, without an error.
        name, option = group.split("=")
        assert f"{name}: {option}\n" not in shown


def test_the_launcher_is_registered_once(installed: Path) -> None:
    code = """
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
print([p.__name__ for p in Plugins.instance().discover(Launcher)].count("ElasticLauncher"))
"""
    assert _run(installed, "-W", "error", "-c", code).strip() == "1"


def test_discovery_imports_no_torch(installed: Path) -> None:
    code = """
import sys
from hydra.core.plugins import Plugins
Plugins.instance()
assert any(name.startswith("hydra_plugins.elastic") for name in sys.modules)
print(sorted(name for name in sys.modules if name.split(".")[0] in ("torch", "numpy", "psutil", "cloudpickle")))
"""
    assert _run(installed, "-c", code).strip() == "[]"


def test_nothing_but_the_packages_is_on_the_import_path(installed: Path, tmp_path: Path) -> None:
    code = """
import importlib.util
print([name for name in ("conf", "tests", "examples", "editable") if importlib.util.find_spec(name)])
"""
    assert _run(installed, "-c", code, cwd=tmp_path).strip() == "[]"


def test_a_sweep_runs(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(APP)
    _run(installed, "app.py", "-m", "hydra/launcher=elastic", cwd=tmp_path)
    assert list(tmp_path.glob("multirun/*/*/0/logs/restart_0/rank_0/stdout.log"))


def test_the_optuna_extra_takes_no_pre_release_of_hydra(wheel: Path) -> None:
    text = zipfile.ZipFile(wheel).read("elastic_hydra-0.1.0.dist-info/METADATA").decode()
    lines = [line for line in text.splitlines() if line.startswith("Requires-Dist: hydra-core")]
    needed = [Requirement(line.removeprefix("Requires-Dist: ")) for line in lines]
    extra = [one.specifier for one in needed if one.marker is None or one.marker.evaluate({"extra": "optuna"})]
    sweepers = SpecifierSet(">=1.1.0.dev7")  # which is what lets a resolver take one
    assert list((extra[0] & extra[1] & sweepers).filter(["1.3.2", "1.4.0rc3"])) == ["1.3.2"]


def test_the_wheel_has_the_profiles_and_the_types_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    conf = "elastic_hydra/conf"
    for name in (f"{conf}/hydra/launcher/elastic.yaml", f"{conf}/__init__.py", "elastic_hydra/py.typed"):
        assert name in names
    assert "hydra_plugins/elastic_hydra_launcher/launcher.py" in names
    assert not [name for name in names if name.startswith(("tests", "conf", "examples"))]
    assert "hydra_plugins/__init__.py" not in names
