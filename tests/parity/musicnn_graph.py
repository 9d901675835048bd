"""The package's own graph, `musicnn.models.define_model`, in a process of its own, since it wants
eager execution off and the Keras of TensorFlow 1:

    TF_USE_LEGACY_KERAS=1 python tests/parity/musicnn_graph.py PACKAGE MODEL IN.npy OUT.npz [REPEATS]

PACKAGE: the folder that the wheel was unpacked into. IN: log-mel windows, float32 `[window, frame,
96]`. OUT: an array per layer, `[window, ...]`, each window run by itself, as the package does. With
REPEATS it prints the seconds of the fastest of so many passes over the windows.
"""

import sys
import time

import numpy as np
import tensorflow as tf

NAMES = {
    "musicnn": ("timbral", "temporal", "cnn1", "cnn2", "cnn3", "mean_pool", "max_pool", "penultimate"),
    "vgg": ("pool1", "pool2", "pool3", "pool4", "pool5"),
}  # fmt: skip


def main(package: str, model: str, source: str, target: str, repeats: str = "1") -> None:
    sys.path.insert(0, package)
    tf.compat.v1.disable_eager_execution()
    from musicnn import models

    windows = np.load(source)
    x = tf.compat.v1.placeholder(tf.float32, [None, *windows.shape[1:]])
    training = tf.compat.v1.placeholder(tf.bool)
    with tf.name_scope("model"):
        logits, *layers = models.define_model(x, training, model, 50)
    fetched = [tf.nn.sigmoid(logits), *layers]
    seconds = []
    with tf.compat.v1.Session() as session:
        tf.compat.v1.train.Saver().restore(session, f"{package}/musicnn/{model}/")
        for _ in range(int(repeats) + (int(repeats) > 1)):
            start = time.perf_counter()
            runs = [session.run(fetched, {x: window[None], training: False}) for window in windows]
            seconds.append(time.perf_counter() - start)
    names = ("tags", *NAMES[model.partition("_")[2]])
    arrays = (np.concatenate(parts) for parts in zip(*runs, strict=True))
    np.savez(target, **dict(zip(names, arrays, strict=True)))
    print(min(seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
