from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.run_samples import CHECKPOINT, DOCUMENTS, evaluation, rows, sample, writer

from elboverse.errors import AnalysisError, RunFileError
from elboverse.runfile import Run, RunWriter, schema
from elboverse.theory import identities

ROOT = Path(__file__).parents[2]


def run_python(code: str, *arguments: object, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own that can import what the tests can."""
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in {"run.h5", ".run.h5.lock"})


# --- round trips -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("steps", "replicas", "latent_dim"), [(0, 1, 1), (1, 1, 2), (37, 3, 4), (3000, 2, 17)])
def test_every_row_comes_back_as_it_was_stored(
    tmp_path: Path, dtype: str, steps: int, replicas: int, latent_dim: int
) -> None:
    step, scalars, per_latent = rows(steps, replicas, latent_dim)
    with writer(tmp_path / "run.h5", replicas=replicas, latent_dim=latent_dim, dtype=dtype) as out:
        for part in np.array_split(np.arange(steps), 3):
            out.append_rows(
                step[part],
                {name: values[part] for name, values in scalars.items()},
                {name: values[part] for name, values in per_latent.items()},
            )
        assert out.rows == steps
        out.snapshot("running", {}, steps)
    with Run.open(tmp_path / "run.h5") as run:
        assert (run.replicas, run.latent_dim, run.dtype, run.status) == (replicas, latent_dim, dtype, "running")
        np.testing.assert_array_equal(run.steps, step)
        for name, values in {**scalars, **per_latent}.items():
            found = run.series(name)
            assert found.dtype == dtype
            np.testing.assert_array_equal(found, values.astype(dtype))
            np.testing.assert_array_equal(run.series(name, replica=replicas - 1), values.astype(dtype)[:, -1])


def test_a_run_without_any_row_has_series_of_length_zero(tmp_path: Path) -> None:
    with writer(tmp_path / "run.h5", replicas=2) as out:
        out.snapshot("failed", {}, 0)
    run = Run.open(tmp_path / "run.h5")
    assert run.series("kl").shape == (0, 2, 3)
    assert run.series("gap").shape == (0, 2)
    assert run.splits == ()


def test_steps_cannot_be_changed_by_accident(tmp_path: Path) -> None:
    run = Run.open(sample(tmp_path / "run.h5"))
    with pytest.raises(ValueError, match="read-only"):
        run.steps[0] = 5


def test_evaluations_come_back_in_float64(tmp_path: Path) -> None:
    run = Run.open(sample(tmp_path / "run.h5"))
    assert set(run.splits) == {"train", "held_out"}
    assert (run.evaluation_points("train"), run.evaluation_points("held_out")) == (10, 5)
    np.testing.assert_array_equal(run.evaluation_steps("held_out"), [0, 20])
    np.testing.assert_array_equal(run.evaluation_epochs("held_out"), [0, 1])
    for number in (0, 1):
        scalars, per_latent = evaluation(2, 3, seed=number)
        for name, values in {**scalars, **per_latent}.items():
            np.testing.assert_array_equal(run.evaluation("held_out", name)[number], values)
            np.testing.assert_array_equal(run.evaluation("held_out", name, replica=1)[number], values[1])


def test_documents_come_back_as_they_were(tmp_path: Path) -> None:
    run = Run.open(sample(tmp_path / "run.h5", documents={**DOCUMENTS, "notes": ["ü", None, 2]}))
    assert run.documents == {**DOCUMENTS, "notes": ["ü", None, 2]}
    assert (run.config, run.environment) == (DOCUMENTS["config"], DOCUMENTS["environment"])
    assert (run.components, run.data) == (DOCUMENTS["components"], DOCUMENTS["data"])


def test_checkpoint_arrays_keep_their_types_and_shapes_also_scalars_and_empty_ones(tmp_path: Path) -> None:
    run = Run.open(sample(tmp_path / "run.h5"))
    found = run.checkpoint()
    assert set(found) == set(CHECKPOINT)
    assert run.checkpoint_step == 20
    for key, array in CHECKPOINT.items():
        assert (found[key].dtype, found[key].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found[key], array)


@pytest.mark.parametrize("prefix", ["model", "model/", "/model/"])
def test_a_folder_of_the_checkpoint_is_read_with_paths_that_start_there(tmp_path: Path, prefix: str) -> None:
    assert list(Run.open(sample(tmp_path / "run.h5")).checkpoint(prefix)) == ["encoder.0.weight"]


def test_series_beyond_the_required_ones_are_stored_with_their_units(tmp_path: Path) -> None:
    step, scalars, per_latent = rows(4)
    scalars["gradient_norm"] = np.arange(4.0)[:, None]
    per_latent["mystery"] = np.ones((4, 1, 3))
    with writer(tmp_path / "run.h5", units={"gradient_norm": "nat"}) as out:
        out.append_rows(step, scalars, per_latent)
        out.snapshot("running", {}, 4)
    run = Run.open(tmp_path / "run.h5")
    np.testing.assert_array_equal(run.series("gradient_norm"), scalars["gradient_norm"])
    assert {"gradient_norm", "mystery"} <= set(run.names)
    assert (run.units("gradient_norm"), run.units("mystery")) == ("nat", schema.UNSTATED)


def test_derived_series_equal_the_identities_of_the_stored_ones(tmp_path: Path) -> None:
    run = Run.open(sample(tmp_path / "run.h5", dtype="float64"))
    for read in (run.series, lambda name: run.evaluation("train", name)):
        decoder, encoder, prior = (read(f"{part}_entropy") for part in ("decoder", "encoder", "prior"))
        total = -decoder + encoder.sum(-1) - prior.sum(-1)
        np.testing.assert_allclose(read("entropy_sum"), total, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(read("entropy_drop"), prior - encoder)
    np.testing.assert_array_equal(run.series("gap"), run.series("elbo") - run.series("entropy_sum"))
    residual = identities.prior_residual(*(run.series(name) for name in ("kl", "encoder_entropy", "prior_entropy")))
    np.testing.assert_array_equal(run.series("prior_residual"), residual)
    np.testing.assert_array_equal(run.series("prior_residual", replica=1), residual[:, 1])
    residual = run.series("log_likelihood") + run.series("decoder_entropy")
    np.testing.assert_array_equal(run.series("decoder_residual"), residual)


@pytest.mark.parametrize("replica", [None, 1])
@pytest.mark.parametrize("last", [0, 1, 4, 99])
def test_the_last_rows_of_a_series_are_those_of_the_whole(tmp_path: Path, replica: int | None, last: int) -> None:
    with Run.open(sample(tmp_path / "run.h5", steps=6)) as run:
        for name in ("elbo", "kl", "entropy_sum", "prior_residual"):
            expected = run.series(name, replica)[max(0, 6 - last) :]
            np.testing.assert_array_equal(run.series(name, replica, last), expected)


def test_what_is_stored_of_an_evaluation_is_not_derived_again(tmp_path: Path) -> None:
    run = Run.open(sample(tmp_path / "run.h5"))
    np.testing.assert_array_equal(run.evaluation("train", "gap")[0], evaluation(2, 3, seed=0)[0]["gap"])
    assert "gap" in run.evaluation_names("train", stored=True)
    assert "entropy_drop" in set(run.evaluation_names("train")) - set(run.evaluation_names("train", stored=True))


def test_every_quantity_has_a_unit(tmp_path: Path) -> None:
    run = Run.open(sample(tmp_path / "run.h5"))
    assert {name: run.units(name) for name in ("beta", "kl", "prior_log_var", "gap")} == {
        "beta": "1",
        "kl": "nat",
        "prior_log_var": "ln(data unit^2)",
        "gap": "nat",
    }
    assert run.evaluation_units("train", "mean_variance") == "1"


def test_plain_h5py_reads_values_units_and_labels(tmp_path: Path) -> None:
    path = sample(tmp_path / "run.h5")
    with h5py.File(path) as file:
        assert file.attrs["format"] == b"elboverse-run"
        assert file.attrs["format_version"] == 1
        assert json.loads(file["documents/config"][()].tobytes()) == DOCUMENTS["config"]
        kl = file["trajectory/kl"]
        assert kl.attrs["units"] == b"nat"
        assert [dimension.label for dimension in kl.dims] == ["step", "replica", "latent"]
        np.testing.assert_array_equal(kl[()], Run.open(path).series("kl"))
        np.testing.assert_array_equal(
            file["checkpoint/model/encoder.0.weight"][()], CHECKPOINT["model/encoder.0.weight"]
        )

        def check(name: str, item: h5py.HLObject) -> None:
            assert not isinstance(item, h5py.Dataset) or (item.fletcher32 and item.chunks), name

        file.visititems(check)


@pytest.mark.skipif(shutil.which("h5dump") is None, reason="h5dump is not installed")
def test_h5dump_reads_the_file(tmp_path: Path) -> None:
    path = sample(tmp_path / "run.h5")
    dumped = subprocess.run(["h5dump", path], capture_output=True, text=True, check=True)
    assert 'DATASET "encoder_entropy"' in dumped.stdout
    assert dumped.stderr == ""


def test_chunks_hold_whole_rows_of_about_256_kib() -> None:
    assert schema.chunk_shape((1_000_000, 1, 64), 4) == (1024, 1, 64)
    assert schema.chunk_shape((10, 2, 3), 4) == (10, 2, 3)
    assert schema.chunk_shape((0, 2, 3), 4) == (1, 2, 3)
    assert schema.chunk_shape((4, 1 << 20), 8) == (1, 1 << 15)


def test_a_long_run_is_opened_at_once(tmp_path: Path) -> None:
    path = sample(tmp_path / "run.h5", steps=10_000, replicas=1, latent_dim=20)
    durations = []
    for _ in range(5):
        started = time.perf_counter()
        Run.open(path).series("kl")
        durations.append(time.perf_counter() - started)
    assert min(durations) < 0.1


# --- what is refused -------------------------------------------------------------------------------------------


def test_an_unknown_series_is_answered_with_the_nearest_and_all_known_ones(tmp_path: Path) -> None:
    run = Run.open(sample(tmp_path / "run.h5"))
    with pytest.raises(
        AnalysisError, match=r"no series 'encoder_entropi' \(did you mean 'encoder_entropy'\?\); known: "
    ):
        run.series("encoder_entropi")
    with pytest.raises(AnalysisError, match=r"'nonsense'; known: .*kl"):
        run.units("nonsense")
    with pytest.raises(AnalysisError, match="no evaluation of 'test'; evaluated: held_out, train"):
        run.evaluation("test", "elbo")
    with pytest.raises(AnalysisError, match=r"replica 2; expected 0 … 1"):
        run.series("elbo", replica=2)
    with pytest.raises(AnalysisError, match=r"got replica -1"):
        run.evaluation("train", "elbo", replica=-1)


def test_rows_that_do_not_fit_are_refused_and_leave_the_history_as_it_was(tmp_path: Path) -> None:
    with writer(tmp_path / "run.h5") as out:
        out.append_rows(*rows(3))
        step, scalars, per_latent = rows(2, first=3)
        short = {**scalars, "beta": scalars["beta"][:1]}
        for given, message in (
            ((step - 1, scalars, per_latent), "trajectory/step: steps must increase from above 2"),
            ((step[::-1], scalars, per_latent), "trajectory/step: steps must increase"),
            ((step * 1.0, scalars, per_latent), "trajectory/step: got float64"),
            ((step, short, per_latent), r"trajectory/beta: got shape \(1, 1\); expected \(2, 1\)"),
            ((step, scalars, {**per_latent, "kl": scalars["elbo"]}), "trajectory/kl: got shape"),
            ((step, {}, per_latent), "trajectory/beta: missing"),
            ((step, {**scalars, "extra": scalars["elbo"]}, per_latent), "trajectory/extra: new"),
            ((step, {**scalars, "No name": scalars["elbo"]}, per_latent), "trajectory/No name: no usable name"),
        ):
            with pytest.raises(RunFileError, match=message):
                out.append_rows(*given)
        assert out.rows == 3
        out.append_rows(step, scalars, per_latent)
        assert out.rows == 5


def test_evaluations_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with writer(tmp_path / "run.h5") as out:
        out.append_evaluation("train", 0, 0, 10, *evaluation())
        with pytest.raises(RunFileError, match="11 points"):
            out.append_evaluation("train", 1, 0, 11, *evaluation())
        with pytest.raises(RunFileError, match="steps must increase"):
            out.append_evaluation("train", 0, 0, 10, *evaluation())
        with pytest.raises(RunFileError, match="no usable name of a split"):
            out.append_evaluation("a/b", 1, 0, 10, *evaluation())
        with pytest.raises(RunFileError, match="evaluation/train/elbo: got shape"):
            out.append_evaluation("train", 1, 0, 10, *evaluation(replicas=2))
        out.snapshot("running", {}, 0)
    np.testing.assert_array_equal(Run.open(tmp_path / "run.h5").evaluation_steps("train"), [0])


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ({"config": {}}, "document 'environment': got NoneType"),
        ({**DOCUMENTS, "config": []}, "document 'config': got list"),
        ({**DOCUMENTS, "config": {"rate": float("nan")}}, "document 'config': cannot be stored as JSON"),
        ({**DOCUMENTS, "config": {"seed": 10**400}}, "document 'config': cannot be stored as JSON"),
        ({**DOCUMENTS, "config": {"path": Path()}}, "document 'config': cannot be stored as JSON"),
        ({**DOCUMENTS, "data": {"names": "x" * (9 << 20)}}, "bytes, at most"),
        ({**DOCUMENTS, "a/b": {}}, "document 'a/b'"),
    ],
)
def test_documents_that_are_no_json_are_refused_before_anything_is_written(
    tmp_path: Path, documents: dict[str, object], message: str
) -> None:
    with pytest.raises(RunFileError, match=message):
        writer(tmp_path / "run.h5", documents=documents)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        ({"a": np.zeros(1, np.float16)}, "checkpoint/a: got float16; expected float32"),
        ({"a": np.array(["x"])}, "checkpoint/a: got <U1"),
        ({"a/../b": np.zeros(1)}, "no usable name"),
        ({"/a": np.zeros(1)}, "no usable name"),
        ({"a": np.zeros(1), "a/b": np.zeros(1)}, "'a' is an array, so no folder"),
    ],
)
def test_checkpoints_that_cannot_be_read_back_are_refused(
    tmp_path: Path, checkpoint: dict[str, np.ndarray], message: str
) -> None:
    with writer(tmp_path / "run.h5") as out:
        with pytest.raises(RunFileError, match=message):
            out.snapshot("running", checkpoint, 0)
        with pytest.raises(RunFileError, match="status: got 'done'"):
            out.snapshot("done", {}, 0)
        with pytest.raises(RunFileError, match="got step -1"):
            out.snapshot("running", {}, -1)
    assert not (tmp_path / "run.h5").exists()


def test_an_existing_file_is_kept_unless_overwriting_is_asked_for(tmp_path: Path) -> None:
    path = sample(tmp_path / "run.h5")
    before = path.read_bytes()
    with pytest.raises(RunFileError, match=r"already exists; give --overwrite .* --out"):
        writer(path)
    with writer(path, overwrite=True) as out:
        assert path.read_bytes() == before
        out.snapshot("running", {}, 0)
    assert Run.open(path).status == "running"
    assert leftovers(tmp_path) == []


def test_a_directory_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.h5").mkdir()
    with pytest.raises(RunFileError, match="is a directory"):
        writer(tmp_path / "run.h5", overwrite=True)


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFileError, match="choose another folder"):
        writer(tmp_path / "file" / "run.h5")


# --- one writer at a time --------------------------------------------------------------------------------------

OPEN_WRITER = """
import sys
from pathlib import Path
from support import run_samples
from elboverse.errors import RunFileError
try:
    run_samples.writer(Path(sys.argv[1]), overwrite=True).close()
except RunFileError as error:
    print(error)
    sys.exit(3)
"""


def test_a_second_writer_is_refused_until_the_first_one_closes(tmp_path: Path) -> None:
    path = sample(tmp_path / "run.h5")
    before = path.read_bytes()
    with RunWriter.resume(path):
        (tmp_path / ".run.h5.tmp-1").write_text("of the writer at work")
        refused = run_python(OPEN_WRITER, path)
        assert refused.returncode == 3, refused.stderr
        assert "another process is writing to this run" in refused.stdout
        assert path.read_bytes() == before
        assert leftovers(tmp_path) == [".run.h5.tmp-1"]
    assert run_python(OPEN_WRITER, path).returncode == 0


def test_what_a_killed_writer_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    path = sample(tmp_path / "run.h5")
    (tmp_path / ".run.h5.tmp-4711").write_bytes(b"half a snapshot")
    RunWriter.resume(path).close()
    assert leftovers(tmp_path) == []


# --- nothing is lost -------------------------------------------------------------------------------------------


def test_a_failing_flush_leaves_the_last_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = sample(tmp_path / "run.h5")
    before = path.read_bytes()

    def broken(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    with RunWriter.resume(path) as out:
        out.append_rows(*rows(5, 2, first=20))
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", broken)
            with pytest.raises(RunFileError, match="cannot be saved: Input/output error"):
                out.snapshot("running", CHECKPOINT, 25)
        assert path.read_bytes() == before
        assert leftovers(tmp_path) == []
        out.snapshot("running", CHECKPOINT, 25)
    assert len(Run.open(path).steps) == 25


def test_a_full_disk_leaves_the_last_file_and_the_next_save_holds_everything(tmp_path: Path) -> None:
    path = sample(tmp_path / "run.h5")
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with RunWriter.resume(path) as out:
        out.append_rows(*rows(5, 2, first=20))
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))
        try:
            with pytest.raises(RunFileError, match="cannot be saved: File too large"):
                out.snapshot("running", CHECKPOINT, 25)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert path.read_bytes() == before
        assert leftovers(tmp_path) == []
        out.snapshot("running", CHECKPOINT, 25)
    assert len(Run.open(path).steps) == 25


def test_a_folder_that_was_removed_is_reported_and_not_made_again(tmp_path: Path) -> None:
    with writer(tmp_path / "run" / "run.h5") as out:
        shutil.rmtree(tmp_path / "run")
        with pytest.raises(RunFileError, match="cannot be saved: No such file or directory"):
            out.snapshot("running", {}, 0)
    assert list(tmp_path.iterdir()) == []


WRITE_FOR_EVER = """
import sys
from pathlib import Path
from support import run_samples
with run_samples.writer(Path(sys.argv[1]), overwrite=True) as out:
    first = 0
    while True:
        out.append_rows(*run_samples.rows(100, first=first))
        first += 100
        out.snapshot("running", {}, first)
        print(first, flush=True)
"""


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_writer_leaves_its_last_snapshot(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "run.h5"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
    command = [sys.executable, "-c", WRITE_FOR_EVER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(np.random.default_rng(seed).uniform(0, 0.3))
        child.kill()
        reported = [100, *(int(line) for line in child.stdout)][-1]
    run = Run.open(path)
    assert len(run.steps) in {reported, reported + 100}
    for first in range(0, len(run.steps), 100):
        expected = rows(100, first=first)[2]["kl"].astype(np.float32)
        np.testing.assert_array_equal(run.series("kl")[first : first + 100], expected)
    with RunWriter.resume(path) as out:
        assert out.rows == len(run.steps)
    assert leftovers(tmp_path) == []


def test_readers_at_work_during_snapshots_never_fail_and_never_see_fewer_rows(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    done = threading.Event()
    faults: list[BaseException] = []
    reads: list[int] = []

    def read() -> None:
        try:
            while not done.is_set() or not reads:
                with Run.open(path) as run:
                    elbo = run.series("elbo")
                    assert np.array_equal(run.steps, np.arange(len(elbo)))
                with h5py.File(path) as file:
                    assert len(file["trajectory/kl"]) >= len(elbo)
                reads.append(len(elbo))
        except BaseException as error:  # noqa: BLE001 - handed to the test, whatever it is
            faults.append(error)

    with writer(path) as out:
        out.snapshot("running", {}, 0)
        reader = threading.Thread(target=read)
        reader.start()
        for number in range(40):
            out.append_rows(*rows(50, first=50 * number))
            out.snapshot("running", CHECKPOINT, 50 * number)
        done.set()
        reader.join()
    assert faults == []
    assert reads == sorted(reads)


def test_an_open_run_keeps_showing_what_it_showed(tmp_path: Path) -> None:
    path = sample(tmp_path / "run.h5")
    run = Run.open(path)
    with RunWriter.resume(path) as out:
        out.truncate(0)
        out.snapshot("running", {}, 0)
    assert run.series("kl").shape == (20, 2, 3)
    assert set(run.checkpoint()) == set(CHECKPOINT)
    assert Run.open(path).series("kl").shape == (1, 2, 3)


def test_opening_a_run_leaves_no_file_open_behind(tmp_path: Path) -> None:
    path = sample(tmp_path / "run.h5")
    before = len(list(Path("/dev/fd").iterdir()))
    for _ in range(5):
        Run.open(path).series("kl")
    assert len(list(Path("/dev/fd").iterdir())) == before


# --- going on --------------------------------------------------------------------------------------------------


def test_a_resumed_file_equals_one_written_in_a_single_go(tmp_path: Path) -> None:
    sample(tmp_path / "first" / "run.h5", steps=20)
    with RunWriter.resume(tmp_path / "first" / "run.h5") as out:
        out.append_rows(*rows(10, 2, first=20))
        out.append_evaluation("train", 30, 2, 10, *evaluation(2, seed=2))
        out.snapshot("finished", CHECKPOINT, 30)
    with writer(tmp_path / "second.h5", replicas=2) as out:
        out.append_rows(*rows(20, 2))
        for number in (0, 1):
            for split, points in (("train", 10), ("held_out", 5)):
                out.append_evaluation(split, number * 20, number, points, *evaluation(2, seed=number))
        out.append_rows(*rows(10, 2, first=20))
        out.append_evaluation("train", 30, 2, 10, *evaluation(2, seed=2))
        out.snapshot("finished", CHECKPOINT, 30)
    with h5py.File(tmp_path / "first" / "run.h5") as first, h5py.File(tmp_path / "second.h5") as second:
        names: list[str] = []
        first.visit(names.append)
        for name in names:
            assert name in second
            assert {key: str(value) for key, value in first[name].attrs.items() if "LABELS" not in key} == {
                key: str(value) for key, value in second[name].attrs.items() if "LABELS" not in key
            }
            if isinstance(first[name], h5py.Dataset):
                np.testing.assert_array_equal(first[name][()], second[name][()])


def test_resuming_keeps_start_documents_and_units_unless_they_are_given_anew(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    step, scalars, per_latent = rows(2)
    with writer(path, units={"extra": "bit"}) as out:
        out.append_rows(step, {**scalars, "extra": scalars["elbo"]}, per_latent)
        out.snapshot("interrupted", {}, 2)
    created = Run.open(path).created
    with RunWriter.resume(path, documents={"config": {"name": "longer"}}) as out:
        out.snapshot("finished", {}, 2)
    run = Run.open(path)
    assert (run.config, run.data, run.created) == ({"name": "longer"}, DOCUMENTS["data"], created)
    assert run.units("extra") == "bit"


def test_truncating_drops_all_that_came_after_a_step(tmp_path: Path) -> None:
    path = sample(tmp_path / "run.h5")
    with RunWriter.resume(path) as out:
        out.truncate(7)
        assert out.rows == 8
        out.append_rows(*rows(3, 2, first=8))
        out.snapshot("running", {}, 11)
    run = Run.open(path)
    np.testing.assert_array_equal(run.steps, np.arange(11))
    np.testing.assert_array_equal(run.evaluation_steps("train"), [0])
    np.testing.assert_array_equal(run.series("kl")[8:], rows(3, 2, first=8)[2]["kl"].astype(np.float32))


def test_resuming_what_is_not_there_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(RunFileError, match="no such file, so nothing to resume"):
        RunWriter.resume(tmp_path / "run.h5")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_file_is_not_resumed_and_its_lock_is_released(tmp_path: Path) -> None:
    path = sample(tmp_path / "run.h5")
    path.write_bytes(path.read_bytes()[:-1])
    damaged = path.read_bytes()
    with pytest.raises(RunFileError, match="seal"):
        RunWriter.resume(path)
    assert path.read_bytes() == damaged
    assert run_python(OPEN_WRITER, path).returncode == 0


# --- the clock -------------------------------------------------------------------------------------------------


def test_snapshots_are_due_after_the_interval_and_fifty_times_their_duration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    duration = [0.0]
    flush = os.fsync

    def slow(descriptor: int) -> None:
        now[0] += duration[0] / 2  # the file and its folder are flushed
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", slow)
    with writer(tmp_path / "run.h5", minimum_interval=10.0) as out:
        for pause, taken in ((10.0, 0.1), (10.0, 1.0), (50.0, 0.0), (10.0, 0.0)):
            now[0] += pause - 0.01
            assert not out.snapshot_due()
            now[0] += 0.02
            assert out.snapshot_due()
            duration[0] = taken
            out.snapshot("running", {}, 0)


def test_a_snapshot_that_fails_is_due_again_later(tmp_path: Path) -> None:
    with writer(tmp_path / "run" / "run.h5", minimum_interval=0.0) as out:
        assert out.snapshot_due()
        shutil.rmtree(tmp_path / "run")
        with pytest.raises(RunFileError):
            out.snapshot("running", {}, 0)
        assert not out.snapshot_due()
