"""The package's own graph, `musicnn.models.define_model`, in a process of its own, since it wants
eager execution off and the Keras of TensorFlow 1:

    TF_USE_LEGACY_KERAS=1 python tests/parity/musicnn_graph.py PACKAGE MODEL IN.npy OUT.npz
        [MODEL IN.npy OUT.npz …] [--weights=NPZ] [--repeats=N]

PACKAGE: the folder that the wheel was unpacked into. IN: log-mel windows, float32 `[window, frame,
96]`. OUT: an array per layer, `[window, ...]`, each window run by itself, as the package does.
weights: arrays by published name, instead of the package's. It prints the seconds of the fastest
of `repeats` passes over the windows, after one that does not count. Several models in one process
spare TensorFlow's start, some ten seconds.
"""

import argparse
import sys
import time

import numpy as np
import tensorflow as tf

NAMES = {
    "musicnn": ("timbral", "temporal", "cnn1", "cnn2", "cnn3", "mean_pool", "max_pool", "penultimate"),
    "vgg": ("pool1", "pool2", "pool3", "pool4", "pool5"),
}  # fmt: skip


def graph(
    package: str, model: str, windows: np.ndarray, weights: str | None, repeats: int
) -> tuple[dict[str, np.ndarray], float]:
    """Layer → `[window, ...]`, and seconds."""
    from musicnn import models

    x = tf.compat.v1.placeholder(tf.float32, [None, *windows.shape[1:]])
    training = tf.compat.v1.placeholder(tf.bool)
    with tf.name_scope("model"):
        logits, *layers = models.define_model(x, training, model, 50)
    fetched = [tf.nn.sigmoid(logits), *layers]
    seconds = []
    with tf.compat.v1.Session() as session:
        if weights is None:
            tf.compat.v1.train.Saver().restore(session, f"{package}/musicnn/{model}/")
        else:
            with np.load(weights) as arrays:
                for variable in tf.compat.v1.global_variables():
                    variable.load(arrays[f"{model}/{variable.op.name}"], session)
        for _ in range(repeats + 1):
            start = time.perf_counter()
            runs = [session.run(fetched, {x: window[None], training: False}) for window in windows]
            seconds.append(time.perf_counter() - start)
    names = ("tags", *NAMES[model.partition("_")[2]])
    arrays = (np.concatenate(parts) for parts in zip(*runs, strict=True))
    return dict(zip(names, arrays, strict=True)), min(seconds[1:], default=seconds[0])


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("package")
    parser.add_argument("jobs", nargs="+", metavar="MODEL IN OUT")
    parser.add_argument("--weights")
    parser.add_argument("--repeats", type=int, default=0)
    given = parser.parse_args()
    sys.path.insert(0, given.package)
    tf.compat.v1.disable_eager_execution()
    for model, source, target in zip(*[iter(given.jobs)] * 3, strict=True):
        with tf.Graph().as_default():
            layers, seconds = graph(
                given.package, model, np.load(source), given.weights, given.repeats
            )
        np.savez(target, **layers)
        print(seconds)
