"""ELBO and entropy sum through training."""
