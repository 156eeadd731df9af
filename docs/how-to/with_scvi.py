"""A trained scvi-tools model, recorded batch by batch."""

import sys

import anndata
import numpy as np
import scvi

from elboverse.integrations.scvi import record_scvi

counts = np.random.default_rng(0).poisson(3.0, size=(300, 30)).astype(np.float32)
cells = anndata.AnnData(counts)
scvi.model.SCVI.setup_anndata(cells)
model = scvi.model.SCVI(cells, n_latent=3, n_hidden=16, gene_likelihood="nb")
model.train(max_epochs=3, accelerator="cpu", enable_progress_bar=False)
record_scvi(sys.argv[1], model)
print(float(model.get_elbo()))
