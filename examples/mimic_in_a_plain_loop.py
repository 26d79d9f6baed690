"""Feature mimicking in a training loop of your own: lshfm's hash functions and losses, nothing else of it.

python examples/mimic_in_a_plain_loop.py
"""

import torch
import torchvision

from lshfm.losses.features import L2
from lshfm.losses.lsh import LSH, HashFunctions, draw_weights, hash_bias, teacher_std

torch.manual_seed(0)


def features(network: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The penultimate features of a torchvision ResNet, (B, 512)."""
    layers = list(network.children())[:-1]
    return torch.nn.Sequential(*layers)(images).flatten(1)


images = torch.randn(32, 3, 32, 32)
teacher = torchvision.models.resnet18(num_classes=10).eval().requires_grad_(False)
student = torchvision.models.resnet18(num_classes=10).train()

# Once: directions are drawn with the deviation of the teacher's classifier, offsets halve its features.
feature_t = features(teacher, images)
std = teacher_std(teacher.fc.weight)
weights = draw_weights(hash_num=1024, width=512, std=std, seed=0)
functions = HashFunctions(weights, hash_bias(feature_t, weights, "median"), std, 0, "median")

direction, magnitude = LSH(functions), L2()
optimizer = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9)
history = []
for _step in range(5):
    feature_s = features(student, images)
    loss = direction(feature_s, feature_t) + magnitude(feature_s, feature_t)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    history.append(float(loss.detach()))
print(f"loss {history[0]:.3f} -> {history[-1]:.3f}")
assert history[-1] < history[0]
