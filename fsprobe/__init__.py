"""Few-shot linear heads on frozen audio embeddings, hundreds at once, in JAX.

head = fsprobe.fit(features, positive, negative)      # [clip, dim], [clip, tag] → Head
logits = fsprobe.score(head, features)                # → [clip, tag]
fsprobe.evaluate(logits, positive, negative)          # → {"mAP", "roc_auc", …}
"""

from fsprobe.heads.evaluate import evaluate
from fsprobe.heads.fitting import fit
from fsprobe.heads.head import Head, score

__version__ = "0.2.0"
__all__ = ["Head", "evaluate", "fit", "score"]
