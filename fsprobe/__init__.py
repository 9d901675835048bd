"""Few-shot linear probes on frozen audio embeddings, hundreds at once, in JAX."""

__version__ = "0.1.0"
