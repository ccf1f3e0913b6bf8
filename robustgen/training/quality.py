"""Figures of a family of assets, on the validation split."""

import numpy as np
import torch
from torch import Tensor, nn

from robustgen.classifiers.cnn import SmallCNN
from robustgen.gan.encoder import SplitEncoder
from robustgen.gan.stylegan2 import StyleGAN2
from robustgen.rngs import rng_for
from robustgen.types import Images, Labels


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Fréchet distance of two sets of features, as normal distributions.

    For means m and covariances S: |m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)),
    equation 6 of arXiv:1706.08500. The trace of the root is the sum of the roots of
    the eigenvalues of S_a S_b.
    """
    x, y = a.double().numpy(), b.double().numpy()
    s_x, s_y = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    eigenvalues = np.linalg.eigvals(s_x @ s_y).real.clip(min=0)
    distance = np.square(x.mean(axis=0) - y.mean(axis=0)).sum()
    distance += np.trace(s_x) + np.trace(s_y) - 2 * np.sqrt(eigenvalues).sum()
    return float(distance)


def accuracy(classifier: nn.Module, images: Images, labels: Labels) -> float:
    """Share of images classified as labeled."""
    return float((classifier(images).argmax(dim=1) == labels).double().mean())


def share_kept(classifier: nn.Module, images: Images, others: Images) -> float:
    """Share of pairs of images that get the same class."""
    same = classifier(images).argmax(dim=1) == classifier(others).argmax(dim=1)
    return float(same.double().mean())


@torch.no_grad()
def measure(
    gan: StyleGAN2,
    encoder: SplitEncoder,
    classifier: SmallCNN,
    images: Images,
    labels: Labels,
    fine_from: int,
) -> dict[str, float]:
    """Figures of a card.

    Args:
        gan: Generator with its mapping network.
        encoder: Encoder.
        classifier: Classifier.
        images: Validation images, none of which was trained on.
        labels: Their classes.
        fine_from: First fine style layer.
    """
    w_plus = encoder(images)
    output = gan.synthesize(w_plus).clamp(0, 1)
    rng = rng_for(0, "quality")
    w = gan.map(torch.randn(len(images), gan.z_dim, generator=rng))
    mixed = w_plus.clone()
    mixed[:, fine_from:] = w[:, None]
    samples = gan.synthesize(w[:, None].expand(-1, gan.num_layers, -1)).clamp(0, 1)
    views = gan.synthesize(mixed).clamp(0, 1)
    real, fake = (
        classifier.trunk((x - classifier.mean) / classifier.std).mean((2, 3))
        for x in (images, samples)
    )
    return {
        "classifier_accuracy": accuracy(classifier, images, labels),
        "encoder_only_l1": float((output - images).abs().mean()),
        "encoder_only_accuracy": accuracy(classifier, output, labels),
        "stylemix_view_keeps_decision": share_kept(classifier, output, views),
        "random_samples_frechet_distance": frechet_distance(real, fake),
    }
