"""``dimension``: how many latents the data need, from runs with different numbers of them on the same data."""
