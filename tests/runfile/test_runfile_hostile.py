from __future__ import annotations

import os
import random
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.mutating import damaged
from support.reading_runs import everything
from support.run_samples import SEAL_BYTES, forged, reseal, sample

from elboverse.errors import RunFileError
from elboverse.runfile import Run, schema
from elboverse.runfile.seal import seal

ROOT = Path(__file__).parents[2]


# --- files that are none ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty, so no run file"),
        (b"step,elbo\n0,-1.5\n", "is not an HDF5 file, so it cannot be a run file"),
        (b"\x89HDF\r\n\x1a\n", "the seal at its end is missing"),
        (b"\x89HDF\r\n\x1a\n" + bytes(5000), "the seal at its end is missing"),
    ],
)
def test_a_file_that_is_no_run_file_is_refused_with_the_reason(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "run.h5"
    path.write_bytes(content)
    with pytest.raises(RunFileError, match=f"^{re.escape(str(path))}: {message}"):
        Run.open(path)


def test_a_missing_file_a_directory_and_a_pipe_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFileError, match="no such file"):
        Run.open(tmp_path / "run.h5")
    with pytest.raises(RunFileError, match=rf"^{re.escape(str(tmp_path))}/run.h5: no such file"):
        Run.open(tmp_path)
    (tmp_path / "folder" / "run.h5").mkdir(parents=True)
    with pytest.raises(RunFileError, match=r"folder/run.h5: is a directory; name the run.h5 in it"):
        Run.open(tmp_path / "folder")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RunFileError, match="is not a regular file"):
        Run.open(tmp_path / "pipe")
    with pytest.raises(RunFileError, match="no usable path"):
        Run.open("run\0.h5")


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_arguments: object, **_options: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(RunFileError, match="cannot be opened: Permission denied"):
        Run.open(tmp_path / "run.h5")


def test_a_file_above_the_size_limit_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    with path.open("wb") as file:
        file.truncate(schema.MAXIMUM_FILE_BYTES + 1)
    with pytest.raises(RunFileError, match="bytes, at most"):
        Run.open(path)


def test_an_hdf5_file_of_another_program_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["x"] = np.arange(1000)
    with pytest.raises(RunFileError, match="or it is not a run file"):
        Run.open(tmp_path / "other.h5")


# --- damage ----------------------------------------------------------------------------------------------------


def test_a_file_cut_at_any_length_is_refused(tmp_path: Path) -> None:
    path = sample(tmp_path / "run.h5")
    intact = path.read_bytes()
    lengths = {*range(0, len(intact), 997), *range(len(intact) - SEAL_BYTES - 2, len(intact))}
    for length in lengths:
        path.write_bytes(intact[:length])
        with pytest.raises(RunFileError, match=r"empty|no HDF5 file|seal at its end"):
            Run.open(path)


def test_no_damaged_copy_is_read_as_anything_but_the_original(tmp_path: Path) -> None:
    path = sample(tmp_path / "run.h5")
    intact, original = path.read_bytes(), everything(path)
    generator = random.Random(20)
    refused = 0
    for _ in range(300):
        copy = damaged(intact, intact, generator)
        path.write_bytes(copy)
        try:
            found = everything(path)
        except RunFileError:
            refused += 1
        else:
            assert copy == intact or found == original
    assert refused > 200


READ_FORGERIES = """
import random, resource, sys
from pathlib import Path
from support.reading_runs import everything
from support.mutating import damaged
from support.run_samples import SEAL_BYTES, reseal, sample
from elboverse.errors import RunFileError
path = sample(Path(sys.argv[1]), steps=5)
intact = path.read_bytes()[:-SEAL_BYTES]
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
generator = random.Random(3)
for _ in range(120):
    path.write_bytes(damaged(intact, intact, generator))
    reseal(path)
    try:
        everything(path)
    except RunFileError as error:
        print(error)
"""


def test_damage_under_a_forged_seal_gives_no_other_error(tmp_path: Path) -> None:
    """The structure is checked on its own, too; in a process of its own, should the HDF5 library crash."""
    path = tmp_path / "run.h5"
    child = subprocess.run(
        [sys.executable, "-c", READ_FORGERIES, str(path)],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (child.returncode, child.stderr) == (0, "")
    messages = child.stdout.splitlines()
    assert len(messages) > 30
    assert all(message.startswith(f"{path}: ") for message in messages)


def test_swapped_chunks_are_noticed_although_each_has_its_checksum(tmp_path: Path) -> None:
    path = sample(tmp_path / "run.h5", steps=30_000, replicas=1, latent_dim=4)
    with h5py.File(path) as file:
        chunks = [file["trajectory/kl"].id.get_chunk_info(index) for index in (0, 1)]
    first, second = (slice(chunk.byte_offset, chunk.byte_offset + chunk.size) for chunk in chunks)
    content = bytearray(path.read_bytes())
    content[first], content[second] = content[second], content[first]
    path.write_bytes(content)
    with h5py.File(path) as file:
        file["trajectory/kl"][()]  # plain HDF5 does not notice
    with pytest.raises(RunFileError, match="the seal at its end does not match"):
        Run.open(path)


def test_a_wrong_checksum_is_noticed_when_a_series_is_read(tmp_path: Path) -> None:
    path = sample(tmp_path / "run.h5")
    with h5py.File(path) as file:
        offset = file["trajectory/kl"].id.get_chunk_info(0).byte_offset
    content = bytearray(path.read_bytes()[:-SEAL_BYTES])
    content[offset] ^= 1
    path.write_bytes(content)
    reseal(path)
    run = Run.open(path)
    with pytest.raises(RunFileError, match="/trajectory/kl: cannot be read"):
        run.series("kl")


# --- forged files ----------------------------------------------------------------------------------------------


def replace(file: h5py.File, name: str, data: object, **options: object) -> None:
    if name in file:
        del file[name]
    file.create_dataset(name, data=data, **{"chunks": True, "fletcher32": True, **options})


def document(file: h5py.File, name: str, text: bytes) -> None:
    replace(file, f"documents/{name}", np.frombuffer(text, np.uint8))


def soft_link(file: h5py.File) -> None:
    del file["trajectory/kl"]
    file["trajectory/kl"] = h5py.SoftLink("/trajectory/encoder_entropy")


def external_link(file: h5py.File) -> None:
    del file["trajectory/kl"]
    file["trajectory/kl"] = h5py.ExternalLink("/etc/passwd", "/x")


def second_name(file: h5py.File) -> None:
    del file["trajectory/kl"]
    file["trajectory/kl"] = file["trajectory/encoder_entropy"]


def endless_groups(file: h5py.File) -> None:
    file["checkpoint/model/again"] = file["checkpoint/model"]


def external_storage(file: h5py.File) -> None:
    del file["trajectory/beta"]
    file.create_dataset("trajectory/beta", (20, 2), "f4", external=[("/etc/passwd", 0, 160)])


def virtual_dataset(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((20, 2), "f4")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (20, 2))
    del file["trajectory/beta"]
    file.create_virtual_dataset("trajectory/beta", layout)


def huge_shape(file: h5py.File) -> None:
    del file["trajectory/kl"]
    file.create_dataset("trajectory/kl", (1 << 39, 1, 1), "f4", chunks=(1024, 1, 1), fletcher32=True)


def huge_chunk(file: h5py.File) -> None:
    del file["trajectory/kl"]
    options = {"chunks": (1 << 29, 1, 1), "maxshape": (None, 1, 1)}
    file.create_dataset("trajectory/kl", (20, 1, 1), "f4", fletcher32=True, **options)


def compression_bomb(file: h5py.File) -> None:
    replace(file, "checkpoint/bomb", np.zeros(1 << 24, np.uint8), compression="gzip", chunks=(1 << 24,))


def deep_nesting(file: h5py.File) -> None:
    file.create_group("checkpoint/" + "/".join(["deep"] * 200))


def many_objects(file: h5py.File) -> None:
    group = file.create_group("checkpoint/many")
    for number in range(schema.MAXIMUM_OBJECTS + 1):
        group.id.links.create_hard(str(number).encode(), file["trajectory"].id, b"kl")


def named_type(file: h5py.File) -> None:
    file["checkpoint/type"] = np.dtype("f8")


def array_for_folder(file: h5py.File) -> None:
    replace(file, "checkpoint", np.zeros(3))
    file["checkpoint"].attrs["step"] = 1


def text_of_variable_length(file: h5py.File) -> None:
    file.attrs["status"] = "finished"


FORGERIES: dict[str, tuple[Callable[[h5py.File], object], str]] = {
    "soft link": (soft_link, "/trajectory/kl: is a soft or external link"),
    "external link": (external_link, "/trajectory/kl: is a soft or external link"),
    "second name": (second_name, "/trajectory/kl: is the same object as another name"),
    "endless groups": (endless_groups, "/checkpoint/model/again: is the same object as another name"),
    "external storage": (external_storage, "/trajectory/beta: is in another file"),
    "virtual dataset": (virtual_dataset, "/trajectory/beta: is a virtual dataset"),
    "2 TiB declared": (huge_shape, r"/trajectory/kl: its shape \(549755813888, 1, 1\) takes"),
    "huge chunk": (huge_chunk, "/trajectory/kl: its shape"),
    "compression bomb": (compression_bomb, "/checkpoint/bomb: has other filters"),
    "no checksum": (
        lambda file: replace(file, "trajectory/beta", np.zeros((20, 2), "f4"), fletcher32=False),
        "/trajectory/beta: has other filters",
    ),
    "not chunked": (
        lambda file: replace(file, "trajectory/beta", np.zeros((20, 2), "f4"), fletcher32=False, chunks=None),
        "/trajectory/beta: is not chunked",
    ),
    "deep nesting": (deep_nesting, "/deep/deep: groups are nested deeper than 16"),
    "many objects": (many_objects, "/checkpoint/many: more than 10,000 objects"),
    "named type": (named_type, "/checkpoint/type: is neither a group nor a dataset"),
    "unknown object": (lambda file: replace(file, "extra", np.zeros(3)), "/extra: unknown"),
    "NaN steps": (
        lambda file: replace(file, "trajectory/step", np.full(20, np.nan)),
        r"/trajectory/step: got float64 \(20,\); expected int64",
    ),
    "falling steps": (
        lambda file: replace(file, "trajectory/step", np.arange(20)[::-1].copy()),
        "/trajectory/step: the steps do not increase",
    ),
    "negative steps": (
        lambda file: replace(file, "trajectory/step", np.arange(-1, 19)),
        "/trajectory/step: got -1",
    ),
    "too few steps": (lambda file: replace(file, "trajectory/step", np.arange(19)), "/trajectory/.*expected"),
    "wrong rank": (
        lambda file: replace(file, "trajectory/beta", np.zeros((20, 2, 3), "f4")),
        r"/trajectory/beta: got float32 \(20, 2, 3\); expected float32 \(20, 2\)",
    ),
    "wrong type": (
        lambda file: replace(file, "trajectory/beta", np.zeros((20, 2), "f8")),
        "/trajectory/beta: got float64",
    ),
    "big-endian": (
        lambda file: replace(file, "trajectory/beta", np.zeros((20, 2), ">f4")),
        "/trajectory/beta: its type is not allowed",
    ),
    "compound type": (
        lambda file: replace(file, "checkpoint/x", np.zeros(3, [("a", "f4"), ("b", "i8")])),
        "/checkpoint/x: its type is not allowed",
    ),
    "strings": (
        lambda file: file.create_dataset("checkpoint/x", data=["a", "b"], chunks=(2,)),
        "/checkpoint/x: its type is not allowed",
    ),
    "no replicas": (
        lambda file: replace(file, "trajectory/kl", np.zeros((20, 0, 3), "f4"), chunks=(1, 1, 1), maxshape=(None,) * 3),
        "/trajectory/kl: got float32",
    ),
    "missing series": (lambda file: file.__delitem__("trajectory/elbo"), "/trajectory/elbo: missing"),
    "missing folder": (lambda file: file.__delitem__("checkpoint"), "/checkpoint @step: cannot be read"),
    "missing document": (lambda file: file.__delitem__("documents/config"), "/documents/config: missing"),
    "missing epochs": (lambda file: file.__delitem__("evaluation/train/epoch"), "/evaluation/train/epoch: missing"),
    "falling epochs": (
        lambda file: replace(file, "evaluation/train/epoch", np.array([3, 2])),
        "/evaluation/train/epoch: expected",
    ),
    "no points": (
        lambda file: file["evaluation/train"].attrs.modify("points", 0),
        "/evaluation/train @points: got 0",
    ),
    "shape that does not fit": (
        lambda file: file["checkpoint/loop/empty"].attrs.create("shape", np.array([1 << 40, 3])),
        "/checkpoint/loop/empty @shape: cannot be read",
    ),
    "negative shape": (
        lambda file: file["checkpoint/optimizer/exp_avg/encoder.0.weight"].attrs.create("shape", np.array([-1, -5])),
        "/checkpoint/optimizer/exp_avg/encoder.0.weight @shape: cannot be read",
    ),
    "an array for a folder": (array_for_folder, "/checkpoint: no allowed name in a checkpoint"),
    "a negative step": (
        lambda file: file["checkpoint"].attrs.modify("step", -1),
        "/checkpoint @step: got -1",
    ),
    "unprintable name": (
        lambda file: replace(file, "checkpoint/\x1b[31m", np.zeros(3)),
        r"'/checkpoint/\\x1b\[31m': no allowed name",
    ),
    "unprintable text": (
        lambda file: file.attrs.create("created", b"\x1b[31m", dtype="S5"),
        "/ @created: cannot be read: ValueError: not printable",
    ),
    "another format": (
        lambda file: file.attrs.create("format", b"other", dtype="S5"),
        "/ @format: got 'other'; expected 'elboverse-run'",
    ),
    "a newer version": (
        lambda file: file.attrs.create("format_version", 2),
        r"got format version 2, .* reads up to 1: install a newer one",
    ),
    "version zero": (lambda file: file.attrs.create("format_version", 0), "/ @format_version: got 0"),
    "a version in words": (
        lambda file: file.attrs.create("format_version", b"1", dtype="S1"),
        "/ @format_version: cannot be read",
    ),
    "unknown status": (
        lambda file: file.attrs.create("status", b"done", dtype="S4"),
        "/ @status: got 'done'; expected one of running",
    ),
    "text of unknown length": (text_of_variable_length, "/ @status: cannot be read: TypeError: not a string of fixed"),
    "long text": (
        lambda file: file.attrs.create("status", b"x" * 4000, dtype="S4000"),
        "/ @status: cannot be read: ValueError: longer than 255 bytes",
    ),
    "nested JSON": (
        lambda file: document(file, "config", b'{"a":' * 200_000),
        "/documents/config: JSON that is nested too deep",
    ),
    "NaN in JSON": (
        lambda file: document(file, "data", b'{"a": NaN}'),
        "/documents/data: .*NaN is not a finite number",
    ),
    "infinity in JSON": (
        lambda file: document(file, "data", b'{"a": 1e999}'),
        "/documents/data: .*not a finite number",
    ),
    "huge number in JSON": (lambda file: document(file, "data", b'{"a": ' + b"9" * 10_000 + b"}"), "/documents/data: "),
    "an integer beyond all floats in JSON": (
        lambda file: document(file, "timing", b'{"training_seconds": 1' + b"0" * 400 + b"}"),
        "/documents/timing: .*not a finite number",
    ),
    "list for object": (lambda file: document(file, "config", b"[]"), "/documents/config: got list"),
    "no UTF-8": (lambda file: document(file, "config", b'{"a": "\xff"}'), "/documents/config: no valid JSON"),
    "large JSON": (
        lambda file: document(file, "data", b"[" + b"{}," * (3 << 20) + b"{}]"),
        "/documents/data: the documents have more than",
    ),
}


@pytest.mark.parametrize("case", FORGERIES)
def test_a_forged_file_is_refused_at_once_with_the_object_named(tmp_path: Path, case: str) -> None:
    forge, message = FORGERIES[case]
    path = sample(tmp_path / "run.h5")
    with forged(path) as file:
        forge(file)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    with pytest.raises(RunFileError, match=f"^{re.escape(str(path))}: .*{message}"):
        Run.open(path)
    assert time.perf_counter() - started < 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # KiB on Linux: 1 GiB


def test_datasets_that_share_their_chunks_cannot_claim_more_than_the_file_has(tmp_path: Path) -> None:
    path = sample(tmp_path / "run.h5")
    options = {"shape": (1 << 20,), "dtype": "u1", "chunks": (1 << 20,), "fletcher32": True}
    with forged(path) as file:
        for number in range(50):
            file.create_dataset(f"checkpoint/copies/{number}", **options)
        file.create_dataset("checkpoint/filled", data=np.zeros(1 << 20, "u1"), chunks=(1 << 20,), fletcher32=True)
    content = path.read_bytes()[:-SEAL_BYTES]
    # A layout message: version 3, chunked, two dimensions, the address of the chunks, their size.
    layout = re.compile(rb"\x03\x02\x02(.{8})\x00\x00\x10\x00\x01\x00\x00\x00", re.DOTALL)
    addresses = set(layout.findall(content)) - {b"\xff" * 8}
    assert len(addresses) == 1
    shared = layout.sub(lambda found: found[0].replace(b"\xff" * 8, min(addresses)), content)
    path.write_bytes(shared)
    reseal(path)
    with h5py.File(path) as file:
        assert file["checkpoint/copies/49"].id.get_storage_size() == (1 << 20) + 4
    with pytest.raises(RunFileError, match=r"/checkpoint/.*: claims more bytes than the whole file has"):
        Run.open(path)


def test_a_file_with_too_many_objects_in_all_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = sample(tmp_path / "run.h5")
    monkeypatch.setattr(schema, "MAXIMUM_OBJECTS", 50)
    with pytest.raises(RunFileError, match="more than 50 objects in the file"):
        Run.open(path)


def test_a_file_that_is_forged_without_a_fault_is_read(tmp_path: Path) -> None:
    """Otherwise the cases above might be refused for the way in which they are made."""
    path = sample(tmp_path / "run.h5")
    with forged(path) as file:
        replace(file, "trajectory/beta", np.ones((20, 2), "f4"))
        document(file, "config", b'{"a": 1.5}')
        file.attrs.create("status", b"failed", dtype="S6")
    run = Run.open(path)
    assert (run.config, run.status) == ({"a": 1.5}, "failed")
    assert np.all(run.series("beta") == 1)


def test_documents_of_the_largest_size_take_less_than_a_gibibyte(tmp_path: Path) -> None:
    path = sample(tmp_path / "run.h5")
    with forged(path) as file:
        pairs = (schema.MAXIMUM_DOCUMENT_BYTES - 4096) // len(b'{"":0},')
        document(file, "components", b"[" + b'{"":0},' * pairs + b"0]")
    code = (
        "import resource, sys; from elboverse.runfile import Run\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "Run.open(sys.argv[1])\n"
        "assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code, path], env=environment, check=True, timeout=60)


def test_the_seal_is_the_digest_that_sha256sum_gives(tmp_path: Path) -> None:
    path = sample(tmp_path / "run.h5")
    content = path.read_bytes()
    image = subprocess.run(["head", "-c", f"-{SEAL_BYTES}", path], capture_output=True, check=True).stdout
    digest = subprocess.run(["sha256sum"], input=image, capture_output=True, check=True).stdout.split()[0]
    assert content[-SEAL_BYTES:] == b"\nelboverse-run sha256 " + digest + b"\n" == seal(memoryview(image))
