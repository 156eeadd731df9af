"""Latent space and data space through training."""
