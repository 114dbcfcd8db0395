"""Self-supervised pretraining in JAX by ranking (S2R2), beside SimCLR and SwAV, in flax.nnx and optax."""
