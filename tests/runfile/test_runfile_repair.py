"""Run files that other programs opened for writing: told apart from damaged ones, checked, sealed anew."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import pytest
from click.testing import CliRunner

import elboverse
from elboverse.cli import cli
from elboverse.errors import RunFileError
from elboverse.runfile import Run
from elboverse.runfile.repair import repair
from elboverse.runfile.seal import Sealing


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = {
        "dataset": {"name": "circle", "points": 200},
        "model": {"name": "vae-1", "latent_dim": 2, "network": {"name": "mlp", "hidden": [4]}},
        "training": {"epochs": 5, "batch_size": 50, "replicas": 2},
    }
    return elboverse.train(config, out=tmp_path_factory.mktemp("trained")).path


@pytest.fixture
def run(tmp_path: Path, trained: Path) -> Path:
    (tmp_path / "run.h5").write_bytes(trained.read_bytes())
    return tmp_path / "run.h5"


def test_a_run_file_is_written_read_only(trained: Path) -> None:
    assert trained.stat().st_mode & 0o222 == 0


def test_a_file_that_was_opened_for_writing_is_told_what_happened_and_what_to_do(run: Path) -> None:
    h5py.File(run, "r+").close()
    with pytest.raises(RunFileError, match="another program opened the file for writing") as caught:
        Run.open(run)
    assert f"elboverse repair {run}" in str(caught.value)


def test_a_seal_that_was_cut_off_is_made_again_and_the_bytes_are_those_of_before(tmp_path: Path, run: Path) -> None:
    before = run.read_bytes()
    h5py.File(run, "r+").close()
    found = repair(run)
    assert (found.state, found.sealed, found.differences) == (Sealing.CUT_OFF, True, ())
    assert run.read_bytes() == before


def test_bytes_behind_the_seal_are_taken_off(run: Path) -> None:
    before = run.read_bytes()
    run.write_bytes(before + b"\n")
    with pytest.raises(RunFileError, match="bytes were added behind the seal"):
        Run.open(run)
    assert repair(run).state is Sealing.APPENDED
    assert run.read_bytes() == before


def test_an_intact_file_is_left_alone(run: Path) -> None:
    before = run.stat()
    assert repair(run).state is Sealing.INTACT
    assert run.stat().st_mtime_ns == before.st_mtime_ns


def test_a_changed_elbo_is_shown_and_not_sealed_unless_it_is_accepted(run: Path) -> None:
    with h5py.File(run, "r+") as file:
        file["trajectory/elbo"][0] += 1.0
        file.attrs["TITLE"] = "mine"
    found = repair(run)
    assert not found.sealed
    assert "@TITLE" in found.differences[0]
    assert any("/trajectory/elbo at step" in difference for difference in found.differences)
    assert repair(run, accept_changes=True).sealed
    Run.open(run).close()


def test_a_file_that_is_cut_short_or_has_a_flipped_value_is_refused(run: Path) -> None:
    image = bytearray(run.read_bytes())
    with h5py.File(run, "r") as file:
        chunk = file["trajectory/elbo"].id.get_chunk_info(0)
    image[chunk.byte_offset] ^= 1
    run.write_bytes(image)
    with pytest.raises(RunFileError, match="cannot be sealed anew"):
        repair(run)
    run.write_bytes(image[: len(image) // 2])
    with pytest.raises(RunFileError, match="cut short"):
        repair(run)


def test_a_dry_run_changes_nothing(run: Path) -> None:
    h5py.File(run, "r+").close()
    before = run.read_bytes()
    assert not repair(run, dry_run=True).sealed
    assert run.read_bytes() == before


def test_the_command_says_what_it_found(run: Path) -> None:
    h5py.File(run, "r+").close()
    result = CliRunner().invoke(cli, ["repair", str(run)])
    assert result.exit_code == 0
    assert "every checksum matches" in result.output
    assert "Sealed anew" in result.output


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89HDF\r\n\x1a\n"])
def test_what_is_not_a_run_file_is_told_so(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.h5").write_bytes(content)
    with pytest.raises(RunFileError):
        repair(tmp_path / "run.h5")


def test_a_repaired_file_can_be_resumed_by_the_same_user(run: Path) -> None:
    h5py.File(run, "r+").close()
    repair(run)
    assert os.access(run.parent, os.W_OK)
    with Run.open(run) as opened:
        assert len(opened.steps)
