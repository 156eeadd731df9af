"""A model trained by the Trainer of transformers, evaluated by a callback after every epoch."""

import sys
import tempfile

import torch
from torch import nn
from torch.distributions import Normal, kl_divergence
from transformers import Trainer, TrainingArguments

from elboverse.integrations.transformers import Record


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.Linear(10, 4), nn.Linear(2, 10)

    def encode(self, x):
        mean, log_var = self.encoder(x).chunk(2, -1)
        return Normal(mean, (0.5 * log_var).exp())

    def forward(self, x):
        q = self.encode(x)
        likelihood = Normal(self.decoder(q.rsample()), 1.0).log_prob(x).sum(1)
        return {"loss": (kl_divergence(q, Normal(0.0, 1.0)).sum(1) - likelihood).mean()}


data, model = torch.randn(600, 2) @ torch.randn(2, 10) * 2 + torch.randn(600, 10), VAE()
settings = TrainingArguments(tempfile.mkdtemp(), num_train_epochs=3, use_cpu=True, report_to=[], save_strategy="no")
record = Record(sys.argv[1], model.encode, lambda z: Normal(model.decoder(z), 1.0), data[500:])
Trainer(model, settings, train_dataset=[{"x": x} for x in data[:500]], callbacks=[record]).train()
with torch.no_grad():
    print(sum(float(model.eval()(data[500:])["loss"]) for _ in range(100)) / 100)
