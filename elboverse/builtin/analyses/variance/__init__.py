"""How much ELBO and entropy sum scatter when few points estimate them."""
