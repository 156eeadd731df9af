"""A study on Ray: bitwise the runs of this machine, also where a node is lost in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ray")

from elboverse.errors import ConfigError
from elboverse.runfile import Run
from elboverse.running.sweep import train_sweep

PORT = 6399
RAY = [sys.executable, "-m", "ray.scripts.scripts"]


def table(runs: int, epochs: int) -> dict[str, Any]:
    return {
        "model": {"name": "linear-vae"},
        "dataset": {"name": "pca", "points": 2000, "dimension": 5},
        "training": {"epochs": epochs, "batch_size": 20, "evaluate_every": 100, "device": "cpu"},
        "sweep": {"seed": list(range(runs))},
    }


def assert_same_series(one: Path, other: Path) -> None:
    with Run.open(one) as first, Run.open(other) as second:
        assert first.status == second.status == "finished"
        for name in ("elbo", "decoder_entropy", "encoder_entropy", "kl"):
            assert np.array_equal(first.series(name), second.series(name))


def test_runs_on_ray_started_here_are_bitwise_those_of_this_process(tmp_path: Path) -> None:
    on_ray = train_sweep(table(2, 2), out=tmp_path / "ray", launcher="ray")
    here = train_sweep(table(2, 2), out=tmp_path / "here")
    for one, other in zip(on_ray, here, strict=True):
        assert_same_series(one, other)


def test_an_address_where_nothing_answers_is_told_and_nothing_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"launcher\.address: got '127\.0\.0\.1:1'; no Ray cluster answers there"):
        train_sweep(table(2, 2), out=tmp_path / "s", launcher={"name": "ray", "address": "127.0.0.1:1"})
    assert not (tmp_path / "s").exists()


@pytest.fixture
def two_nodes(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """Start a head and a second node on this machine; yield the address and the second raylet's process id."""
    environment = {**os.environ, "RAY_TMPDIR": f"/tmp/ray-{os.getpid()}", "RAY_AUTH_MODE": "disabled"}
    address = f"127.0.0.1:{PORT}"
    common = ["--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats"]

    def start(*arguments: str) -> None:
        subprocess.run([*RAY, "start", *arguments, *common], check=True, capture_output=True, env=environment)

    start("--head", f"--port={PORT}", "--include-dashboard=false", "--node-ip-address=127.0.0.1")
    before = raylets()
    start(f"--address={address}")
    [second] = raylets() - before
    try:
        yield address, second
    finally:
        subprocess.run([*RAY, "stop", "--force"], check=False, capture_output=True, env=environment)


def raylets() -> set[int]:
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                name = (entry / "cmdline").read_bytes().split(b"\0")[0]
            except OSError:
                continue
            if name.endswith(b"raylet/raylet"):
                found.add(int(entry.name))
    return found


def test_a_study_whose_node_is_killed_ends_bitwise_like_an_undisturbed_one(
    tmp_path: Path, two_nodes: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    address, raylet = two_nodes
    config, out = table(12, 30), tmp_path / "ray"

    def kill_in_the_middle() -> None:
        while len(list(out.glob("*/run.h5"))) < 4:
            time.sleep(0.1)
        time.sleep(3)
        os.kill(raylet, signal.SIGKILL)

    killer = threading.Thread(target=kill_in_the_middle, daemon=True)
    killer.start()
    disturbed = train_sweep(config, out=out, launcher={"name": "ray", "address": address})
    assert not killer.is_alive()
    undisturbed = train_sweep(config, out=tmp_path / "here", jobs=2)
    for one, other in zip(disturbed, undisturbed, strict=True):
        assert_same_series(one, other)
