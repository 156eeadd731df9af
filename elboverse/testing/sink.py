"""The check of a sink."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from elboverse.components.hookspecs import Component
from elboverse.contracts import Evaluation, Frame, Pictures, Record, Rows, RunDescription
from elboverse.errors import PluginError
from elboverse.testing.component import require, selection

__all__ = ["check_sink"]

STEPS: Final = 6
LATENTS: Final = 3


def check_sink(sink: str | Component, **options: Any) -> None:
    """Check a sink against `contracts.Sink`: it takes runs of one and of several replicas, with every kind of record.

    It is told of runs that finish, that are interrupted, resumed from where they were last saved, and that fail before
    the first record; its records cannot be written to, and hold values that are not finite; it writes into the run's
    folder alone, and not into ``run.h5``.

    Args:
        sink: its name, or its `Component`.
        options: its options.

    Raises:
        ConfigError: the options are wrong.
        UnknownNameError: no plugin offers a sink of that name.
        PluginError: the contract is broken.
    """
    chosen = selection("sink", sink, options)
    who = f"sink {chosen.name!r}"
    for replicas in (1, 2):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "run"
            folder.mkdir()
            (folder / "run.h5").write_bytes(b"kept")
            for done, status in ((0, "interrupted"), (STEPS // 2, "finished"), (0, "failed")):
                records = [] if status == "failed" else list(_records(done, replicas))
                _follow(chosen.build(), _run(folder, replicas, done), records, status, who)
            require((folder / "run.h5").read_bytes() == b"kept", f"{who}: it writes into run.h5, which is not its own")
            outside = [path.name for path in Path(name).iterdir() if path != folder]
            require(not outside, f"{who}: it writes {', '.join(outside)} outside the run's folder")


def _follow(sink: Any, run: RunDescription, records: list[Record], status: str, who: str) -> None:
    """Have a sink follow a run, and tell what it raises and where."""
    calls: list[tuple[str, Callable[[Any], object], Any]] = [
        ("begin(run)", sink.begin, run),
        *((f"receive({type(record).__name__})", sink.receive, record) for record in records),
        ("saved(steps)", sink.saved, run.done + len(records)),
        (f"end({status!r})", sink.end, status),
    ]
    for what, call, argument in calls:
        try:
            call(argument)
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"{who}: {what} of a run of {run.replicas} replicas, resumed at step {run.done}, raises "
                f"{type(error).__name__}: {error}"
            ) from error


def _run(folder: Path, replicas: int, done: int) -> RunDescription:
    return RunDescription(
        folder=folder,
        name="check",
        config={"name": "check", "model": {"name": "vae-1", "latent_dim": LATENTS}},
        components=({"kind": "model", "name": "vae-1", "distribution": "elboverse", "version": "0"},),
        data={"dimension": 2, "names": ["x", "y"], "unit": ""},
        environment={"elboverse": "0"},
        total_steps=STEPS,
        latent_dim=LATENTS,
        replicas=replicas,
        done=done,
    )


def _records(done: int, replicas: int) -> Iterator[Record]:
    """Yield what a run yields from a step on: evaluations, rows in two parts, a picture and a frame."""
    scalars = ("elbo", "log_likelihood", "decoder_entropy", "decoder_log_var", "beta")
    per_latent = ("kl", "encoder_entropy", "prior_entropy")
    for step in (done, STEPS):
        yield Evaluation(
            "train",
            step,
            step // 2,
            10,
            {name: _closed(replicas) for name in (*scalars, "elbo_standard_error")},
            {name: _closed(replicas, LATENTS) for name in per_latent},
        )
        if step == STEPS:
            continue
        for part in np.array_split(np.arange(done, STEPS), 2):
            yield Rows(
                part,
                {name: _closed(len(part), replicas) for name in scalars},
                {name: _closed(len(part), replicas, LATENTS) for name in per_latent},
            )
        yield Pictures(STEPS, {"samples": _closed(4, 8, 8, finite=True)})
        yield Frame(STEPS, _closed(replicas, 2, 2), {"latent_mean": _closed(replicas, 5, LATENTS)})


def _closed(*shape: int, finite: bool = False) -> Any:
    values = np.linspace(0, 1, int(np.prod(shape))).reshape(shape)
    if not finite:
        values.flat[0] = np.nan
    values.flags.writeable = False
    return values
