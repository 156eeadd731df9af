"""What a run says in all, and what TensorBoard shows of it, to compare runs by."""

from __future__ import annotations

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from elboverse.runfile import Run


def everything(path: Path) -> dict[str, object]:
    """Return all that a run file says."""
    with Run.open(path) as run:
        return {
            "documents": run.documents,
            "attributes": (run.status, run.created, run.elboverse_version, run.checkpoint_step),
            **{name: (run.units(name), run.series(name).tobytes()) for name in run.stored},
            **{
                f"{split}/{name}": (run.evaluation_points(split), run.evaluation(split, name).tobytes())
                for split in run.splits
                for name in run.evaluation_names(split, stored=True)
            },
            **{key: (array.shape, array.tobytes()) for key, array in run.checkpoint().items()},
        }


def events(run_folder: Path) -> dict[str, list[int]]:
    """Return the steps that TensorBoard shows, by tag."""
    accumulator = EventAccumulator(str(run_folder / "tensorboard"), size_guidance={"scalars": 0, "images": 0})
    accumulator.Reload()
    tags = accumulator.Tags()
    return {
        **{tag: [event.step for event in accumulator.Scalars(tag)] for tag in tags["scalars"]},
        **{tag: [event.step for event in accumulator.Images(tag)] for tag in tags["images"]},
    }
