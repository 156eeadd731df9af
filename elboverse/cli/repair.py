"""``elboverse repair``."""

from __future__ import annotations

from pathlib import Path

import click

from elboverse.errors import RunFileError
from elboverse.runfile.repair import repair as repair_file
from elboverse.runfile.seal import Sealing

__all__ = ["repair"]

_STATES = {
    Sealing.CUT_OFF: "The seal at its end was cut off, as by another program that opened the file for writing.",
    Sealing.APPENDED: "Bytes were added behind its seal; everything before it is as it was written.",
    Sealing.BROKEN: "Its seal does not match: it was damaged, or changed by another program.",
    Sealing.FOREIGN: "It has no seal, and more bytes than HDF5 knows of.",
}


@click.command()
@click.argument("run", type=click.Path(path_type=Path), metavar="RUN.h5")
@click.option("--accept-changes", is_flag=True, help="Seal it although something in it was changed or added.")
@click.option("--dry-run", is_flag=True, help="Only check it and show what differs.")
def repair(run: Path, *, accept_changes: bool, dry_run: bool) -> None:
    """Check everything in RUN.h5, show what differs from what elboverse wrote, and seal it anew.

    For a run file that was opened for writing by another program, which cuts its seal off. Every checksum is verified;
    a file that is damaged is refused.
    """
    found = repair_file(run, accept_changes=accept_changes, dry_run=dry_run)
    if found.state is Sealing.INTACT:
        click.echo(f"{found.path}: intact, its seal matches; there is nothing to repair.")
        return
    click.echo(f"{found.path}: {_STATES[found.state]}")
    click.echo(f"  {found.objects} datasets read, every checksum matches.")
    for difference in found.differences:
        click.echo(f"  {difference}")
    if not found.differences:
        click.echo("  Nothing in it differs from what elboverse writes.")
    if found.sealed:
        click.echo("Sealed anew.")
    elif not dry_run:
        raise RunFileError(f"{found.path}: not sealed, since it was changed; --accept-changes seals it as it is")
