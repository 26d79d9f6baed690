"""lshfm's metrics on the outputs of any model: mAP by three definitions, F1, thresholds, calibration.

python examples/metrics_alone.py
"""

import numpy as np

from lshfm.metrics.multilabel import measure, precision_recall
from lshfm.metrics.thresholds import Goal, calibration_error, choose_thresholds, fit_temperature

random = np.random.default_rng(0)
classes = ["cat", "dog", "bird"]
labels = random.choice(np.array([-1, -1, 1], np.int8), (400, 3))
labels[:5, 0] = 0  # difficult: these count neither way
logits = (2 * labels + random.normal(0, 2, labels.shape) - 2).astype(np.float32)

report = measure(logits, labels, classes, "voc2010")
print({name: round(value, 2) for name, value in report["mAPs"].items()})

held_out, rest = slice(0, 200), slice(200, None)
limits = choose_thresholds(logits[held_out], labels[held_out], Goal("precision", 0.7))
before, after = (
    precision_recall(logits[rest] >= 0, labels[rest]),
    precision_recall(logits[rest] >= limits, labels[rest]),
)
print(f"CF1 {before['CF1']:.1f} -> {after['CF1']:.1f}")
temperature = fit_temperature(logits[held_out], labels[held_out])
errors = [calibration_error(logits[rest], labels[rest], each) for each in (1.0, temperature)]
print(f"temperature {temperature:.2f}: ECE {errors[0]:.1f} -> {errors[1]:.1f} %")
assert after["CF1"] > before["CF1"]
