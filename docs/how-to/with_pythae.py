"""A Pythae model, evaluated by a callback after every epoch."""

import sys
import tempfile

import torch
from pythae.data.datasets import BaseDataset
from pythae.models import VAE, VAEConfig
from pythae.trainers import BaseTrainer, BaseTrainerConfig

from elboverse.integrations.pythae import Record

data = torch.randn(600, 2) @ torch.randn(2, 10) + 0.5 * torch.randn(600, 10)
model = VAE(VAEConfig(input_dim=(10,), latent_dim=3, reconstruction_loss="mse"))
config = BaseTrainerConfig(output_dir=tempfile.mkdtemp(), num_epochs=3, learning_rate=1e-3, no_cuda=True)
trainer = BaseTrainer(
    model=model,
    train_dataset=BaseDataset(data[:500], torch.zeros(500)),
    training_config=config,
    callbacks=[Record(sys.argv[1], model, data[500:])],
)
trainer.train()
losses = [float(model.eval()({"data": data[500:]}).loss) for _ in range(100)]
print(sum(losses) / 100)
