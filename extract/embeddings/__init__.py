"""The embedding models, one module or folder each, behind one small interface.

`registry.py` has an entry per model, and what else needs to know a model asks there. A model's
module defines `build(**options) -> Embedding` (`embedding.py`) and is imported when it is asked
for: asking for `logmel` never loads JAX, asking for `vggish` never loads librosa.
"""

from extract.embeddings.embedding import Embedding, Layer
from extract.embeddings.registry import MODELS, build

NAMES = tuple(MODELS)

__all__ = ["MODELS", "NAMES", "Embedding", "Layer", "build"]
