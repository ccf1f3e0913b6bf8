"""The classifier: ordinary training, or training on attacked images."""

import logging
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from robustgen.attacks.pgd import pgd
from robustgen.classifiers.cnn import SmallCNN
from robustgen.rngs import rng_for
from robustgen.threat import Threat
from robustgen.training.generated import load_view_maker
from robustgen.training.images import TrainingImages
from robustgen.training.recipe import AttackedTraining, ClassifierOnly
from robustgen.types import Images, Labels

log = logging.getLogger(__name__)


def train_classifier(
    data: TrainingImages, recipe: ClassifierOnly, classes: int
) -> SmallCNN:
    """Cross-entropy on augmented training images: Adam with decoupled decay, cosine.

    Where the recipe says `views_of`, two of three images are generated ones. Where it
    says `adversarial`, each batch is attacked before the network sees it, and no clean
    image is trained on.
    """
    stage = recipe.classifier
    pixels = data.images.float() / 255
    mean: Sequence[float] = pixels.mean(dim=(0, 2, 3)).tolist()
    std: Sequence[float] = pixels.std(dim=(0, 2, 3)).tolist()
    model = SmallCNN(
        pixels.shape[1], classes, stage.widths, mean, std, seed=recipe.seed
    )
    weight = class_weights(data, classes).to(data.device) if stage.balanced else None
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=stage.learning_rate, weight_decay=stage.weight_decay
    )
    model = model.to(data.device).train()
    make = load_view_maker(stage.views_of, data.device) if stage.views_of else None
    for step in range(stage.steps):
        decay = 0.5 * (1 + math.cos(math.pi * step / stage.steps))
        optimizer.param_groups[0]["lr"] = stage.learning_rate * decay
        images, labels = data.batch(
            stage.batch,
            stage.augmentation or recipe.augmentation,
            recipe.seed,
            "classifier",
            step,
        )
        if make is not None:
            images = make(images, rng_for(recipe.seed, "classifier", "views", step))
        if stage.adversarial is not None:
            images = attacked(
                model, images, labels, stage.adversarial, step, recipe.seed
            )
        loss = F.cross_entropy(model(images), labels, weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % 500 == 0:
            log.info(
                "classifier step %d/%d loss %.4f", step + 1, stage.steps, loss.item()
            )
    return model.eval().requires_grad_(False)


def class_weights(data: TrainingImages, classes: int) -> Tensor:
    """Weights under which every class counts the same; mean 1 over the images."""
    counts = torch.bincount(data.labels, minlength=classes)
    return len(data.labels) / (classes * counts)


def attacked(
    model: SmallCNN,
    images: Images,
    labels: Labels,
    recipe: AttackedTraining,
    step: int,
    seed: int,
) -> Images:
    """The batch of one training step, attacked by PGD from a random start.

    The attack sees the network in eval mode: with batch statistics an image's gradient
    would depend on its neighbors. Random starts belong to seed, step and row.

    Args:
        model: Network under training; comes back in training mode.
        images: Clean, augmented images.
        labels: Their classes.
        recipe: Radius, steps and warm-up.
        step: Number of the training step, from 0.
        seed: Seed of the recipe.
    """
    share = min(1.0, (step + 1) / recipe.warmup) if recipe.warmup else 1.0
    rngs = [
        rng_for(seed, "classifier", "attack", step, row) for row in range(len(images))
    ]
    model.eval()
    found = pgd(
        model,
        images,
        labels,
        Threat("linf", share * recipe.eps),
        rngs,
        steps=recipe.steps,
        step_size=share * recipe.step_size,
    )
    model.train()
    return found


def accuracy_under_pgd(
    model: SmallCNN, images: Images, labels: Labels, eps: float, seed: int
) -> float:
    """Share of images still right under PGD of 40 steps, each a sixteenth of `eps`."""
    rngs = [rng_for(seed, "quality", "pgd", row) for row in range(len(images))]
    found = pgd(
        model, images, labels, Threat("linf", eps), rngs, steps=40, step_size=eps / 16
    )
    return float((model(found).argmax(dim=1) == labels).double().mean())
