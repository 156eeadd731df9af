"""The command line: one file per command, loaded when it is used. Errors become text and exit codes here alone."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import click

from elboverse._version import __version__
from elboverse.components.local import FILES_VARIABLE, REFUSED_VARIABLE
from elboverse.errors import ElboverseError, Interrupted, nearest, out_of_memory
from elboverse.warning import ElboverseWarning

__all__ = ["cli", "main"]

COMMANDS = {
    "analyze": ("elboverse.cli.analyze:analyze", "Analyse a finished or running run from its run.h5."),
    "choose-h": ("elboverse.cli.choose_h:choose_h", "Choose the number of latents, by models of each."),
    "config": ("elboverse.cli.config:config", "List, show and check configs."),
    "data": ("elboverse.cli.data:data", "List, describe, fetch and preview data; clean its caches."),
    "encode": ("elboverse.cli.encode:encode", "Write the latents of each row of a table."),
    "evaluate": ("elboverse.cli.evaluate:evaluate", "Bound ln p(x) under a run's trained model, honestly."),
    "explain-loss": ("elboverse.cli.explain_loss:explain_loss", "Say what a loss means as a VAE."),
    "export": ("elboverse.cli.export:export", "Write a run's numbers as CSV, Parquet, npz or for TensorBoard."),
    "judge": ("elboverse.cli.evaluate:judge", "Judge a model trained elsewhere."),
    "plugins": ("elboverse.cli.plugins:plugins", "List plugins and the components that they offer."),
    "reconstruct": ("elboverse.cli.reconstruct:reconstruct", "Write each row as the model reconstructs it."),
    "repair": ("elboverse.cli.repair:repair", "Check a run file that was changed, and seal it anew."),
    "report": ("elboverse.cli.report:report", "Write a page about a run, with all its figures inside."),
    "reproduce": ("elboverse.cli.reproduce:reproduce", "Reproduce an experiment of the paper and check it."),
    "sample": ("elboverse.cli.sample:sample", "Write new rows drawn from a trained model."),
    "score": ("elboverse.cli.score:score", "Write the ELBO of each row: how likely the model finds it."),
    "train": ("elboverse.cli.train:train", "Train a model and write its run.h5."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are used, so that ``--help`` answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the commands' names."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Return a command, imported now."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments begin with; where there is none, say which is nearest."""
        if args[0] not in COMMANDS and not args[0].startswith("-") and not ctx.resilient_parsing:
            hint = _analysis_meant(args[0]) or nearest(args[0], COMMANDS)
            ctx.fail(f"no command {args[0]!r}{f' ({hint})' if hint else ''}; there is {', '.join(sorted(COMMANDS))}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in sorted(COMMANDS.items())])


def _analysis_meant(name: str) -> str:
    """Return a hint where a command is called like an analysis."""
    from elboverse.components.registry import discover

    return f"did you mean `elboverse analyze {name}`?" if name in discover().names("analysis") else ""


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="elboverse")
def cli() -> None:
    """Train Gaussian variational autoencoders and read their training through entropies.

    Start with `elboverse train`, which needs no arguments, then type the command that it ends with.

    Every command takes `--plugin FILE.py` (repeatable), a plugin without packaging, and `--no-local-plugins`, which
    refuses those that a config names.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit.

    The code is 0 for success, 1 for an error (one message, no traceback), 2 for a usage error, 3 where `reproduce`
    found an expectation that is not met, and 128 + n for a signal n.
    """
    warnings.showwarning = _show_warning
    try:
        with _local_plugins(sys.argv[1:] if arguments is None else arguments) as rest:
            cli.main(args=rest, prog_name="elboverse", standalone_mode=False)
    except click.exceptions.Exit as ended:
        sys.exit(ended.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except ElboverseError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    except (KeyboardInterrupt, click.Abort) as abort:  # click makes the second of the first
        interruption = abort.__cause__ if isinstance(abort.__cause__, Interrupted) else None
        click.echo("Aborted." if interruption is None else str(interruption), err=True)
        sys.exit(128 + (signal.SIGINT if interruption is None else interruption.signal_number))
    except (MemoryError, RuntimeError) as error:
        short = out_of_memory(error)
        if short is None:
            raise
        click.echo(f"Error: {short}", err=True)
        sys.exit(1)
    except BrokenPipeError:
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        if error.filename is not None:  # a file of ours: a defect, not a full output
            raise
        click.echo(f"Error: the output cannot be written: {error.strerror}", err=True)
        sys.exit(1)


@contextlib.contextmanager
def _local_plugins(arguments: Sequence[str]) -> Iterator[list[str]]:
    """Yield the arguments without ``--plugin FILE`` and ``--no-local-plugins``, which hold for any command.

    They become environment variables for as long as the command runs, so that the processes that it starts load the
    same files.
    """
    rest: list[str] = []
    files: list[str] = []
    refused = False
    given = iter(arguments)
    for argument in given:
        if argument == "--":
            rest += [argument, *given]
        elif argument == "--no-local-plugins":
            refused = True
        elif argument == "--plugin":
            files.append(next(given, ""))
        elif argument.startswith("--plugin="):
            files.append(argument.partition("=")[2])
        else:
            rest.append(argument)
    for file in files:
        if not Path(file).is_file():
            raise click.UsageError(f"--plugin {file or '(nothing)'} does not exist; give a Python file.")
    before = {name: os.environ.get(name) for name in (FILES_VARIABLE, REFUSED_VARIABLE)}
    if files:
        os.environ[FILES_VARIABLE] = os.pathsep.join(str(Path(file).resolve()) for file in files)
    if refused:
        os.environ[REFUSED_VARIABLE] = "1"
    try:
        yield rest
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,  # noqa: ARG001 - the signature of warnings.showwarning
    line: Any = None,
) -> None:
    """Show a warning of elboverse as one plain line, others as Python does.

    It is told by its category: it names the line that called elboverse, which on the command line is one of click.
    """
    if issubclass(category, ElboverseWarning):
        click.echo(f"Warning: {message}", err=True)
    else:
        click.echo(warnings.formatwarning(message, category, filename, lineno, line), err=True, nl=False)
