"""Few-shot linear probes on frozen audio embeddings, hundreds at once, in JAX."""
