"""The public modules: what a plugin or a program may import, each with what it is for.

What such a module lists in its ``__all__`` is public. It changes only with a line in the change log. Where a plugin may
have to change with it, `elboverse.CONTRACT` grows, and the former way works on for one more contract, with a warning.
Anything else may change at any time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["PUBLIC"]

PUBLIC: Final[Mapping[str, str]] = {
    "elboverse": "training, resuming, reading, judging; `Component` and `hookimpl`",
    "elboverse.contracts": "what components are given and what they give",
    "elboverse.contracts.launcher": "what a launcher is given and what it tells",
    "elboverse.contracts.optimiser": "what an optimiser is",
    "elboverse.components": "the hooks, the registry, and `selects`, by which options name another component",
    "elboverse.config": "configs: reading, overriding, and structuring options strictly",
    "elboverse.config.structuring": "validators of options: `in_range`, `one_of`",
    "elboverse.data": "from raw points to `Data`: `prepare`, splits, scalings, fingerprints",
    "elboverse.data.cache": "where what is made of files is kept",
    "elboverse.data.conditions": "conditions of points, from columns of numbers and names",
    "elboverse.seeding": "addressed random streams: `generator(seed, …)`",
    "elboverse.errors": "the exceptions, each a sentence for the user",
    "elboverse.warning": "`warn`, which names the line of the user's program",
    "elboverse.models": "`NetworkVAE`, on which VAE types with a network are built, and `LikelihoodOf` a distribution",
    "elboverse.models.network_vae": "the same",
    "elboverse.theory.gaussian": "`DiagonalGaussian`",
    "elboverse.theory.distributions": "`DecoderDistribution`, and the families that ship",
    "elboverse.theory.elbo": "ELBO, entropies and residuals of a batch",
    "elboverse.theory.families": "the same for any family",
    "elboverse.theory.identities": "the formulas, of tensors and of arrays alike",
    "elboverse.runfile": "`Run`, the reader of run files",
    "elboverse.analysis.making": "analyses by name, in Python",
    "elboverse.analysis.reading": "a run as analyses read it, with a replica axis throughout",
    "elboverse.analysis.pool": "several runs side by side",
    "elboverse.analysis.curves": "curves through training",
    "elboverse.analysis.style": "how figures look, ready for print",
    "elboverse.analysis.trained": "the trained model of a run",
    "elboverse.testing": "the checks for authors of components",
    "elboverse.sklearn": "an estimator of scikit-learn",
    "elboverse.integrations": "doors for programs that train themselves",
}
"""Module → what it is for."""
