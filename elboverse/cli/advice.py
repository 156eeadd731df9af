"""Advice for settings that were given in another way than a config wants them: as options, or without their table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

import attrs
import click

from elboverse.config import SWEEP, ExperimentConfig, TrainingConfig, flattened
from elboverse.errors import ConfigError, nearest

__all__ = ["AdvisedCommand", "require_known_setting", "setting_of"]

_OTHER_WORDS: Final[Mapping[str, str]] = {
    "batch": "training.batch_size",
    "beta": "annealing",
    "data": "dataset.path",
    "hidden": "model.network.hidden",
    "latents": "model.latent_dim",
    "latent_dims": "model.latent_dim",
    "lr": "training.learning_rate",
    "path": "dataset.path",
}
"""What people call settings elsewhere."""

_SETTINGS: Final = (
    "dataset.path",
    "model.latent_dim",
    "model.network.hidden",
    *(f"training.{field.name}" for field in attrs.fields(TrainingConfig)),
)


def setting_of(word: str, known: Iterable[str] = ()) -> str | None:
    """Return the path of the setting that a bare word may mean, such as ``training.epochs`` for ``epochs``.

    Args:
        word: of a user, dashes or underscores.
        known: further paths, those of the config at hand.
    """
    name = word.strip("-").replace("-", "_")
    top = [field.name for field in attrs.fields(ExperimentConfig)]
    if name in top:
        return name
    by_end = {path.rpartition(".")[2]: path for path in (*known, *_SETTINGS)}
    if name in by_end:
        return by_end[name]
    return _OTHER_WORDS.get(name)


def require_known_setting(override: str, key: str, table: Mapping[str, Any]) -> None:
    """Check that an override names a setting by its whole path.

    Args:
        override: as it was given.
        key: its path.
        table: the config that it is for.

    Raises:
        ConfigError: the config has no such setting at its top; the message says which one may be meant.
    """
    top = {field.name for field in attrs.fields(ExperimentConfig)} | {SWEEP}
    first = key.partition(".")[0]
    if first in top:
        return
    found = setting_of(key, flattened(table)) if "." not in key else None
    if found is None:
        hint = nearest(first, top)
        raise ConfigError(
            f"--set {override}: no setting {first!r}{f' ({hint})' if hint else ''}; expected one below "
            f"{', '.join(sorted(top))}"
        )
    value = override.partition("=")[2].strip()
    raise ConfigError(
        f"--set {override}: no setting {key!r} at the top of a config; give its path: --set {found}={value}"
    )


class AdvisedCommand(click.Command):
    """A command that, of an option that it has not, says which setting may be meant."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does it, with advice."""
        words = list(args)  # click takes them off one by one
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            found = setting_of(error.option_name)
            if found is None:
                raise
            name = error.option_name
            given = next((word for word, before in zip(words[1:], words, strict=False) if before == name), None)
            value = given if given is not None and not given.startswith("-") else "VALUE"
            raise click.UsageError(
                f"no option {name}; settings of the config are given with --set: --set {found}={value}", ctx
            ) from None
