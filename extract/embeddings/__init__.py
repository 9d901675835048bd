"""The embedding models, one module each; `extract.run` picks one by name."""
