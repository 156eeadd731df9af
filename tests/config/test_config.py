"""The configuration: files, overrides, faults, and the round trip through TOML."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from elboverse import config
from elboverse.components.registry import discover
from elboverse.config import ExperimentConfig, from_table, load, named_configs, to_table, to_toml
from elboverse.errors import ConfigError
from elboverse.running.sweep import expand, is_sweep

MINIMAL: dict[str, Any] = {"dataset": "circle"}

TABLES = ["name", "seed", "model", "dataset", "constraint", "annealing", "training"]
OPTIONS = [
    "latent_dim",
    "network",
    "hidden",
    "epochs",
    "device",
    "weight",
    "points",
    "noise",
    "path",
    "fraction",
    "end",
]
names = st.sampled_from(TABLES + OPTIONS)
words = st.sampled_from(
    ["vae-1", "vae-2", "linear-vae", "mlp", "affine", "pca", "array", "linear", "rescale", "", "~x"]
)
scalars = (
    words | st.booleans() | st.integers() | st.floats() | st.dates() | st.datetimes() | st.times() | st.text(max_size=8)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names | st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)
tables = st.dictionaries(names | st.text(max_size=5), values, max_size=7)


def faults(*arguments: Any) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load(*arguments)
    return tuple(map(str, caught.value.faults))


def test_without_a_source_the_default_config_is_loaded() -> None:
    assert load() == load(config.DEFAULT)


@pytest.mark.parametrize("name", sorted(named_configs()))
def test_every_shipped_config_says_in_its_first_line_what_it_is(name: str) -> None:
    first, _, _ = named_configs()[name].read_text(encoding="utf-8").partition("\n")
    assert first.startswith("# ")


@pytest.mark.parametrize("name", sorted(named_configs()))
def test_every_shipped_config_loads_and_survives_the_round_trip(name: str, tmp_path: Path) -> None:
    registry = discover({})  # with the plugins that are installed, since a shipped config may need one
    raw = tomllib.loads(named_configs()[name].read_text(encoding="utf-8"))
    if raw["dataset"]["name"] not in registry.names("dataset"):
        pytest.skip(f"dataset {raw['dataset']['name']!r} belongs to a plugin that is not installed here")
    originals = expand(raw, registry).values() if is_sweep(raw) else [load(name, registry=registry)]
    for original in originals:
        copy = tmp_path / "copy.toml"
        copy.write_text(to_toml(original), encoding="utf-8")
        assert load(copy, registry=registry) == original


def test_every_experiment_of_the_paper_has_a_config() -> None:
    main = {"celeba", "manifold", "mnist", "susy"}
    variants = {"verification-c-batch-100", "verification-c-learning-rate-0.005"}
    verification = {"verification-a", "verification-b", "verification-c"} | variants
    assert {f"paper/{name}" for name in main | verification} <= set(named_configs())


@pytest.mark.parametrize(
    ("variant", "changed"),
    [
        ("batch-100", {"batch_size": 100, "record_every": 100}),
        ("learning-rate-0.005", {"learning_rate": 0.005, "variance_learning_rate": 0.005}),
    ],
)
def test_variants_of_an_experiment_differ_in_what_they_are_named_after(variant: str, changed: dict[str, Any]) -> None:
    table, other = to_table(load("paper/verification-c")), to_table(load(f"paper/verification-c-{variant}"))
    assert other == table | {"name": f"{table['name']}-{variant}", "training": table["training"] | changed}


def test_the_resolved_config_holds_every_default() -> None:
    table = to_table(load(MINIMAL))
    assert "batch_size" not in table["training"]  # it depends on the data
    assert table["model"]["network"]["name"] == "mlp"
    assert "constraint" not in table


def test_a_table_that_is_loaded_is_left_as_it_was() -> None:
    table = {"dataset": {"name": "circle", "points": 10}}
    load(table, ["dataset.points=20", "model.latent_dim=3"])
    assert table == {"dataset": {"name": "circle", "points": 10}}


def test_all_faults_are_told_at_once_each_with_its_place() -> None:
    table = {"seed": -1, "sed": 1, "dataset": "circel", "model": {"latent_dim": 2.5}, "training": {"epochs": "9"}}
    found = faults(table)
    assert [fault.partition(":")[0] for fault in found] == [
        "sed", "seed", "model.latent_dim", "dataset.name", "training.epochs",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match=r"^5 faults in the configuration:\n  sed: unknown key"):
        load(table)


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ({"model": "vae-2"}, "constraint: missing; vae-2 learns the prior variances"),
        ({"model": "vae-3", "training": {"variances": "optimal"}}, "training.variances: "),
        ({"model": "vae-0", "training": {"variances": "optimal"}}, "training.variances: "),
    ],
)
def test_components_that_do_not_fit_together_are_a_fault(table: dict[str, Any], fault: str) -> None:
    (found,) = faults(MINIMAL | table)
    assert found.startswith(fault)


@pytest.mark.parametrize("name", ["../up", "a/b", "a\\b", "", ".hidden", "x\0", "x" * 101, "a\n"])
def test_a_name_that_is_no_plain_folder_name_is_refused(name: str) -> None:
    (fault,) = faults(MINIMAL | {"name": name})
    assert fault.startswith("name: ")


@pytest.mark.parametrize(
    ("override", "place", "value"),
    [
        ("model.latent_dim=8", ("model", "latent_dim"), 8),
        ("model.network.hidden=[4, 5]", ("model", "network", "hidden"), [4, 5]),
        ("training.learning_rate = 1e-2", ("training", "learning_rate"), 0.01),
        ("training.dtype=float64", ("training", "dtype"), "float64"),
        ('training.dtype="float64"', ("training", "dtype"), "float64"),
        ("annealing=linear", ("annealing", "fraction"), 0.3),
        ("annealing.name=linear", ("annealing", "fraction"), 0.3),
        ('annealing={name = "linear", fraction = 0.5}', ("annealing", "fraction"), 0.5),
        ("dataset.points=64", ("dataset", "points"), 64),
        ("name=a name = with equals".replace(" = with", " with"), ("name",), "a name with equals"),
    ],
)
def test_an_override_sets_one_value_at_its_place(override: str, place: tuple[str, ...], value: object) -> None:
    found: Any = to_table(load(MINIMAL, [override]))
    for key in place:
        found = found[key]
    assert found == value


def test_the_last_override_of_a_value_holds() -> None:
    assert load(MINIMAL, ["seed=1", "seed=2"]).seed == 2


def test_an_override_below_a_component_given_by_name_keeps_that_component() -> None:
    assert load(MINIMAL | {"model": "vae-0"}, ["model.latent_dim=5"]).model.name == "vae-0"


@pytest.mark.parametrize("override", ["seed", "=1", "model..x=1", ".=1", ""])
def test_an_override_that_is_no_assignment_is_refused_with_an_example(override: str) -> None:
    (fault,) = faults(MINIMAL, [override])
    assert "--set model.latent_dim=8" in fault


@pytest.mark.parametrize(
    ("key", "present"), [("snapshots", "frames"), ("snapshot_every_seconds", "save_every_seconds")]
)
def test_a_former_key_is_told_its_present_name(key: str, present: str) -> None:
    with pytest.raises(ConfigError) as in_a_config:
        load({**MINIMAL, "training": {key: 5}})
    assert str(in_a_config.value) == f"training.{key}: got the former name of this key; expected training.{present}"
    with pytest.raises(ConfigError, match=f"expected training.{present}"):
        load("circle", [f"training.{key}=5"])


def test_an_override_of_an_unknown_key_is_refused_with_the_nearest_one() -> None:
    (fault,) = faults(MINIMAL, ["model.latent_dims=3"])
    assert "model.latent_dims: unknown key (did you mean 'latent_dim'?)" in fault


@pytest.mark.parametrize(
    ("override", "component", "option"),
    [
        ("model.name=linear-vae", "model", "network"),
        ("model.network.name=affine", "model.network", "hidden"),
    ],
)
def test_options_that_a_renamed_component_lacks_are_refused_with_the_way_to_drop_them(
    override: str, component: str, option: str
) -> None:
    table = MINIMAL | {"model": {"name": "vae-1", "network": {"name": "mlp", "hidden": [3]}}}
    (fault,) = faults(table, [override])
    advice = f"--set {component}={override.partition('=')[2]}"
    assert fault.startswith(f"{component}.{option}: unknown key; ")
    assert fault.endswith(f"the config's own {component} has it: {advice} drops all options of that")
    assert load(table, [advice.removeprefix("--set ")]).model.options.latent_dim == 2


def test_an_option_that_only_an_override_gives_gets_no_advice_to_drop_it() -> None:
    (fault,) = faults(MINIMAL | {"model": {"latent_dim": 3}}, ["model.name=linear-vae", "model.network=mlp"])
    assert fault.startswith("model.network: unknown key")
    assert "drops" not in fault


def test_an_override_with_two_lines_is_one_value() -> None:
    (fault,) = faults(MINIMAL, ["seed=1\nname='x'"])
    assert fault.startswith("seed: ")


def test_a_file_is_preferred_to_a_shipped_config_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("circle").write_text('name = "mine"\ndataset = "line"', encoding="utf-8")
    assert load("circle").name == "mine"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("circel", "no config 'circel' (did you mean 'circle'?): neither a file nor one of the names"),
        ("nowhere.toml", "nowhere.toml: no such file"),
        ("/nowhere", "/nowhere: no such file"),
        ("~nosuchuser/x.toml", "~nosuchuser/x.toml: "),
        ("x" * 5000, "File name too long"),
        (".", ".: is not a file"),
        ("a\0b", "no config 'a\\x00b'"),
    ],
)
def test_a_config_that_is_not_there_lists_what_is(source: str, reason: str) -> None:
    (fault,) = faults(source)
    assert reason in fault
    assert "circle" in fault


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"seed = ", "no valid TOML"),
        (b"\xff\xfe", "not a text file in UTF-8"),
        (b"seed = " + b"9" * 5000, "no usable TOML"),
        (b"a = " + b"[" * 100_000, "no usable TOML"),
        (b"# " + b"x" * (1 << 20), "more than 1,048,576 bytes"),
    ],
)
def test_a_file_that_is_no_config_is_refused_with_its_path(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_bytes(content)
    (fault,) = faults(path)
    assert fault.startswith(str(path))
    assert reason in fault


def loaded(*arguments: Any) -> ExperimentConfig | None:
    """Return the config, or None where a `ConfigError` says that there is none; any other error passes."""
    try:
        return load(*arguments)
    except ConfigError:
        return None


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(table=tables)
def test_any_table_either_is_a_config_error_or_loads_and_survives_the_round_trip(table: dict[str, Any]) -> None:
    registry = discover()
    found = loaded({"dataset": "circle", **table}, (), registry)
    assert found is None or from_table(tomllib.loads(to_toml(found)), registry) == found


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_file_either_is_a_config_error_or_loads(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "any.toml"
    path.write_bytes(b'dataset = "circle"\n' + content)
    found = loaded(path)
    assert found is None or found.dataset.name == "circle"


@settings(deadline=None, max_examples=150)
@given(override=st.text(max_size=30) | st.builds("{}={}".format, names, st.text(max_size=20)))
def test_any_override_either_is_a_config_error_or_is_applied(override: str) -> None:
    found = loaded(MINIMAL, [override])
    assert found is None or from_table(to_table(found)) == found
