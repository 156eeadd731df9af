"""Whether components fit together: what they say themselves, and which scaling of the data a likelihood admits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from elboverse.components.registry import Registry, Selection
from elboverse.errors import ElboverseError
from elboverse.warning import warn

__all__ = ["component_conflicts", "scaling_misfits", "with_scaling"]


def with_scaling(table: Mapping[str, Any], registry: Registry) -> Mapping[str, Any]:
    """Return the table with a scaling of the data that the likelihood admits, where it names none itself."""
    dataset, model = table.get("dataset"), table.get("model")
    if not isinstance(model, Mapping) or not isinstance(dataset, Mapping | str) or "likelihood" not in model:
        return table
    dataset = {"name": dataset} if isinstance(dataset, str) else dataset
    likelihood = model["likelihood"]
    name = likelihood.get("name") if isinstance(likelihood, Mapping) else likelihood
    try:
        admitted = registry.find("likelihood", str(name)).config_class()
        options = registry.find("dataset", str(dataset.get("name"))).config_class()
    except ElboverseError:
        return table  # structuring says what is wrong with the name
    admits: tuple[str, ...] = getattr(admitted, "admits", ())
    fields = {field.name: field for field in attrs.fields(options)} if attrs.has(options) else {}
    if "scaling" in dataset or "scaling" not in fields or not admits or fields["scaling"].default in admits:
        return table
    return {**table, "dataset": {**dataset, "scaling": admits[0]}}


def scaling_misfits(model: Any, dataset: Any) -> Iterable[str]:
    """Yield that the data are scaled though the likelihood takes them as they are.

    Args:
        model: options of the model.
        dataset: options of the dataset.
    """
    likelihood = getattr(model, "likelihood", None)
    scaling = getattr(dataset, "scaling", None)
    if not isinstance(likelihood, Selection) or not isinstance(scaling, str):
        return
    admits: tuple[str, ...] = getattr(likelihood.options, "admits", ())
    if admits and scaling not in admits:
        expected = " or ".join(f'"{kind}"' for kind in admits)
        yield (
            f'dataset.scaling: got "{scaling}"; expected {expected}, since the likelihood "{likelihood.name}" is '
            "defined on values as they are"
        )


def component_conflicts(config: Any) -> Iterable[str]:
    """Yield what the chosen components say of the whole config, by their options' optional method `conflicts`."""
    for selection in (
        config.model,
        config.dataset,
        config.constraint,
        *config.regularisers,
        config.annealing,
        *config.sinks,
    ):
        check = getattr(selection.options, "conflicts", None) if selection is not None else None
        former = getattr(selection.options, "misfits", None) if selection is not None else None
        if not callable(check) and callable(former) and selection is not None:
            warn(
                f"{selection.registered}: the method 'misfits' of its options is called 'conflicts' since contract 2; "
                "rename it, since contract 3 will not call the old name"
            )
            check = former
        if callable(check):
            yield from check(config)
