"""Files that arrive from strangers: damaged run files, and what a run file or a config may say without being broken.

How a forged run file is refused is in `test_runfile_hostile.py`, arrays in `test_array_dataset.py`, configs at random
in `test_config.py`, IDX files in the tests of elboverse-images. The long version of the first test is
`tests/soak/mutations.py`.
"""

from __future__ import annotations

import resource
import time
from pathlib import Path
from typing import Any

import h5py
import pytest
from support.mutating import in_a_child
from support.reliable import small, train_in_pieces
from support.run_samples import forged, replace_document

from elboverse.cli import main
from elboverse.errors import ConfigError, ElboverseError
from elboverse.runfile import Run
from elboverse.running.runs import resume, train


def test_no_damaged_copy_of_a_real_run_crashes_hangs_or_is_read_as_another(tmp_path: Path) -> None:
    path = train(small(), out=tmp_path / "one").path
    other = train(small(seed=1), out=tmp_path / "two").path
    tally = in_a_child(path, other, count=250, seed=11)
    assert tally["refused"] > 200
    assert tally["unnamed"] == 0


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a run that was interrupted after seven steps."""
    return train_in_pieces(small(), tmp_path_factory.mktemp("run"), [7], to_the_end=False).read_bytes()


def change(file: h5py.File, document: str, key: str, value: object) -> None:
    with Run.open(Path(file.filename + ".intact")) as run:
        table: Any = run.documents[document]
    inner = table
    *parents, last = (int(part) if part.isdigit() else part for part in key.split("."))
    for part in parents:
        inner = inner[part]
    inner[last] = value
    replace_document(file, document, table)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.name", "vae-9", "unknown model 'vae-9'"),
        ("model", 7, "model: "),
        ("model.latent_dim", -3, "model.latent_dim: got -3"),
        ("model.latent_dim", 3, "the checkpoint does not fit the model"),
        ("dataset.points", 10**15, "dataset"),
        ("seed", 5, "gives other data than when the run began"),
        ("training", "fast", "training: "),
        ("training.epochs", 10**18, "training.epochs: "),
        ("training.replicas", 10**12, "training.replicas: "),
        ("training.samples", 10**12, "training.samples: "),
        ("training.device", "/dev/zero", "training.device: "),
        ("unknown", {"a": [{}] * 9}, "unknown: unknown key"),
    ],
)
def test_a_run_file_whose_config_is_absurd_is_not_resumed(
    tmp_path: Path, interrupted: bytes, key: str, value: object, message: str
) -> None:
    path = forge(tmp_path, interrupted, "config", key, value)
    before = path.read_bytes()
    with pytest.raises(ElboverseError, match=message):
        resume(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("document", "key", "value"),
    [
        ("environment", "resumed", 5),
        ("environment", "packages", []),
        ("schedule", "annealing_steps", -1),
        ("schedule", "annealing_steps", "many"),
        ("schedule", "annealing_steps", 10**30),
        ("schedule", "annealing_steps", 10**9),
        ("engine", "replica_group", 0),
        ("data", "unit", {"a": 1}),
        ("components", "0", [{}]),
        ("components", "0", {"kind": [], "name": {}}),
    ],
)
def test_what_else_a_run_file_says_wrongly_does_no_harm(
    tmp_path: Path, interrupted: bytes, document: str, key: str, value: object, capsys: pytest.CaptureFixture[str]
) -> None:
    path = forge(tmp_path, interrupted, document, key, value)
    started = time.perf_counter()
    main(["train", "--quiet", "--like", str(path), "--out", str(tmp_path / "again")])
    main(["train", "--quiet", "--resume", str(path)])
    assert Run.open(path).status == "finished"
    assert time.perf_counter() - started < 10
    assert capsys.readouterr().err == ""


def forge(folder: Path, content: bytes, document: str, key: str, value: object) -> Path:
    path = folder / "run.h5"
    path.write_bytes(content)
    path.with_name("run.h5.intact").write_bytes(content)
    with forged(path) as file:
        change(file, document, key, value)
    return path


ABSURD: dict[str, tuple[dict[str, Any], str]] = {
    "epochs": ({"epochs": 10**15}, "training.epochs: got 1000000000000000"),
    "steps": ({"epochs": 10**7, "batch_size": 1}, "training.epochs: got 10,000,000, which are"),
    "samples": ({"samples": 10**9}, "training.samples"),
    "replicas": ({"replicas": 10**9}, "training.replicas"),
    "batch": ({"batch_size": 10**15}, "training.batch_size"),
    "seconds": ({"save_every_seconds": -1.0}, "training.save_every_seconds"),
    "infinity": ({"learning_rate": float("inf")}, "training.learning_rate"),
    "not a number": ({"save_every_seconds": float("nan")}, "training.save_every_seconds"),
}


@pytest.mark.parametrize("case", ABSURD)
def test_an_absurd_config_is_refused_at_once_and_by_name(tmp_path: Path, case: str) -> None:
    training, message = ABSURD[case]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    with pytest.raises(ConfigError, match=message):
        train({"dataset": {"name": "circle", "points": 2000}, "training": training}, out=tmp_path / "run")
    assert time.perf_counter() - started < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # KiB on Linux: 1 GiB
    assert not (tmp_path / "run").exists()
