"""`elastic-hydra run`: torchrun with YAML."""

from __future__ import annotations

import os
from collections.abc import Sequence

import click

from elastic_hydra.cli.errors import UserError
from elastic_hydra.torchrun.equivalent import overrides_from_environment
from elastic_hydra.torchrun.flags import TorchrunError, flag_of

__all__ = ["command"]

_END = "--"
"""What stands between the settings and the program."""


class _WithProgram(click.Command):
    """A command whose words behind `--` belong to a program, whatever they look like."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the program aside; click itself would take `--` away."""
        at = args.index(_END) if _END in args else len(args)
        ctx.obj = args[at + 1 :] if at < len(args) else None
        for word in args[:at]:
            _refuse_flag_of_torchrun(word)
            if word.startswith("="):
                raise UserError(f"{word}: the key is missing: write KEY=VALUE")
        try:
            return super().parse_args(ctx, args[:at])
        except click.NoSuchOption as error:
            if ctx.obj is not None:
                raise
            what = f"{error.option_name}: run has no such flag; a program and its flags stand behind --"
            raise UserError(f"{what}: elastic-hydra run nproc_per_node=2 -- train.py --lr 0.1") from None


@click.command(short_help="Run a program in workers, as torchrun does.", cls=_WithProgram)
@click.argument("settings", metavar="[KEY=VALUE]... -- PROGRAM", nargs=-1)
@click.option(
    "-m", "--multirun", is_flag=True, help="Run once for each value that is swept, and say which was fastest."
)
@click.option("-cd", "--config-dir", metavar="DIR", help="A folder with profiles of your own.")
@click.option("-cn", "--config-name", metavar="NAME", help="The profile to start from.")
@click.option("-c", "--cfg", is_flag=True, help="Print the settings, and run nothing.")
@click.pass_context
def command(
    ctx: click.Context,
    settings: tuple[str, ...],
    multirun: bool,
    config_dir: str | None,
    config_name: str | None,
    cfg: bool,
) -> None:
    """Run a program in workers, as torchrun does, with the settings of the elastic launcher.

    PROGRAM is a script with its arguments, -m and a module, or any other program. Settings are Hydra's overrides of
    the keys that are elsewhere below hydra.launcher, and of the profiles. PET_ variables of torchrun hold where no
    setting is given.

    \b
    Examples:
      elastic-hydra run nproc_per_node=4 numa=node retry=transient -- train.py --lr 0.1
      elastic-hydra run --config-dir team --config-name big -- -m package.train
      elastic-hydra run -m nproc_per_node=4 numa=none,node,exclusive -- ./benchmark
    """
    from elastic_hydra.apps.program_run import run_program
    from elastic_hydra.jobs.program import Program

    if multirun and cfg:
        raise UserError("--cfg prints the settings of one run: leave -m out, and give each key one value")
    program = Program.of(["-m", "this"] if cfg else _program(ctx.obj, settings))
    options = [*(["-m"] if multirun else []), *(["--cfg", "job"] if cfg else [])]
    if config_dir is not None:
        if not os.path.isdir(config_dir):
            raise UserError(f"--config-dir {config_dir}: there is no such folder: correct its path")
        options += ["--config-dir", config_dir]
    if config_name is not None:
        options += ["--config-name", config_name]
    run_program(program, [*_of_the_environment(settings), *settings], options)


def _program(words: Sequence[str] | None, settings: Sequence[str]) -> Sequence[str]:
    if words is None:
        at = next((at for at, word in enumerate(settings) if "=" not in word), len(settings))
        here = " ".join([*settings[:at], _END, *(settings[at:] or ["train.py"])])
        raise UserError(f"-- is missing between the settings and the program: elastic-hydra run {here}")
    return words


def _of_the_environment(settings: Sequence[str]) -> list[str]:
    """Return what torchrun's variables say, unless a setting says it, too."""
    given = {word.lstrip("+~").partition("=")[0] for word in settings}
    return [override for key, override in overrides_from_environment(os.environ).items() if key not in given]


def _refuse_flag_of_torchrun(word: str) -> None:
    name, _, value = word.partition("=")
    if not name.startswith("--") or name in ("--help", "--multirun", "--config-dir", "--config-name", "--cfg"):
        return
    try:
        flag = flag_of(name)
    except TorchrunError:
        return
    what = f"--{flag.name}={value}" if value else f"--{flag.name}"
    raise UserError(f"{what}: torchrun's flags are KEY=VALUE here; `elastic-hydra from-torchrun` translates them")
