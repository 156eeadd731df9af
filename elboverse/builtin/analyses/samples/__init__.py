"""Data, reconstructions and samples from the prior."""
