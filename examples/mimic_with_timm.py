"""timm's networks, optimiser, schedule and moving average, with lshfm's losses between their features.

python examples/mimic_with_timm.py
"""

import timm
import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3

from lshfm.losses.logits import SigmoidKL
from lshfm.losses.lsh import LSH, HashFunctions, draw_weights, hash_bias, teacher_std

torch.manual_seed(0)
images = torch.randn(16, 3, 32, 32)
teacher = timm.create_model("resnet18", num_classes=5).eval().requires_grad_(False)
student = timm.create_model("mobilenetv2_050", num_classes=5)
bridge = torch.nn.Linear(student.num_features, teacher.num_features)


def forward(network: torch.nn.Module, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The feature (B, D) before the classifier, and the logits (B, C)."""
    feature = network.forward_head(network.forward_features(batch), pre_logits=True)
    return feature, network.get_classifier()(feature)


feature_t, logits_t = forward(teacher, images)
std = teacher_std(teacher.get_classifier().weight)
weights = draw_weights(1024, teacher.num_features, std, seed=0)
hashing = LSH(HashFunctions(weights, hash_bias(feature_t, weights, "median"), std, 0, "median"))
soft_labels = SigmoidKL(temperature=2.0)

trained = torch.nn.ModuleList([student, bridge])
optimizer = create_optimizer_v2(trained, opt="adamw", lr=2e-3, weight_decay=1e-4)
schedule = CosineLRScheduler(optimizer, t_initial=6)
average = ModelEmaV3(trained, decay=0.9)
history = []
for step in range(6):
    feature, logits = forward(student, images)
    loss = hashing(bridge(feature), feature_t) + soft_labels(logits, logits_t)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    average.update(trained, step=step)
    schedule.step(step + 1)
    history.append(float(loss.detach()))
print(f"loss {history[0]:.3f} -> {history[-1]:.3f}")
assert history[-1] < history[0]
