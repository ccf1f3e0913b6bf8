"""Mean codes: where a projection starts that has no encoder.

An unconditional generator has one mean code. A class-conditional one has one for each
class; the released code for CIFAR-10 starts at that of the class which a classifier
predicts, and stores them in `stylegan2_cifar10c_wmean.npz`.
"""

import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from robustgen.errors import RequestError
from robustgen.gan.stylegan2 import StyleGAN2
from robustgen.rngs import rng_for
from robustgen.types import Images, Labels, Masks, Styles, StylesPlus

_ENTRY = "wmeans"

_ZIP = (zipfile.BadZipFile, zlib.error)
"""How a damaged archive shows."""

_ROWS = 4096
"""Latents mapped at once: bounds the memory."""


class ClassMeanEncoder(nn.Module):
    """The mean code of the class that a classifier predicts.

    It stands where an encoder does. No gradient passes: the code is the same for all
    images of a class, so the latent term of a projection's loss must compare the code
    itself with it, not the code of the reconstruction.

    Args:
        means: Codes `[K, L, D]`, one for each class of the classifier.
        classifier: Images in [0, 1] to logits `[N, K]`.
    """

    means: Tensor

    def __init__(self, means: Float[Tensor, "cls layer dim"], classifier: nn.Module):
        super().__init__()
        self.num_layers, self.w_dim = means.shape[1:]
        self.classifier = classifier
        self.register_buffer("means", means.detach().clone())

    @torch.no_grad()
    def forward(self, images: Images, mask: Masks | None = None) -> StylesPlus:
        """Mean codes `[N, L, D]` of the predicted classes.

        Args:
            images: Pixels in [0, 1].
            mask: Not looked at: the classifier sees the whole image.

        Raises:
            RequestError: the classifier knows another number of classes.
        """
        del mask
        logits = self.classifier(images)
        if logits.shape[1] != len(self.means):
            raise RequestError(
                f"The classifier knows {logits.shape[1]} classes, but there are mean "
                f"codes of {len(self.means)}."
            )
        return self.means[logits.argmax(dim=1)]


def load_class_means(path: Path, num_layers: int) -> Float[Tensor, "cls layer dim"]:
    """Reads the mean codes of classes, `wmeans` in the `.npz` of the released code.

    Args:
        path: File with an array `[K, L, D]`, or `[K, D]` or `[K, 1, D]`, which is
            repeated for every layer; an axis of 1 after the first is left out, since
            the released code keeps that of a batch.
        num_layers: Style layers `L` of the generator.

    Raises:
        RequestError: the file is missing, damaged or holds something else, or the codes
            are those of a generator with another number of layers.
    """
    means = torch.from_numpy(_read(path))
    if means.ndim == 4 and means.shape[1] == 1:
        means = means[:, 0]
    if means.ndim == 2:
        means = means[:, None]
    if means.ndim != 3 or not means.numel() or means.shape[1] not in (1, num_layers):
        raise RequestError(
            f"{path}: '{_ENTRY}' has shape {list(means.shape)}, expected codes of K "
            f"classes, [K, D] or [K, {num_layers}, D]."
        )
    if not torch.isfinite(means).all():
        raise RequestError(f"{path}: '{_ENTRY}' holds NaN or infinite numbers.")
    return means.expand(-1, num_layers, -1).contiguous()


def _read(path: Path) -> Float[np.ndarray, "..."]:
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            return np.asarray(arrays[_ENTRY], dtype=np.float32)
    except FileNotFoundError as error:
        raise RequestError(f"{path}: no such file.") from error
    except KeyError as error:
        raise RequestError(f"{path}: has no array '{_ENTRY}'.") from error
    # Of a file that is no archive NumPy gives an array, or wants to unpickle it.
    except (ValueError, TypeError, EOFError, OSError, MemoryError, *_ZIP) as error:
        raise RequestError(
            f"{path}: no readable .npz file with the mean codes of classes."
        ) from error


@torch.no_grad()
def mean_code(
    gan: StyleGAN2,
    labels: Labels | None = None,
    *,
    samples: int = 10_000,
    seed: int = 0,
) -> Styles:
    """The mean style code of a generator, where projections without an encoder start.

    The average that training kept (`w_avg`, `latent_avg`) is taken where it is the one
    asked for and the file has it; else codes of random latents are averaged. A class
    has an average of its own, and depends on no other class that is asked for.

    Args:
        gan: Generator.
        labels: Class of each image, for a class-conditional generator. None for the
            mean over all classes. An unconditional generator has the same mean for all.
        samples: Random latents to average; the error falls with its root. 10,000 is
            the number of StyleGAN2's projector.
        seed: Seed of the latents.

    Returns:
        A code `[N, D]` for each label; a single row `[1, D]` without labels.

    Raises:
        RequestError: there is no such class.
    """
    if labels is None or gan.num_classes == 0:
        average = gan.mapping.w_avg
        if not average.any():
            average = _average(gan, None, samples, seed)
        return average.expand(1 if labels is None else len(labels), -1).clone()
    classes, rows = labels.unique(return_inverse=True)
    if (
        classes.numel()
        and not 0 <= int(classes[0]) <= int(classes[-1]) < gan.num_classes
    ):
        raise RequestError(
            f"Labels from {int(classes[0])} to {int(classes[-1])}: this generator has "
            f"{gan.num_classes} classes, counted from 0."
        )
    means = torch.empty(len(classes), gan.w_dim, device=labels.device)
    for row, label in enumerate(classes):
        means[row] = _average(gan, int(label), samples, seed)
    return means[rows]


def _average(
    gan: StyleGAN2, label: int | None, samples: int, seed: int
) -> Float[Tensor, " dim"]:
    """Mean code of random latents, of one class or of all alike."""
    rng = rng_for(seed, "mean code", -1 if label is None else label)
    device = gan.mapping.w_avg.device
    total = torch.zeros(gan.w_dim, dtype=torch.float64, device=device)
    for start in range(0, samples, _ROWS):
        rows = min(_ROWS, samples - start)
        z = torch.randn(rows, gan.z_dim, generator=rng)
        labels = None
        if gan.num_classes:
            labels = torch.arange(start, start + rows) % gan.num_classes
            labels = (labels if label is None else torch.full((rows,), label)).to(
                device
            )
        total += gan.map(z.to(device), labels).double().sum(dim=0)
    return (total / samples).float()
