"""Natural mistakes, more than forty: one message that names what is wrong, an exit code, and nothing written."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from elboverse.cli import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a table, a trained run, and files that are not what they are taken for."""
    folder = tmp_path_factory.mktemp("mistakes")
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(60, 3))
    np.savetxt(folder / "good.csv", rows, delimiter=",", header="a,b,c", comments="")
    np.savetxt(folder / "other.csv", rows[:, :2], delimiter=",", header="p,q", comments="")
    np.save(folder / "good.npy", rows)
    (folder / "empty.csv").write_text("", encoding="utf-8")
    (folder / "header.csv").write_text("a,b,c\n", encoding="utf-8")
    (folder / "one.csv").write_text("a,b,c\n1,2,3\n", encoding="utf-8")
    (folder / "same.csv").write_text("a,b\n" + "1.5,2.5\n" * 60, encoding="utf-8")
    (folder / "words.csv").write_text("a,b\n" + "red,green\n" * 60, encoding="utf-8")
    (folder / "holes.csv").write_text("a,b\n" + "1.5,\n0.5,2.5\n" * 30, encoding="utf-8")
    (folder / "signed.csv").write_text("a,b\n" + "-1,2\n3,4\n" * 30, encoding="utf-8")
    (folder / "config.toml").write_text('[model]\nname = "vae-1"\n[dataset]\nname = "circle"\n', encoding="utf-8")
    (folder / "broken.toml").write_text("[model\n", encoding="utf-8")
    (folder / "picture.csv").write_bytes(bytes(range(256)) * 8)
    settings = ["training.until=epochs", "training.epochs=1", "model.latent_dim=1"]
    sets = [word for one in settings for word in ("--set", one)]
    main(["train", str(folder / "good.csv"), "--quiet", *sets, "--out", str(folder / "run")])
    cut = (folder / "run" / "run.h5").read_bytes()
    (folder / "cut.h5").write_bytes(cut[: len(cut) // 2])
    shutil.copy(folder / "good.csv", folder / "table.h5")
    return folder


MISTAKES = [
    ("train good.csvv", "did you mean 'good.csv'"),
    ("train nowhere.toml", "no such file"),
    ("train broken.toml", "broken.toml"),
    ("train empty.csv", "empty.csv"),
    ("train header.csv", "header.csv"),
    ("train one.csv", "got 1 point"),
    ("train same.csv", "same.csv"),
    ("train words.csv", "words.csv"),
    ("train holes.csv", "missing"),
    ("train picture.csv", "picture.csv"),
    ("train .", "."),
    ("train run/run.h5", "run.h5"),
    ("train good.csv --epochs 5", "--epochs"),
    ("train good.csv --set training.epoch=5", "did you mean 'epochs'"),
    ("train good.csv --set training.epochs=many", "training.epochs"),
    ("train good.csv --set training.epochs=0", "training.epochs"),
    ("train good.csv --set training.learning_rate=-1", "training.learning_rate"),
    ("train good.csv --set training.batch_size=0", "training.batch_size"),
    ("train good.csv --set model=vae-9", "vae-9"),
    ("train good.csv --set model.latent_dim=0", "latent_dim"),
    ("train good.csv --set model.latent_dim=1.5", "latent_dim"),
    ("train good.csv --set dataset.label=nowhere", "nowhere"),
    ("train good.csv --set dataset.columns=['a','z']", "'z'"),
    ("train good.csv --set dataset.held_out=1.5", "held_out"),
    ("train good.csv --set model.name=vae --set model.likelihood=bernouli", "bernoulli"),
    ("train good.csv --set model.name=vae --set model.likelihood=bernoulli", "bernoulli"),
    ("train signed.csv --set model.name=vae --set model.likelihood=poisson", "poisson"),
    ("train good.csv --set optimiser=adan", "adam"),
    ("train good.csv --set training.device=cuda:7", "cuda"),
    ("train circle --resume run", "--resume"),
    ("train good.csv --out run", "run"),
    ("train --resume nowhere", "nowhere"),
    ("train --resume good.csv", "good.csv"),
    ("analyze collapse good.csv", "good.csv"),
    ("analyze collapse cut.h5", "cut.h5"),
    ("analyze collaps run", "collapse"),
    ("analyze collapse nowhere/run.h5", "nowhere"),
    ("analyze collapse run --threshold much", "threshold"),
    ("analyze bounds run --figure bounds.docx", "docx"),
    ("encode run other.csv -o latents.csv", "other.csv"),
    ("encode run -o latents.xyz", "latents.xyz"),
    ("encode table.h5 -o latents.csv", "table.h5"),
    ("encode run nowhere.csv -o latents.csv", "nowhere.csv"),
    ("sample run --count -3 -o samples.csv", "-3"),
    ("sample run --count 3 -o nowhere/samples.csv", "nowhere"),
    ("score run words.csv -o scores.csv", "words.csv"),
    ("export run --format docx", "docx"),
    ("report good.csv", "good.csv"),
    ("data info nowhere.csv", "nowhere.csv"),
    ("collapse run", "elboverse analyze collapse"),
    ("choose-h good.csv --range 4..2", "4..2"),
    ("plugins show model vae-7", "vae-7"),
]


def files(folder: Path) -> set[tuple[str, int]]:
    return {(str(one), one.stat().st_mtime_ns) for one in folder.rglob("*") if one.is_file()}


@pytest.mark.parametrize(("command", "named"), MISTAKES)
def test_a_mistake_is_told_in_one_message_and_writes_nothing(
    command: str, named: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    before = files(folder)
    with pytest.raises(SystemExit) as ended:
        main(command.split())
    told = capsys.readouterr().err
    assert ended.value.code in {1, 2}
    assert named in told
    assert "Traceback" not in told
    assert len(told) < 1500
    assert files(folder) == before
