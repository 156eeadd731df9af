"""A disk that is full, a folder that is gone or closed: training goes on, and the last good file stays as it was."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from rich.console import Console
from support.reliable import after_update, after_updates, assert_same_run, small

from elboverse.cli import main
from elboverse.errors import ConfigError, RunFileError
from elboverse.runfile import Run, writer
from elboverse.running.runs import resume, train

OFTEN = {"save_every_seconds": 0.0, "evaluate_every": 1}
"""Settings of a run that is saved after every six of its 30 steps."""


@pytest.fixture(autouse=True)
def _no_rest_between_snapshots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_REST_PER_SNAPSHOT", 0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(small(**OFTEN), out=tmp_path_factory.mktemp("whole")).path


@pytest.fixture(autouse=True)
def _unlimited_again() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def limit_files(size: int) -> None:
    """Let no file of this process become larger; -1 for any size."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


class Watch:
    """A run in which things happen after some updates, and what it warned of."""

    def __init__(self, folder: Path, *actions: tuple[int, Callable[[], object]]) -> None:
        self.path = folder / "run.h5"
        self.error: RunFileError | None = None
        with warnings.catch_warnings(record=True) as caught, after_updates(dict(actions)):
            warnings.simplefilter("always")
            try:
                train(small(**OFTEN), out=folder)
            except RunFileError as error:
                self.error = error
        limit_files(-1)
        self.messages = [str(warning.message) for warning in caught]

    @property
    def unsaved(self) -> list[str]:
        return [message for message in self.messages if "cannot be saved" in message]


def test_a_disk_that_is_full_for_a_while_costs_nothing_but_one_warning(tmp_path: Path, whole: Path) -> None:
    path = tmp_path / "run.h5"
    seen: list[bytes] = []
    watch = Watch(
        tmp_path,
        (7, lambda: (seen.append(path.read_bytes()), limit_files(4096))),
        (23, lambda: (seen.append(path.read_bytes()), limit_files(-1))),
    )
    assert watch.error is None
    assert seen[0] == seen[1]
    assert len(watch.unsaved) == 1
    assert watch.unsaved[0].startswith(f"{path}: cannot be saved: File too large")
    assert watch.unsaved[0].endswith("Training goes on, and saving is tried again.")
    assert_same_run(path, whole)


def test_tensorboards_log_ends_with_a_warning_where_the_disk_is_full(tmp_path: Path, whole: Path) -> None:
    watch = Watch(tmp_path, (7, lambda: limit_files(4096)), (23, lambda: limit_files(-1)))
    logs = [message for message in watch.messages if "TensorBoard's log ends here" in message]
    assert len(logs) == 1
    assert logs[0].startswith(f"{tmp_path / 'tensorboard'}: cannot be written: File too large")
    assert_same_run(watch.path, whole)


def test_where_the_last_save_fails_the_message_says_what_is_on_the_disk(tmp_path: Path, whole: Path) -> None:
    path = tmp_path / "run.h5"
    kept: list[bytes] = []
    watch = Watch(tmp_path, (13, lambda: (kept.append(path.read_bytes()), limit_files(4096))))
    assert str(watch.error) == (
        f"{watch.path}: cannot be saved: File too large; the last saved file is left as it was. On the disk are the "
        f"first 12 steps; the 18 after them are lost. Once the file can be written, repeat them:\n"
        f"  elboverse train --resume {watch.path}"
    )
    assert kept == [watch.path.read_bytes()]
    with Run.open(watch.path) as run:
        assert (run.status, run.checkpoint_step) == ("running", 12)
    assert_same_run(resume(watch.path).path, whole)


def test_where_nothing_could_ever_be_saved_the_message_says_so(tmp_path: Path) -> None:
    limit_files(4096)
    watch = Watch(tmp_path)
    assert str(watch.error).endswith("Nothing of this run is on the disk; its 30 steps are lost")
    assert len(watch.unsaved) == 1
    assert not watch.path.exists()


def test_the_command_line_ends_with_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = ["training.epochs=2", "dataset.points=400", "training.batch_size=50", "training.device=cpu"]
    overrides = [part for setting in settings for part in ("--set", setting)]
    with after_update(3, lambda: limit_files(4096)), pytest.raises(SystemExit) as ended:
        main(["train", "--quiet", "--out", str(tmp_path / "run"), *overrides])
    limit_files(-1)
    told = capsys.readouterr().err
    assert ended.value.code == 1
    assert "Error: " in told
    assert "On the disk are the first 0 steps; the 8 after them are lost" in told
    assert "Traceback" not in told


def test_a_removed_folder_that_comes_back_holds_the_whole_run(tmp_path: Path, whole: Path) -> None:
    folder = tmp_path / "run"
    watch = Watch(folder, (7, lambda: shutil.rmtree(folder)), (20, folder.mkdir))
    assert watch.error is None
    assert len(watch.unsaved) == 1
    assert "No such file or directory" in watch.unsaved[0]
    assert_same_run(watch.path, whole)


def test_a_removed_folder_is_told_and_not_made_again(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    watch = Watch(folder, (13, lambda: shutil.rmtree(folder)))
    assert str(watch.error).endswith("Nothing of this run is on the disk; its 30 steps are lost")
    assert not folder.exists()


def test_a_folder_that_cannot_be_made_is_refused_before_training() -> None:
    with pytest.raises(ConfigError, match="--out /proc/run: cannot be made: "):
        train(small(), out="/proc/run")


def test_a_folder_that_may_not_be_written_to_is_refused_before_training(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write to any folder")
    tmp_path.chmod(0o500)
    with pytest.raises(RunFileError, match="cannot be made: Permission denied; choose another folder"):
        train(small(), out=tmp_path)


def test_training_goes_on_where_progress_cannot_be_shown(whole: Path, tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        with pytest.warns(RuntimeWarning, match="progress cannot be shown: No space left on device. Training goes on"):
            train(small(**OFTEN), out=tmp_path, console=Console(file=full))
        with pytest.raises(OSError, match="No space left"):
            full.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())  # so that it can be closed
    assert_same_run(tmp_path / "run.h5", whole)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system may be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_small_disk_that_fills_up_and_is_cleared_again_holds_the_whole_run(small_disk: Path, whole: Path) -> None:
    watch = Watch(small_disk / "run", (7, lambda: fill_up(small_disk)), (20, (small_disk / "ballast").unlink))
    assert watch.error is None
    assert len(watch.unsaved) == 1
    assert "No space left on device" in watch.unsaved[0]
    assert_same_run(watch.path, whole)


def test_a_small_disk_that_stays_full_keeps_the_last_snapshot(small_disk: Path, whole: Path) -> None:
    folder = small_disk / "run"
    watch = Watch(folder, (13, lambda: fill_up(small_disk)))
    assert "On the disk are the first 12 steps; the 18 after them are lost" in str(watch.error)
    (small_disk / "ballast").unlink()
    assert_same_run(resume(folder).path, whole)


def fill_up(folder: Path) -> None:
    """Write zeros until nothing fits any more."""
    with (folder / "ballast").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
