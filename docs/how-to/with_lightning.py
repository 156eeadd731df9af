"""A LightningModule, recorded by a callback."""

import sys

import lightning
import torch
from torch import nn
from torch.distributions import Normal
from torch.utils.data import DataLoader, TensorDataset

from elboverse.integrations.lightning import Record


class VAE(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(10, 4), nn.Linear(2, 10)

    def encode(self, x):
        mean, log_var = self.encoder(x).chunk(2, -1)
        return Normal(mean, (0.5 * log_var).exp())

    def decode(self, z):
        return Normal(self.decoder(z), 1.0)

    def training_step(self, batch, _):
        (x,) = batch
        q = self.encode(x)
        kl = torch.distributions.kl_divergence(q, Normal(0.0, 1.0)).sum(1).mean()
        loss = kl - self.decode(q.rsample()).log_prob(x).sum(1).mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-2)


data = torch.randn(600, 2) @ torch.randn(2, 10) * 2 + torch.randn(600, 10)
trainer = lightning.Trainer(
    max_epochs=5, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
    callbacks=[Record(sys.argv[1], data=data[500:])],
)  # fmt: skip
trainer.fit(VAE(), DataLoader(TensorDataset(data[:500]), batch_size=50))
