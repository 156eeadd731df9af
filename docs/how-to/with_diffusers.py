"""The encoder of a diffusers AutoencoderKL, judged per latent channel."""

import sys

import torch
from diffusers import AutoencoderKL

import elboverse
from elboverse.integrations.diffusers import encoder_of

vae = AutoencoderKL(block_out_channels=(16,), norm_num_groups=4, latent_channels=4, sample_size=16)
images = torch.rand(64, 3, 16, 16) * 2 - 1
report = elboverse.judge(encoder_of(vae), None, images, name="autoencoder-kl")
print(report)
report.save(sys.argv[1])
with torch.no_grad():
    print(float(vae.encode(images).latent_dist.kl().mean()))
