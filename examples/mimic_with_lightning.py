"""A LightningModule whose loss is lshfm's (pip install lightning).

python examples/mimic_with_lightning.py
"""

import lightning
import torch
from torch.utils.data import DataLoader, TensorDataset

from lshfm.losses.classification import BCE
from lshfm.losses.features import L2
from lshfm.losses.lsh import LSH, HashFunctions, draw_weights, hash_bias, teacher_std
from lshfm.models.cifar import cifar_classifier  # any network that gives (feature, logits)


class Mimicking(lightning.LightningModule):
    """A student that learns labels and a teacher's features; the teacher stays out of its parameters."""

    def __init__(self, teacher: torch.nn.Module, functions: HashFunctions) -> None:
        super().__init__()
        self.student = cifar_classifier("resnet8", 4, projection=64)
        self._frozen = [teacher.eval().requires_grad_(False)]  # in a list: train() must not reach it
        self.direction, self.magnitude, self.labels = LSH(functions), L2(), BCE()
        self.history: list[float] = []

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _index: int) -> torch.Tensor:
        images, labels = batch
        with torch.no_grad():
            feature_t, _ = self._frozen[0](images)
        feature_s, logits = self.student(images)
        mimicked = self.direction(feature_s, feature_t) + self.magnitude(feature_s, feature_t)
        loss = mimicked + self.labels(logits, labels)
        self.history.append(float(loss.detach()))
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.student.parameters(), lr=0.05)


torch.manual_seed(0)
images, labels = torch.randn(48, 3, 32, 32), (torch.rand(48, 4) > 0.5).to(torch.int8) * 2 - 1
teacher = cifar_classifier("resnet20", 4).eval()
with torch.no_grad():
    features, _ = teacher(images)
std = teacher_std(teacher.classifier.weight)
weights = draw_weights(512, 64, std, seed=0)
module = Mimicking(teacher, HashFunctions(weights, hash_bias(features, weights, "median"), std, 0, "median"))
trainer = lightning.Trainer(
    max_epochs=4, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
    enable_model_summary=False,
)  # fmt: skip
trainer.fit(module, DataLoader(TensorDataset(images, labels), batch_size=16))
print(f"loss {module.history[0]:.3f} -> {module.history[-1]:.3f}")
assert module.history[-1] < module.history[0]
