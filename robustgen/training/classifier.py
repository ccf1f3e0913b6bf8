"""The classifier: ordinary training, no defense."""

import logging
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from robustgen.classifiers.cnn import SmallCNN
from robustgen.training.images import TrainingImages
from robustgen.training.recipe import ClassifierOnly

log = logging.getLogger(__name__)


def train_classifier(
    data: TrainingImages, recipe: ClassifierOnly, classes: int
) -> SmallCNN:
    """Cross-entropy on augmented training images: Adam with decoupled decay, cosine."""
    stage = recipe.classifier
    pixels = data.images.float() / 255
    mean: Sequence[float] = pixels.mean(dim=(0, 2, 3)).tolist()
    std: Sequence[float] = pixels.std(dim=(0, 2, 3)).tolist()
    model = SmallCNN(
        pixels.shape[1], classes, stage.widths, mean, std, seed=recipe.seed
    )
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=stage.learning_rate, weight_decay=stage.weight_decay
    )
    model.train()
    for step in range(stage.steps):
        decay = 0.5 * (1 + math.cos(math.pi * step / stage.steps))
        optimizer.param_groups[0]["lr"] = stage.learning_rate * decay
        images, labels = data.batch(
            stage.batch, recipe.augmentation, recipe.seed, "classifier", step
        )
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % 500 == 0:
            log.info(
                "classifier step %d/%d loss %.4f", step + 1, stage.steps, loss.item()
            )
    return model.eval().requires_grad_(False)
