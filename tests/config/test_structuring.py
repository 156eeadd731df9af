"""Strict structuring of raw tables: what is accepted, what is refused, and where a fault is said to be."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import attrs
import pytest

from elboverse.components.hookspecs import selects
from elboverse.components.registry import Selection, discover
from elboverse.config.structuring import build_converter, in_range, one_of, structure, unstructure
from elboverse.errors import ConfigError, PluginError


@attrs.frozen(kw_only=True)
class Inner:
    depth: int = 1


@attrs.frozen(kw_only=True)
class Options:
    count: int = 1
    rate: float = 0.5
    flag: bool = False
    word: str = "x"
    file: Path | None = None
    mode: Literal["a", "b", 3] = "a"
    widths: tuple[int, ...] = attrs.field(default=(), validator=in_range(minimum=1))
    pair: tuple[int, str] = (0, "")
    limit: int | str | None = None
    table: dict[str, int] = attrs.field(factory=dict)
    anything: dict[str, Any] = attrs.field(factory=dict)
    inner: Inner = Inner()
    kind: str = attrs.field(default="soft", validator=one_of("soft", "hard"))


def structured(raw: Any, cls: type[Any] = Options, where: str = "") -> Any:
    return structure(build_converter(discover()), raw, cls, where)


def faults(raw: Any, cls: type[Any] = Options) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        structured(raw, cls)
    return tuple(map(str, caught.value.faults))


def test_a_table_becomes_typed_options_with_defaults_for_what_is_missing() -> None:
    raw = {"count": 3, "rate": 2, "file": "a/b.csv", "widths": [4, 5], "pair": [1, "z"], "inner": {"depth": 7}}
    assert structured(raw) == Options(
        count=3, rate=2.0, file=Path("a/b.csv"), widths=(4, 5), pair=(1, "z"), inner=Inner(depth=7)
    )


def test_an_integer_is_accepted_as_a_number_and_becomes_one() -> None:
    assert isinstance(structured({"rate": 2}).rate, float)


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        ({"count": 3.7}, "count: got 3.7 (a number); expected an integer"),
        ({"count": 3.0}, "count: got 3.0 (a number); expected an integer"),
        ({"count": True}, "count: got true (a boolean); expected an integer"),
        ({"count": "3"}, "count: got '3' (a string); expected an integer"),
        ({"count": 2**63}, f"count: got {2**63} (an integer); expected an integer of at most 64 bits"),
        ({"flag": "false"}, "flag: got 'false' (a string); expected true or false"),
        ({"flag": 0}, "flag: got 0 (an integer); expected true or false"),
        ({"rate": "1e-3"}, "rate: got '1e-3' (a string); expected a number"),
        ({"rate": False}, "rate: got false (a boolean); expected a number"),
        ({"rate": float("nan")}, "rate: got nan (a number); expected a finite number"),
        ({"rate": float("inf")}, "rate: got inf (a number); expected a finite number"),
        ({"word": 5}, "word: got 5 (an integer); expected a string"),
        ({"file": ""}, "file: got '' (a string); expected a path"),
        ({"file": "a\0b"}, "file: got 'a\\x00b' (a string); expected a path"),
        ({"mode": "c"}, "mode: got 'c'; expected 'a', 'b', 3"),
        ({"mode": 3.0}, "mode: got 3.0; expected 'a', 'b', 3"),
        ({"widths": 4}, "widths: got 4 (an integer); expected a list"),
        ({"widths": "45"}, "widths: got '45' (a string); expected a list"),
        ({"widths": [4, "5"]}, "widths.1: got '5' (a string); expected an integer"),
        ({"widths": [4, 0]}, "widths: got 0; expected a number ≥ 1"),
        ({"pair": [1]}, "pair: got 1 value; expected a list of 2"),
        ({"limit": 1.5}, "limit: got 1.5 (a number); expected an integer or a string"),
        ({"table": {"a": 1, "b": "2"}}, "table.b: got '2' (a string); expected an integer"),
        ({"table": [1]}, "table: got [1] (a list); expected a table"),
        ({"inner": 3}, "inner: got 3 (an integer); expected a table"),
        ({"inner": {"depth": "x"}}, "inner.depth: got 'x' (a string); expected an integer"),
        ({"kind": "sort"}, "kind: got 'sort'; expected 'soft', 'hard'; did you mean 'soft'?"),
        (["count"], "configuration: got ['count'] (a list); expected a table"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place_and_what_is_allowed(raw: Any, fault: str) -> None:
    assert faults(raw) == (fault,)


def test_an_unknown_key_is_refused_with_the_nearest_known_one() -> None:
    (fault,) = faults({"cuont": 3})
    assert fault.startswith("cuont: unknown key (did you mean 'count'?); known here: count, rate, flag")


def test_all_faults_are_collected_at_once() -> None:
    found = faults({"count": 1.5, "rate": "x", "nothing": 0, "inner": {"depth": "x", "dpeth": 1}, "widths": ["a", "b"]})
    assert {fault.partition(":")[0] for fault in found} == {
        "count", "rate", "nothing", "inner.depth", "inner.dpeth", "widths.0", "widths.1",
    }  # fmt: skip


def test_a_long_value_is_shown_shortened() -> None:
    (fault,) = faults({"count": "x" * 500})
    assert len(fault) < 120


@pytest.mark.parametrize(
    ("bounds", "bad", "good", "allowed"),
    [
        ({"above": 0, "maximum": 1}, 0, 1, "> 0 and ≤ 1"),
        ({"above": 0, "maximum": 1}, 1.5, 0.1, "> 0 and ≤ 1"),
        ({"minimum": 0, "below": 1}, 1, 0, "≥ 0 and < 1"),
        ({"minimum": 0, "below": 1}, -1, 0.9, "≥ 0 and < 1"),
        ({"above": 0}, float("nan"), 1, "> 0"),
    ],
)
def test_a_range_refuses_what_is_outside_and_says_what_is_inside(
    bounds: dict[str, float], bad: float, good: float, allowed: str
) -> None:
    in_range(**bounds)(None, None, good)
    with pytest.raises(ValueError, match=f"; expected a number {allowed}"):
        in_range(**bounds)(None, None, bad)


def test_a_range_lets_none_and_strings_pass_since_their_types_are_checked_elsewhere() -> None:
    in_range(minimum=1)(None, None, None)
    in_range(minimum=1)(None, None, ("word", 2))


@attrs.frozen(kw_only=True)
class Ordered:
    low: int = 0
    high: int = attrs.field(default=1)

    @high.validator
    def _above_low(self, _attribute: Any, value: int) -> None:
        if value <= self.low:
            raise ValueError(f"got {value}; expected more than low = {self.low}")


def test_a_validator_that_looks_at_other_fields_is_told_as_a_fault() -> None:
    assert structured({"low": 1, "high": 2}, Ordered) == Ordered(low=1, high=2)
    assert faults({"low": 3, "high": 2}, Ordered) == ("configuration: got 2; expected more than low = 3",)


@attrs.frozen(kw_only=True)
class Mistyped:
    low: int = attrs.field(default=0)
    high: int = attrs.field(default=1)

    @low.validator
    def _positive(self, _attribute: Any, value: int) -> None:
        assert value == 0 or value.is_positive()  # type: ignore[attr-defined]

    @high.validator
    def _above_low(self, _attribute: Any, value: int) -> None:
        assert value > self.lwo  # type: ignore[attr-defined]


@pytest.mark.parametrize(("table", "slip"), [({"low": 1}, "is_positive"), ({"high": 2}, "lwo")])
def test_a_slip_in_a_validator_is_the_plugins_fault(table: dict[str, int], slip: str) -> None:
    with pytest.raises(PluginError, match=rf"AttributeError: .*{slip}"):
        structured(table, Mistyped)


@attrs.frozen(kw_only=True)
class WithList:
    items: list[int] = attrs.field(factory=list)


def test_a_type_that_a_config_cannot_give_is_named_with_those_that_it_can() -> None:
    (fault,) = faults({"items": [1]}, WithList)
    assert fault.startswith("items: an option of type list[int] cannot be read from a config; its plugin may use int")


@attrs.frozen(kw_only=True)
class Selecting:
    model: Selection = selects("model")
    network: Selection = selects("network", default="mlp")
    constraint: Selection | None = selects("constraint")


def test_a_selected_component_brings_its_own_options() -> None:
    found = structured({"model": {"name": "VAE_1", "latent_dim": 7}}, Selecting)
    assert (found.model.name, found.model.options.latent_dim) == ("vae-1", 7)
    assert found.network.name == "mlp"
    assert found.constraint is None


def test_a_string_selects_a_component_with_default_options() -> None:
    assert structured({"model": "vae-0"}, Selecting) == structured({"model": {"name": "vae-0"}}, Selecting)


def test_options_without_a_name_are_those_of_the_default_component() -> None:
    assert structured({"model": "vae-0", "network": {"hidden": [3]}}, Selecting).network.options.hidden == (3,)


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        ({}, "model: missing; it selects a model by name"),
        ({"model": {"latent_dim": 2}}, "model.name: missing; known: linear-vae, vae, vae-0, vae-1, vae-2, vae-3"),
        (
            {"model": {"name": 5}},
            "model.name: got 5 (an integer); known: linear-vae, vae, vae-0, vae-1, vae-2, vae-3",
        ),
        ({"model": 5}, "model: got 5 (an integer); expected a table with a name"),
        (
            {"model": "vea-1"},
            "model.name: unknown model 'vea-1' (did you mean 'vae-1'?). Known: linear-vae, vae, vae-0,",
        ),
        ({"model": {"name": "vae-1", "network": {"name": "mlp", "hiden": [3]}}}, "model.network.hiden: unknown key"),
    ],
)
def test_a_selection_that_is_wrong_says_where_and_what_is_known(raw: Any, fault: str) -> None:
    (found,) = faults(raw, Selecting)
    assert found.startswith(fault)


@attrs.frozen
class Reserved:
    _secret: int = 1
    derived: int = attrs.field(init=False, default=5)


@pytest.mark.parametrize(
    "options",
    [
        Options(file=Path("a"), widths=(1, 2), limit=4, table={"a": 1}, anything={"b": ["c", {"d": 1.5}]}),
        Reserved(secret=3),
    ],
)
def test_what_is_unstructured_is_read_back_as_it_was(options: Any) -> None:
    raw = unstructure(options)
    assert structured(raw, type(options)) == options
    assert None not in raw.values()
