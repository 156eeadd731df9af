"""Points in bytes, and augmentation: what the model sees of them, and that runs stay resumable and replicable."""

from __future__ import annotations

import attrs
import numpy as np
import pytest
import torch
from support.builders import configure, normal
from support.recorded_training import Trained, train_to_the_end
from torch import Generator, Tensor

from elboverse import testing
from elboverse.components.hookspecs import Component
from elboverse.components.registry import Plugin, Registered, Selection
from elboverse.contracts import Data, Scaling
from elboverse.data import fingerprint
from elboverse.errors import PluginError
from elboverse.running.assembly import build_experiment
from elboverse.seeding import generator
from elboverse.training.batches import Batches
from elboverse.training.intake import Intake
from elboverse.training.noise import Noise

DIMENSION = 4
SCALING = Scaling("min-max", torch.zeros(DIMENSION), torch.full((DIMENSION,), 255.0))
PIXELS = (normal(0, 40, DIMENSION).sigmoid() * 255).to(torch.uint8)


@attrs.frozen(kw_only=True)
class Options:
    as_bytes: bool = True
    mirrored: bool = False


def mirrored(points: Tensor, stream: Generator) -> Tensor:
    """Return each point in reverse with probability one half."""
    chosen = torch.rand(len(points), 1, generator=stream, device=points.device) < 0.5
    return torch.where(chosen, points.flip(-1), points)


def build(options: Options, seed: int) -> Data:
    order = torch.randperm(len(PIXELS), generator=generator(seed, "split"))
    train, held_out = PIXELS[order[:30]], PIXELS[order[30:]]
    if not options.as_bytes:
        train, held_out = SCALING.apply(train.double()), SCALING.apply(held_out.double())
    return Data(
        train=train,
        held_out=held_out,
        shape=(2, 2),
        scaling=SCALING,
        fingerprint=fingerprint(train, held_out),
        augment=mirrored if options.mirrored else None,
    )


COMPONENT = Component("pixels", Options, build, "for tests")


def trained(options: Options, **training: object) -> Trained:
    config = configure("vae-1", epochs=4, batch_size=7, evaluate_every=2, **training)  # type: ignore[arg-type]
    selection = Selection(Registered("dataset", COMPONENT, Plugin("test", "test", "0")), options)
    return train_to_the_end(attrs.evolve(config, dataset=selection))


def require_equal(one: Trained, other: Trained) -> None:
    for path, tensor in one.experiment.loop.state().items():
        assert np.array_equal(tensor, other.experiment.loop.state()[path]), path
    for split in ("train", "held_out"):
        for ours, theirs in zip(one.evaluations(split), other.evaluations(split), strict=True):
            assert all(np.array_equal(values, theirs.scalars[name]) for name, values in ours.scalars.items())


@pytest.mark.parametrize("replicas", [1, 2])
def test_training_on_bytes_is_training_on_the_scaled_points(replicas: int) -> None:
    settings = {"replicas": replicas, "replica_group": replicas}  # a measured group size could differ in rounding
    require_equal(trained(Options(as_bytes=True), **settings), trained(Options(as_bytes=False), **settings))


def test_bytes_keep_the_contract_of_a_dataset() -> None:
    data = testing.check_dataset(COMPONENT)
    assert data.train.dtype == torch.uint8
    assert torch.equal(data.scaled(data.train), SCALING.apply(data.train))
    floats = build(Options(as_bytes=False), 0)
    assert floats.scaled(floats.train) is floats.train


def test_train_and_held_out_must_have_one_type() -> None:
    def half(options: Options, seed: int) -> Data:
        data = build(options, seed)
        return attrs.evolve(data, held_out=data.held_out.float())

    with pytest.raises(PluginError, match=r"train has type torch\.uint8, held_out torch\.float32"):
        testing.check_dataset(Component("pixels", Options, half, "for tests"))


def test_other_integers_are_no_points() -> None:
    def wide(options: Options, seed: int) -> Data:
        data = build(options, seed)
        return attrs.evolve(data, train=data.train.long(), held_out=data.held_out.long())

    with pytest.raises(PluginError, match=r"floating point or bytes"):
        testing.check_dataset(Component("pixels", Options, wide, "for tests"))


def batches(seeds: tuple[int, ...], *, augment: bool = True) -> Batches:
    intake = Intake(torch.device("cpu"), torch.float64, SCALING, mirrored if augment else None)
    return Batches(PIXELS, seeds, 5, Noise((5, 2), seeds, 8, torch.float64, torch.device("cpu")), intake)


def test_points_are_augmented_anew_in_each_step() -> None:
    drawn = torch.stack([*batches((0,)).draw(0, 8).x, *batches((0,)).draw(8, 8).x])
    plain = torch.stack([*batches((0,), augment=False).draw(0, 8).x, *batches((0,), augment=False).draw(8, 8).x])
    flipped = (drawn != plain).any(-1)
    assert torch.equal(drawn[flipped], plain[flipped].flip(-1))
    assert 0.3 < flipped.double().mean() < 0.7
    assert torch.equal(drawn.double().sort().values, plain.double().sort().values)
    assert len({tuple(row.tolist()) for row in flipped}) > 10


def test_a_step_is_augmented_alike_whatever_came_before_it() -> None:
    whole = list(batches((3,)).draw(0, 8).x)
    assert torch.equal(next(batches((3,)).draw(5, 1).x), whole[5])


def test_a_replica_is_augmented_as_the_single_run_with_its_seed() -> None:
    together = torch.stack(list(batches((3, 4)).draw(0, 8).x))
    single = torch.stack(list(batches((4,)).draw(0, 8).x))
    assert torch.equal(together[:, 1], single)


def test_evaluations_see_the_points_as_they_are() -> None:
    with_variants, without = trained(Options(mirrored=True)), trained(Options())
    for split in ("train", "held_out"):
        first, other = with_variants.evaluations(split)[0], without.evaluations(split)[0]
        assert np.array_equal(first.scalars["elbo"], other.scalars["elbo"])
    assert not np.array_equal(with_variants.series()["elbo"], without.series()["elbo"])


def test_bytes_stay_where_they_are_stored() -> None:
    config = configure("vae-1", epochs=1, batch_size=7)
    held = build(Options(), 0)
    component = Component("pixels", Options, lambda _options, _seed: held, "for tests")
    selection = Selection(Registered("dataset", component, Plugin("test", "test", "0")), Options())
    experiment = build_experiment(attrs.evolve(config, dataset=selection))
    assert experiment.loop._batches._flat.data_ptr() == held.train.data_ptr()
