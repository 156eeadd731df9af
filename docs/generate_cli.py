"""Write docs/cli.md from the commands' own help; a test checks that it is up to date."""

from __future__ import annotations

from pathlib import Path

import click

from elboverse.cli import cli

HEAD = """# The command line

This page is generated from the commands' own help by `nox -s docs`.

Exit codes: 0 success, 1 error (one message, no traceback), 2 usage error, 3 `reproduce` found an expectation not met,
128 + n ended by signal n (130 after Ctrl-C).
"""


def page() -> str:
    """Return the page."""
    parts = [HEAD]
    pending = [("elboverse", cli, click.Context(cli, info_name="elboverse", terminal_width=96, max_content_width=96))]
    while pending:
        name, command, context = pending.pop(0)
        parts.append(f"## `{name}`\n\n```text\n{command.get_help(context).rstrip()}\n```\n")
        if isinstance(command, click.Group):
            for below in command.list_commands(context):
                found = command.get_command(context, below)
                if found is not None:
                    inner = click.Context(found, info_name=below, parent=context, terminal_width=96)
                    pending.append((f"{name} {below}", found, inner))
    return "\n".join(parts)


if __name__ == "__main__":
    Path(__file__).with_name("cli.md").write_text(page(), encoding="utf-8")
