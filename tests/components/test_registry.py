"""Plugin discovery, with real distributions on the path: isolation, the environment variables, names and clashes."""

from __future__ import annotations

import importlib
import textwrap
import time
from collections.abc import Callable

import pytest

import elboverse
from elboverse.components.hookspecs import HOOKS
from elboverse.components.registry import Registry, discover, normalised
from elboverse.config import from_table
from elboverse.errors import ConfigError, PluginError, UnknownNameError

Install = Callable[..., str]

GOOD = """
import attrs
from elboverse import Component, hookimpl

@attrs.frozen
class Options:
    width: int = 1

@hookimpl
def elboverse_datasets():
    return [Component("{name}", Options, "nowhere:build", "a dataset")]
"""

RAISES = """
def fail():
    raise RuntimeError("no such\\n  library")

fail()
"""


def failures(registry: Registry) -> dict[str, str | None]:
    return {plugin.name: plugin.failure for plugin in registry.plugins}


def test_without_plugins_every_kind_has_its_built_in_components() -> None:
    registry = discover()
    assert [plugin.name for plugin in registry.plugins] == ["built-in"]
    assert registry.components.keys() == HOOKS.keys()
    assert {"vae-0", "vae-1", "vae-2", "vae-3", "linear-vae"} <= set(registry.names("model"))


def test_every_built_in_component_can_be_imported() -> None:
    registry = discover()
    for kind in HOOKS:
        for name in registry.names(kind):
            registered = registry.find(kind, name)
            registered.config_class()
            assert callable(registered._import(registered.component.build))


def test_a_plugin_is_found_with_its_distribution_and_version(install: Install) -> None:
    install("rings", GOOD.format(name="rings"), "elboverse-rings", "0.4")
    found = discover({}).find("dataset", "rings")
    assert str(found.plugin) == "rings (elboverse-rings 0.4)"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (RAISES, "RuntimeError: no such library"),
        ("import sys; sys.exit('bye')", "SystemExit: bye"),
        ("def (", "SyntaxError"),
        ("import not_there_at_all", "ModuleNotFoundError: No module named 'not_there_at_all'"),
        ("from elboverse import hookimpl\n@hookimpl\ndef elboverse_models(): raise KeyError('x')", "KeyError: 'x'"),
        (
            "from elboverse import hookimpl\n@hookimpl\ndef elboverse_models(): pass",
            "must return an iterable of elboverse.Component records, not None",
        ),
        ("from elboverse import hookimpl\n@hookimpl\ndef elboverse_models(): return [1]", "Component records, not 1"),
        ("from elboverse import hookimpl\n@hookimpl\ndef elboverse_model(): return []", "unknown hook"),
        ("from elboverse import hookimpl\n@hookimpl\ndef elboverse_models(config): return []", "{'config'}"),
    ],
)
def test_a_failing_plugin_is_listed_with_its_reason_and_disturbs_no_other(
    install: Install, source: str, reason: str
) -> None:
    install("broken", source)
    install("rings", GOOD.format(name="rings"))
    registry = discover({})
    failure = failures(registry)["broken"]
    assert failure is not None
    assert reason in failure
    assert "\n" not in failure
    assert failures(registry)["rings"] is None
    assert registry.find("dataset", "rings").plugin.name == "rings"


def test_an_unknown_hook_is_refused_with_the_hooks_that_exist(install: Install) -> None:
    install("broken", "from elboverse import hookimpl\n@hookimpl\ndef elboverse_model(): return []")
    failure = failures(discover({}))["broken"]
    assert failure is not None
    assert "elboverse_model'" in failure
    assert all(hook in failure for hook in HOOKS.values())


def test_what_a_broken_plugin_registered_is_not_blamed_on_the_next(install: Install) -> None:
    source = """
    from elboverse import hookimpl

    @hookimpl
    def elboverse_aaa():
        return []

    @hookimpl
    def elboverse_models(config):
        return []
    """
    install("a-broken", source)
    install("b-good", GOOD.format(name="rings"))
    assert failures(discover({}))["b-good"] is None


def test_a_failing_plugin_is_shown_with_its_frames_when_an_unknown_component_is_asked_for(install: Install) -> None:
    module = install("broken", RAISES)
    with pytest.raises(UnknownNameError) as caught:
        discover({}).find("dataset", "rings")
    message = str(caught.value)
    assert "Plugin broken (broken-dist 1.2.3) might offer it but could not be loaded: RuntimeError" in message
    assert f"{module}.py:3 in fail" in message
    assert "importlib" not in message


def test_the_strict_variable_raises_the_plugins_own_error(install: Install) -> None:
    install("broken", RAISES)
    with pytest.raises(RuntimeError, match="no such"):
        discover({"ELBOVERSE_STRICT_PLUGINS": "1"})


@pytest.mark.parametrize("value", ["", "0", " "])
def test_the_strict_variable_is_off_where_it_is_empty_or_zero(install: Install, value: str) -> None:
    install("broken", RAISES)
    assert failures(discover({"ELBOVERSE_STRICT_PLUGINS": value}))["broken"] is not None


@pytest.mark.parametrize(
    ("value", "loaded"),
    [("", []), ("rings", ["rings"]), (" spots , rings ", ["spots", "rings"]), ("rings,rings", ["rings"])],
)
def test_the_load_variable_limits_which_plugins_are_loaded(install: Install, value: str, loaded: list[str]) -> None:
    install("rings", GOOD.format(name="rings"))
    install("spots", GOOD.format(name="spots"))
    assert [plugin.name for plugin in discover({"ELBOVERSE_LOAD_PLUGINS": value}).plugins] == ["built-in", *loaded]


def test_all_plugins_are_loaded_where_the_load_variable_is_not_set(install: Install) -> None:
    install("spots", GOOD.format(name="spots"))
    install("rings", GOOD.format(name="rings"))
    assert {"rings", "spots"} <= failures(discover({})).keys()


def test_the_load_variable_with_a_plugin_that_is_not_installed_lists_those_that_are(install: Install) -> None:
    install("rings", GOOD.format(name="rings"))
    with pytest.raises(PluginError, match=r"ELBOVERSE_LOAD_PLUGINS: no such plugin: ring\. Installed: .*rings"):
        discover({"ELBOVERSE_LOAD_PLUGINS": "ring"})


def test_a_name_that_two_plugins_offer_fails_where_it_is_used_and_names_both(install: Install) -> None:
    install("rings", GOOD.format(name="ring_s"), version="0.1")
    install("more-rings", GOOD.format(name="RINGS"), version="0.2")
    registry = discover({})
    with pytest.raises(PluginError) as caught:
        registry.find("dataset", "rings")
    assert "rings (rings-dist 0.1)" in str(caught.value)
    assert "more-rings (more-rings-dist 0.2)" in str(caught.value)
    assert "'more-rings-dist:RINGS'" in str(caught.value)
    assert registry.find("dataset", "circle").plugin.name == "built-in"


@pytest.mark.parametrize("distribution", ["rings-dist", "Rings_Dist"])
def test_the_distribution_settles_which_component_is_meant(install: Install, distribution: str) -> None:
    install("rings", GOOD.format(name="Circle"))
    found = discover({}).find("dataset", f"{distribution}:circle")
    assert found.plugin.name == "rings"
    assert found.name == "rings-dist:Circle"
    assert discover({}).find("dataset", "elboverse:circle").plugin.name == "built-in"


def test_what_a_config_does_not_name_is_built_in_whatever_plugins_offer(install: Install) -> None:
    install("nets", GOOD.format(name="mlp").replace("elboverse_datasets", "elboverse_networks"))
    registry = discover({})
    config = from_table({"dataset": "circle"}, registry)
    assert config.model.options.network.registered.plugin.name == "built-in"
    with pytest.raises(ConfigError, match="several plugins offer a network named 'mlp'"):
        from_table({"dataset": "circle", "model": {"network": "mlp"}}, registry)


def test_a_shipped_config_means_what_is_built_in_whatever_plugins_offer(
    install: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("rings", GOOD.format(name="circle"))
    monkeypatch.setenv("ELBOVERSE_LOAD_PLUGINS", "rings")
    assert elboverse.load_config("circle").dataset.registered.plugin.name == "built-in"
    with pytest.raises(ConfigError, match="several plugins offer a dataset named 'circle'"):
        elboverse.load_config("circle", ["dataset=circle"])


def test_a_run_goes_on_with_the_plugin_that_it_used_where_a_built_in_has_its_name_now(install: Install) -> None:
    install("rings", GOOD.format(name="Circle"))
    used = [{"kind": "dataset", "name": "circle", "distribution": "rings-dist", "version": "1.2.3"}]
    assert discover({}).as_recorded(used).find("dataset", "circle").plugin.name == "rings"


def test_a_plugin_that_a_run_used_and_that_is_missing_is_told_with_its_version(install: Install) -> None:
    used = [{"kind": "dataset", "name": "gone", "distribution": "gone-dist", "version": "0.7"}]
    with pytest.raises(
        UnknownNameError, match=r"made with gone-dist 0\.7, which is missing: pip install gone-dist==0\.7"
    ):
        discover({}).as_recorded(used).find("dataset", "gone")


def test_two_plugins_of_one_name_are_both_loaded(install: Install) -> None:
    install("rings", GOOD.format(name="rings"), "one-dist")
    install("rings", GOOD.format(name="spots"), "other-dist")
    registry = discover({})
    assert {"rings", "spots"} <= set(registry.names("dataset"))
    skipping = discover({"ELBOVERSE_SKIP_PLUGINS": "other-dist"})
    assert "spots" not in skipping.names("dataset")


def test_a_hook_that_does_not_exist_costs_that_hook_alone(install: Install) -> None:
    later = "\n@hookimpl\ndef elboverse_samplers(): return []\n@hookimpl\ndef elboverse_models(): raise KeyError('x')"
    install("rings", GOOD.format(name="rings") + later)
    registry = discover({})
    (plugin,) = (plugin for plugin in registry.plugins if plugin.name == "rings")
    assert plugin.failure is None
    assert registry.find("dataset", "rings")
    assert [("elboverse_samplers" in text, "newer elboverse" in text) for text in plugin.problems] == [
        (False, False),
        (True, True),
    ]


@pytest.mark.parametrize("name", ["-rings", "ri\\nngs", "a:b", " rings", "r" * 80, "a,b"])
def test_a_name_that_cannot_be_typed_is_refused(install: Install, name: str) -> None:
    both = GOOD.format(name=name).replace("return [", 'return [Component("good", Options, "nowhere:build", "x"), ')
    install("rings", both)
    registry = discover({})
    (plugin,) = (plugin for plugin in registry.plugins if plugin.name == "rings")
    assert "cannot be used" in plugin.problems[0]
    assert registry.find("dataset", "good")


@pytest.mark.parametrize(
    ("contract", "reason"),
    [("99", "pip install --upgrade elboverse"), ("0", "no longer keeps"), ("'2'", "expected an integer")],
)
def test_a_plugin_of_another_contract_is_told_what_to_change(install: Install, contract: str, reason: str) -> None:
    install("rings", f"ELBOVERSE_CONTRACT = {contract}\n" + textwrap.dedent(GOOD.format(name="rings")))
    assert reason in str(failures(discover({}))["rings"])


@pytest.mark.parametrize("contract", [1, 2])
def test_a_plugin_of_a_contract_that_is_kept_is_loaded(install: Install, contract: int) -> None:
    install("rings", f"ELBOVERSE_CONTRACT = {contract}\n" + textwrap.dedent(GOOD.format(name="rings")))
    assert failures(discover({}))["rings"] is None


def test_what_a_plugin_prints_is_kept_out_of_the_output(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install("rings", "print('hello')\n" + textwrap.dedent(GOOD.format(name="rings")))
    (plugin,) = (plugin for plugin in discover({}).plugins if plugin.name == "rings")
    assert capsys.readouterr().out == ""
    assert "it prints when it is imported: 'hello'" in plugin.problems[0]


def test_what_a_plugin_writes_without_python_is_kept_out_of_the_output(
    install: Install, capfd: pytest.CaptureFixture[str]
) -> None:
    install("rings", "import os; os.write(1, b'raw')\n" + textwrap.dedent(GOOD.format(name="rings")))
    assert "rings" in discover({}).names("dataset")
    told = capfd.readouterr()
    assert (told.out, told.err) == ("", "raw")


def test_a_plugin_without_hooks_is_told(install: Install) -> None:
    install("rings", "x = 1")
    assert failures(discover({}))["rings"] == (
        "it has no function such as elboverse_models that is marked @hookimpl, so it offers nothing"
    )


def test_rude_plugins_cost_nothing_where_they_are_skipped_and_are_told_where_they_are_not(install: Install) -> None:
    install("hangs", "import time; time.sleep(10)")
    install("exits", "import sys; sys.exit('goodbye')")
    install("rings", GOOD.format(name="rings"), "one-dist")
    install("rings", GOOD.format(name="spots"), "two-dist")
    started = time.monotonic()
    registry = discover({"ELBOVERSE_SKIP_PLUGINS": "hangs"})
    assert time.monotonic() - started < 1
    assert failures(registry)["exits"] == "SystemExit: goodbye"
    assert {"rings", "spots"} <= set(registry.names("dataset"))
    assert [plugin.distribution for plugin in registry.plugins if plugin.name == "rings"] == ["one-dist", "two-dist"]


def test_who_takes_long_to_import_is_named_meanwhile_and_in_the_list(
    install: Install, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("elboverse.components.discovery.SLOW", 0.05)
    install("rings", "import time; time.sleep(0.3)\n" + textwrap.dedent(GOOD.format(name="rings")))
    (plugin,) = (plugin for plugin in discover({}).plugins if plugin.name == "rings")
    assert "ELBOVERSE_SKIP_PLUGINS=rings leaves it out" in capsys.readouterr().err
    assert "s to import" in plugin.problems[0]


@pytest.mark.parametrize("spelling", ["VAE-1", "vae_1", "Vae1", "vae-1"])
def test_names_are_matched_without_regard_to_case_and_separators(spelling: str) -> None:
    assert discover().find("model", spelling).name == "vae-1"
    assert normalised(spelling) == "vae1"


def test_an_unknown_name_lists_the_known_ones_and_the_nearest() -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown dataset 'circel' \(did you mean 'circle'\?\). Known: .*8gauss"
    ):
        discover().find("dataset", "circel")


@pytest.mark.parametrize("target", ["not_there:Options", "elboverse:nothing", "elboverse", ""])
def test_an_import_path_that_leads_nowhere_names_the_component_and_its_plugin(install: Install, target: str) -> None:
    install("rings", GOOD.format(name="rings").replace("Options, ", f"{target!r}, "))
    with pytest.raises(PluginError, match=r"dataset 'rings' of plugin rings \(rings-dist 1\.2\.3\): cannot import"):
        discover({}).find("dataset", "rings").config_class()


def test_a_config_that_is_no_attrs_class_is_refused(install: Install) -> None:
    install("rings", GOOD.format(name="rings").replace("Options, ", "dict, "))
    with pytest.raises(PluginError, match="must be an attrs class, not <class 'dict'>"):
        discover({}).find("dataset", "rings").config_class()


def test_a_config_with_a_field_called_name_is_refused_since_that_key_selects_the_component(install: Install) -> None:
    install("rings", GOOD.format(name="rings").replace("width", "name"))
    with pytest.raises(PluginError, match="field 'name'"):
        discover({}).find("dataset", "rings").config_class()


def test_a_registry_cannot_be_changed() -> None:
    registry = discover()
    with pytest.raises(TypeError, match="item assignment"):
        registry.components["model"]["mine"] = registry.find("model", "vae-1")  # type: ignore[index]


def test_the_skip_variable_leaves_plugins_out(install: Install) -> None:
    install("rings", GOOD.format(name="rings"))
    install("broken", RAISES)
    loaded = failures(discover({"ELBOVERSE_SKIP_PLUGINS": "broken"}))
    assert "rings" in loaded
    assert "broken" not in loaded


def test_the_skip_variable_with_a_plugin_that_is_not_installed_lists_those_that_are(install: Install) -> None:
    install("rings", GOOD.format(name="rings"))
    with pytest.raises(PluginError, match=r"ELBOVERSE_SKIP_PLUGINS: no such plugin: ring\. Installed: .*rings"):
        discover({"ELBOVERSE_SKIP_PLUGINS": "ring"})


def test_an_unknown_dataset_that_a_known_distribution_provides_names_it() -> None:
    with pytest.raises(UnknownNameError, match="pip install elboverse-images"):
        discover({"ELBOVERSE_LOAD_PLUGINS": ""}).find("dataset", "Fashion_MNIST")


def test_an_import_of_a_module_that_has_moved_works_and_is_told_with_its_new_place(install: Install) -> None:
    install("rings", "from elboverse.structuring import in_range\n" + textwrap.dedent(GOOD.format(name="rings")))
    registry = discover({})
    (plugin,) = (plugin for plugin in registry.plugins if plugin.name == "rings")
    assert registry.find("dataset", "rings").plugin == plugin
    assert "elboverse.structuring is elboverse.config.structuring since contract 2: change that" in plugin.problems[0]
    with pytest.raises(ImportError):
        importlib.import_module("elboverse.structuring")
    assert not hasattr(elboverse, "structuring")


def test_a_component_whose_module_imports_one_that_has_moved_is_built_with_a_warning(install: Install) -> None:
    component = install("part", "import elboverse.gaussian as former\nbuild = former.DiagonalGaussian")
    source = GOOD.format(name="rings").replace("nowhere:build", f"{component}:build")
    install("rings", source)
    registered = discover({"ELBOVERSE_LOAD_PLUGINS": "rings"}).find("dataset", "rings")
    with pytest.warns(
        RuntimeWarning, match=r"of plugin rings \(rings-dist 1.2.3\): elboverse.gaussian is elboverse.the"
    ):
        assert registered.target() is elboverse.DiagonalGaussian


def test_a_module_that_never_was_is_not_found(install: Install) -> None:
    install("rings", "import elboverse.nowhere\n" + textwrap.dedent(GOOD.format(name="rings")))
    assert "it may be written for another version of elboverse" in str(failures(discover({}))["rings"])


def test_every_module_that_has_moved_is_where_it_is_said_to_be() -> None:
    from elboverse.components.former import MOVED

    for place in MOVED.values():
        importlib.import_module(place)
