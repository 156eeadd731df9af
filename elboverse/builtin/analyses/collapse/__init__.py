"""Which latents are active and which have collapsed."""
