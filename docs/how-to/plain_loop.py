"""A plain PyTorch loop, recorded: three lines are elboverse's."""

import sys

import torch
from torch import nn
from torch.distributions import Bernoulli, Independent, Normal

import elboverse

torch.manual_seed(0)
latents = torch.randn(1200, 2)
data = (torch.rand(1200, 20) < torch.sigmoid(2 * latents @ torch.randn(2, 20))).float()
encoder, decoder = nn.Linear(20, 8), nn.Linear(4, 20)
optimiser = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-2)


def encode(x):
    mean, log_var = encoder(x).chunk(2, -1)
    return Normal(mean, (0.5 * log_var).exp())


with elboverse.record(sys.argv[1]) as run:  # 1
    for epoch in range(20):
        for x in data[:1000].split(100):
            q = encode(x)
            loss = run.loss(x, q, Independent(Bernoulli(logits=decoder(q.rsample())), 1))  # 2
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        run.evaluate(encode, lambda z: Bernoulli(logits=decoder(z)), data[1000:], epoch=epoch)  # 3
