"""The negative binomial against scvi-tools: the same parameters give the same ELBO on the same cells."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import kl_divergence

from elboverse.components.registry import discover
from elboverse.config.structuring import build_converter, structure_selection
from elboverse.theory import families

pytest.importorskip("scvi")

CELLS, GENES, HIDDEN, LATENTS = 300, 40, 32, 5


@pytest.fixture(scope="module")
def theirs() -> Any:
    """scVI's model, trained for a few epochs so that no parameter is at its start, in float64."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import anndata
        import scvi

        random = np.random.default_rng(0)
        factors = np.exp(0.7 * random.normal(size=(CELLS, 3)) @ random.normal(size=(3, GENES)))
        counts = random.negative_binomial(2, 2 / (2 + 3 * factors)).astype(np.float32)
        cells = anndata.AnnData(counts)
        scvi.settings.seed = 0
        scvi.settings.num_threads = 1
        scvi.model.SCVI.setup_anndata(cells)
        model = scvi.model.SCVI(
            cells,
            n_hidden=HIDDEN,
            n_latent=LATENTS,
            n_layers=1,
            dropout_rate=0.0,
            dispersion="gene",
            gene_likelihood="nb",
            use_batch_norm="none",
            use_layer_norm="none",
        )
        model.train(max_epochs=20, accelerator="cpu", enable_progress_bar=False, logger=False)
    model.module.eval().double()
    return model


def ours(module: Any) -> Any:
    """The model `vae` of elboverse with scVI's parameters."""
    registry = discover({"ELBOVERSE_LOAD_PLUGINS": ""})
    table = {
        "name": "vae",
        "latent_dim": LATENTS,
        "likelihood": "negative-binomial",
        "network": {"name": "mlp", "hidden": [HIDDEN], "activation": "relu"},
    }
    vae = structure_selection(build_converter(registry), registry, "model", table).build((GENES,)).double()
    encoder, decoder = module.z_encoder, module.decoder
    first = next(layer for layer in encoder.encoder.modules() if isinstance(layer, torch.nn.Linear))
    hidden = next(layer for layer in decoder.px_decoder.modules() if isinstance(layer, torch.nn.Linear))
    share = next(layer for layer in decoder.px_scale_decoder.modules() if isinstance(layer, torch.nn.Linear))
    heads = (encoder.mean_encoder, encoder.var_encoder)
    with torch.no_grad():
        for own, other in ((vae.encoder[0], first), (vae.decoder[0], hidden), (vae.outputs[0], share)):
            own.weight.copy_(other.weight[:, : own.weight.shape[1]])  # the batch, of which there is one, comes after
            own.bias.copy_(other.bias + other.weight[:, own.weight.shape[1] :].sum(1))
        vae.encoder_head.weight.copy_(torch.cat([head.weight for head in heads]))
        vae.encoder_head.bias.copy_(torch.cat([head.bias for head in heads]))
        vae.likelihood.log_dispersion.copy_(module.px_r)
    return vae


def their_elbo(module: Any, x: Tensor, noise: Tensor) -> Tensor:
    """scVI's reconstruction and KL of each cell, with z = mean + std·ε."""
    batch = torch.zeros(len(x), 1, dtype=torch.long)
    with torch.no_grad():
        found = module.inference(x=x, batch_index=batch)
        z = found["qz"].loc + noise * found["qz"].scale
        made = module.generative(z=z, library=found["library"], batch_index=batch)
        return made["px"].log_prob(x).sum(-1) - kl_divergence(found["qz"], made["pz"]).sum(-1)


def test_the_elbo_of_each_cell_is_scvi_s(theirs: Any) -> None:
    x = torch.from_numpy(np.asarray(theirs.adata.X)).double()
    noise = torch.randn(CELLS, LATENTS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    expected = their_elbo(theirs.module, x, noise)
    vae = ours(theirs.module)
    with torch.no_grad():
        terms = families.family_terms(vae, x, noise, average_points=False)
    found = terms.log_likelihood - terms.kl.sum(-1)
    # scVI adds 1e-4 to the encoder's variances, which moves z and the KL a little.
    assert float(((found - expected) / expected).abs().max()) < 1e-3
    assert float(found.mean()) == pytest.approx(float(expected.mean()), rel=1e-4)


def test_the_log_probabilities_are_scvi_s_to_rounding(theirs: Any) -> None:
    x = torch.from_numpy(np.asarray(theirs.adata.X)).double()
    z = torch.randn(CELLS, LATENTS, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    batch = torch.zeros(CELLS, 1, dtype=torch.long)
    with torch.no_grad():
        library = x.sum(-1, keepdim=True).log()
        expected = theirs.module.generative(z=z, library=library, batch_index=batch)["px"].log_prob(x).sum(-1)
        found = families.decode(ours(theirs.module), z, x).log_prob(x)
    # scVI adds 1e-8 inside its logarithms.
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-5)
