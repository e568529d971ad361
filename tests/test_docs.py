"""README.md and docs/ say what is there: links lead somewhere, tables come from the code, commands and YAML compose."""

import argparse
import ast
import itertools
import re
import shlex
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from omegaconf import OmegaConf, open_dict
from torch.distributed.run import get_args_parser

from docs import generate
from elastic_hydra.config.errors import ConfigError
from elastic_hydra.config.facts import HostFacts
from elastic_hydra.config.resolve import resolve
from elastic_hydra.config.schema import ElasticConfig
from elastic_hydra.config.words import GROUPS
from tests.config.settings import CPU_HOST, settings

# Hydra 1.4's fixture saves and restores a ConfigStore that must have the plugins' entries by then.
Plugins.instance()

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "digits"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
MARKDOWN = sorted(
    {*PAGES, *(page for where in ("*", "examples/**/*", ".github/**/*") for page in ROOT.glob(f"{where}.md"))}
)
TEXT = {page: page.read_text() for page in MARKDOWN}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(language: str, pages: list[Path] = PAGES) -> list[str]:
    found = [re.findall(rf"^```{language}\n(.*?)^```", TEXT[page], flags=re.MULTILINE | re.DOTALL) for page in pages]
    return [block for of_page in found for block in of_page]


def prose(page: Path) -> str:
    """Return a page without its code blocks."""
    return re.sub(r"^```.*?^```", "", TEXT[page], flags=re.MULTILINE | re.DOTALL)


def test_the_readme_can_be_read_in_one_sitting() -> None:
    assert len(TEXT[ROOT / "README.md"].splitlines()) <= 150


# --- the reference, made from the code --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", generate.PAGES)
def test_the_reference_is_that_of_the_code(name: str) -> None:
    path, text = generate.page_with(name)
    assert path.read_text() == text, "run: python docs/generate.py"


def all_keys() -> set[str]:
    found = set()
    for key in generate.keys_of(ElasticConfig):
        parts = key.name.split(".")
        found |= {".".join(parts[: n + 1]) for n in range(len(parts))}
    return found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_keys_that_the_text_names_exist(page: Path) -> None:
    named = set(re.findall(r"(?<!elastic_)hydra\.launcher\.([a-z_]+(?:\.[a-z_]+)*)", TEXT[page]))
    named = {name for name in named if not name.startswith("rendezvous.configs.")}
    assert named - all_keys() == set()


def test_groups_of_failures_are_all_explained() -> None:
    page = TEXT[ROOT / "docs" / "guides" / "retries.md"]
    assert not [group for group in GROUPS if f"| `{group}` |" not in page]


# For each type that docs/generate.py writes by hand: values that it allows, and values that it does not.
VALUES: dict[str, tuple[list[Any], list[Any]]] = {
    "nodes": ([1, "1", "1:4"], [0, "4:2", "many"]),
    "nproc_per_node": ([1, "2", "auto", "cpu"], [0, "all"]),
    "start_method": (["warm", "fork", "forkserver", "spawn"], ["worm"]),
    "parallel": ([1, "auto"], [0, "all"]),
    "resources.gpus_per_worker": ([0, "auto"], [-1, "all"]),
    "resources.cpus_per_worker": ([1, "auto"], [0, "all"]),
    "hosts.gpus_per_node": ([0, 4, "a100:4", None], [-1, "many"]),
    "hosts.additional_parameters": ([{"mail-type": "FAIL"}, None], []),
    "resources.duration": (["90min", "2h", 300, None], ["soon", 0]),
    "resources.memory_per_job": (["1GB", "512MiB", "1000", None], ["much"]),
    "on_failure": (["continue", "stop"], ["go on"]),
    "max_failures": ([0, 3, 0.1, None], [-1, 1.5, "some"]),
    "detach": ([True, False, "local", "slurm"], ["yes"]),
    "resume": ([True, False, "failed", "interrupted", "all"], ["some"]),
    "requeue": (["never", "auto"], ["always"]),
    "requeue_limit": ([1, None], [0]),
    "return_values": (["rank0", "all"], ["rank1"]),
    "signals_to_handle": ([["SIGTERM"], []], [["SIGKILL"], ["SIGNAL"]]),
    "omp_num_threads": ([1, "auto", None], [0, "all"]),
    "retry.only_on": ([["oom", "transient", "OSError", 75, "SIGBUS"], []], [["memory"], ["SIGNAL"], [1000]]),
    "retry.never_on": ([["oom", "transient", "OSError", 75, "SIGBUS"], []], [["memory"], ["SIGNAL"], [1000]]),
    "watch.progress": ([["heartbeat", "output", "cpu"]], [["gpu"], []]),
    "watch.memory_limit": (["1GB", "512MiB", 1000, None], ["much", 0]),
    "logs.redirects": ([0, 1, 2, 3, {0: 1}, "0:1,1:3"], [4, {0: 4}, "all"]),
    "logs.tee": ([0, 1, 2, 3, {0: 1}, "0:1,1:3"], [4, {0: 4}, "all"]),
    "logs.other_ranks_level": (["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "OFF"], ["LOUD"]),
}
CHECKED_ELSEWHERE = {"hosts.list", "rendezvous.endpoint", "numa.threads"}
"""Keys that have a meaning only together with others."""


def test_each_type_that_is_written_by_hand_is_tried_out() -> None:
    assert {*VALUES, *CHECKED_ELSEWHERE} == set(generate.TYPES)


def tried_out(which: int) -> list[tuple[str, Any]]:
    return [(key, value) for key, values in VALUES.items() for value in values[which]]


@pytest.mark.parametrize(("key", "value"), tried_out(0))
def test_what_the_reference_allows_is_taken(key: str, value: Any) -> None:
    resolve(settings(**{key.replace(".", "__"): value}, **extra_for(key, value)), CPU_HOST, {})


@pytest.mark.parametrize(("key", "value"), tried_out(1))
def test_what_the_reference_does_not_allow_is_refused(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"hydra\.launcher\.{re.escape(key)}="):
        resolve(settings(**{key.replace(".", "__"): value}), CPU_HOST, {})


def extra_for(key: str, value: Any) -> dict[str, Any]:
    """Return what else must be said for a value to make sense."""
    if key == "nodes" and ":" in str(value):
        return {"rendezvous__backend": "c10d", "rendezvous__endpoint": "localhost:29500"}
    return {}


# --- torchrun's flags -------------------------------------------------------------------------------------------------


def test_every_flag_of_torchrun_is_there() -> None:
    actions = [a for a in get_args_parser()._actions if not isinstance(a, argparse._HelpAction)]
    flags = {next(s for s in a.option_strings if s.startswith("--")) for a in actions if a.option_strings}
    text = TEXT[ROOT / "docs" / "guides" / "from-torchrun.md"]
    assert not [flag for flag in sorted(flags) if f"`{flag}" not in text]


# --- links ------------------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """Return the fragments that a forge, and the site, give to a page's headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> Iterator[str]:
    yield from re.findall(r"\]\(([^)\s]+)\)", prose(page))


@pytest.mark.parametrize("page", MARKDOWN, ids=name_of)
def test_links_lead_to_what_exists(page: Path) -> None:
    dead = []
    for link in links(page):
        if link.startswith(("https://", "mailto:")):
            continue
        file_name, _, anchor = link.partition("#")
        target = (page.parent / file_name).resolve() if file_name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert not dead


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_that_the_text_names_exist(page: Path) -> None:
    named = re.findall(r"`((?:elastic_hydra|hydra_plugins|examples|tests|docs)/[\w./-]*)`", prose(page))
    assert not [name for name in named if not (ROOT / name).exists() and name != "elastic_hydra/conf"]


def test_every_page_is_listed() -> None:
    index = ROOT / "docs" / "index.md"
    listed = {(index.parent / link).resolve() for link in links(index)}
    assert set(PAGES) - listed == {index}


# --- messages ---------------------------------------------------------------------------------------------------------


def texts_of_the_code() -> str:
    """Return every text of the package, with `…` for what is filled in."""
    texts = []
    for path in sorted((ROOT / "elastic_hydra").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.JoinedStr):
                texts.append("".join(str(p.value) if isinstance(p, ast.Constant) else "…" for p in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n".join(texts)


def test_messages_in_the_troubleshooting_are_those_of_the_code() -> None:
    page = " ".join(prose(ROOT / "docs" / "guides" / "troubleshooting.md").split())
    quoted = [text for text in re.findall(r"`([^`]+)`", page) if text.count(" ") > 2 and "python" not in text]
    code = texts_of_the_code()
    unknown = [part for text in quoted for part in text.split("…") if part.strip(" :()=#") and part not in code]
    assert len(quoted) > 15
    assert not unknown


# --- commands and YAML ------------------------------------------------------------------------------------------------


def commands() -> list[list[str]]:
    """Return the arguments of every command that runs the example, or an app in its place; each once."""
    found: list[list[str]] = []
    for block in blocks("bash"):
        for line in block.replace("\\\n", " ").splitlines():
            words = list(itertools.takewhile(lambda word: word != ">", shlex.split(line, comments=True)))
            if any(word.endswith("train.py") for word in words) and "$" not in line and "--" not in words:
                script = next(index for index, word in enumerate(words) if word.endswith("train.py"))
                if words[script + 1 :] not in found:
                    found.append(words[script + 1 :])
    return found


def settings_of_runs() -> list[list[str]]:
    """Return the settings of every command that is `elastic-hydra run` with no file of its own."""
    texts = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("elastic-hydra run ")]
    lines = [shlex.split(line) for line in texts]
    return [words[2 : words.index("--")] for words in lines if "--" in words and "--config-dir" not in words]


@pytest.mark.parametrize("words", settings_of_runs(), ids=" ".join)
def test_settings_of_runs_compose_and_resolve(words: list[str]) -> None:
    with initialize_config_dir(str(generate.PROFILES), version_base="1.3"):
        config = compose("elastic", without_sweeps(words))
    given: Any = OmegaConf.to_container(config, resolve=True)
    resolve(given, HostFacts(cpus=4, gpus=8, torch=(99, 0), has_etcd=True), {})


def without_sweeps(arguments: list[str]) -> list[str]:
    """Return the overrides among the arguments, with the first one of values that are swept."""
    overrides = []
    for override in OverridesParser.create().parse_overrides([a for a in arguments if a not in ("-m", "--multirun")]):
        if override.key_or_group in ("hydra/sweeper",) or override.key_or_group.startswith("hydra.sweeper."):
            continue  # needs a package that is not installed
        if override.is_sweep_override():
            values = [] if override.is_discrete_sweep() is False else list(override.sweep_string_iterator())
            overrides += [f"{override.get_key_element()}={value}" for value in values[:1]]
        else:
            overrides.append(str(override.input_line))
    return overrides


@pytest.mark.parametrize("arguments", commands(), ids=" ".join)
def test_commands_compose_and_resolve(arguments: list[str]) -> None:
    overrides = without_sweeps(arguments)
    with initialize_config_dir(str(EXAMPLE / "conf"), version_base="1.3"):
        config = compose("config", overrides, return_hydra_config=True)
    if "_target_" in config.hydra.launcher and "elastic" in config.hydra.launcher._target_:
        with open_dict(config):
            config.hydra.runtime.output_dir = "."
        given: Any = OmegaConf.to_container(config.hydra.launcher, resolve=True)
        refused = [text for text in blocks("text") if text.startswith("hydra.launcher.")]
        expected = pytest.raises(ConfigError) if "hydra.launcher.nodes=4:2" in arguments else nullcontext()
        with expected as error:
            resolve(given, HostFacts(cpus=4, gpus=8, torch=(99, 0), has_etcd=True), {})
        assert error is None or [f"{error.value}\n"] == refused


@pytest.mark.parametrize("text", blocks("yaml"), ids=lambda text: text.splitlines()[0])
def test_yaml_is_yaml(text: str) -> None:
    assert yaml.safe_load(text)


@pytest.mark.parametrize("text", blocks("python"), ids=lambda text: text.splitlines()[0])
def test_python_is_python(text: str) -> None:
    compile(text, "a page", "exec")


def test_a_profile_that_a_page_shows_is_the_example_s() -> None:
    assert (EXAMPLE / "conf" / "launch" / "two_workers.yaml").read_text() in blocks("yaml")
