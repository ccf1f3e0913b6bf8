"""The type of an attack, and the framework that runs one without trusting it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Int64
from torch import Tensor, nn

from robustgen.attacks.isolation import isolated
from robustgen.attacks.logits import LogitsModule, margin
from robustgen.attacks.passes import (
    PassCounter,
    asked_about,
    checked_logits,
    misclassified,
)
from robustgen.errors import RequestError
from robustgen.threat import Threat
from robustgen.types import Flags, Images, Labels, LogitsFn, PerSample

Rngs: TypeAlias = Sequence[torch.Generator]
"""One generator per image, so that a draw belongs to its image."""

Attack: TypeAlias = Callable[[LogitsFn, Images, Labels, Threat, Rngs], Images]
"""`(logits_fn, images, labels, threat, rngs) -> images`.

`logits_fn` is a frozen classifier in eval mode (an `nn.Module`, for libraries that
insist on one). `images` are clean. Draw randomness from `rngs`, one per image, only.
"""


@dataclass(frozen=True)
class AttackOutcome:
    """What an attack achieved, after the framework's checks.

    Args:
        images: The attacked images, inside the threat set.
        in_threat: Whether an image is finite, in [0, 1] and within `eps` + 1e-6. True
            unless the clip itself is at fault.
        clipped: Whether the attack left the set and had to be brought back.
        failed: Whether the attack returned a pixel that is not finite, or an image of
            which the classifier's logits are NaN. The image is then the clean one, so
            it cannot count as a success.
        distance_linf: Largest change of a pixel, pixel units of [0, 1].
        distance_l2: Euclidean length of the change, pixel units of [0, 1].
        forwards: Passes of each image through the classifier.
        backwards: Passes of a gradient back to each image.
        success: Whether the attacked classifier gives `images` another class than the
            true one, asked once more after the clip. Never for a failed image.
        first_success: Forward passes of each image up to its first misclassified
            iterate; -1 if there was none. 1 for an image that is misclassified clean.
        margin_first: Lead of the best wrong class, in logits, in the first pass; NaN
            where there was none.
        margin_best: The same in the strongest pass.
        margin_last: The same in the last pass.
    """

    images: Images
    in_threat: Flags
    clipped: Flags
    failed: Flags
    distance_linf: PerSample
    distance_l2: PerSample
    forwards: Int64[Tensor, " batch"]
    backwards: Int64[Tensor, " batch"]
    success: Flags
    first_success: Int64[Tensor, " batch"]
    margin_first: PerSample
    margin_best: PerSample
    margin_last: PerSample


def run_attack(
    attack: Attack,
    classifier: nn.Module,
    images: Images,
    labels: Labels,
    threat: Threat,
    rngs: Rngs,
    *,
    name: str = "",
) -> AttackOutcome:
    """Runs an attack, then clips, checks and measures what it returned.

    The classifier comes back exactly as it was (training modes, gradients,
    `requires_grad`, buffers), and so does every global generator. Works under `no_grad`
    and `inference_mode`. Two passes are not counted: one of one image, to learn the
    number of classes, and one of the returned images, to learn whether they succeed.

    Args:
        attack: Who searches; see `Attack`.
        classifier: From images in [0, 1] to logits [N, K]; on the device of `images`.
            If it has a method `of`, it is asked through it; see `PassCounter`.
        images: Clean images; neither they nor `labels` are written to.
        labels: True classes.
        threat: Set that the result is guaranteed to lie in.
        rngs: One generator per image. Consumed.
        name: What messages call the attack; by default, its Python name.

    Raises:
        RequestError: images outside [0, 1], labels that are not classes, a classifier
            that returns no logits, or an attack that returns no images.
    """
    title = f"Attack '{name or _python_name(attack)}'"
    check_images(images, labels, rngs)
    with isolated(classifier, images.device, rngs):
        clean, true = images.detach().clone(), labels.clone()
        with torch.no_grad():
            # Not by `of`: that would use up draws of the first image alone.
            classes = checked_logits(classifier(clean[:1]), 1).shape[1]
        check_labels(true, classes=classes)
        counter = PassCounter(classifier, clean, true)
        result = attack(
            LogitsModule(counter, clean.device),
            clean.clone(),
            true.clone(),
            threat,
            rngs,
        )
        with torch.no_grad():
            found = _checked_images(result, clean, title)
            finite = torch.isfinite(found).flatten(1).all(dim=1)
            found = torch.where(finite.view(-1, 1, 1, 1), found, clean)
            inside = threat.clip(found, clean)
            asked = asked_about(classifier, torch.arange(len(clean)))
            logits = checked_logits(asked(inside), len(clean))
            failed = ~finite | margin(logits, true).isnan()
            kept = torch.where(failed.view(-1, 1, 1, 1), clean, inside)
            return AttackOutcome(
                images=kept,
                in_threat=threat.contains(kept, clean),
                clipped=~threat.contains(found, clean),
                failed=failed,
                distance_linf=Threat("linf", 1.0).distance(kept, clean),
                distance_l2=Threat("l2", torch.inf).distance(kept, clean),
                forwards=counter.forwards,
                backwards=counter.backwards,
                success=misclassified(logits, true) & ~failed,
                first_success=counter.first_success,
                margin_first=counter.margin_first,
                margin_best=counter.margin_best,
                margin_last=counter.margin_last,
            )


def check_images(images: Tensor, labels: Tensor, rngs: Rngs) -> None:
    """Refuses a batch that no attack can work on.

    Raises:
        RequestError: no images; pixels outside [0, 1] or not finite; or not one label
            and one generator per image.
    """
    if images.ndim != 4 or len(images) == 0:
        raise RequestError(
            f"Nothing to attack: images have shape {list(images.shape)}; "
            "expected [N, C, H, W] with N >= 1."
        )
    if labels.shape != images.shape[:1] or len(rngs) != len(images):
        raise RequestError(
            f"{len(images)} images need one label and one generator each; got labels "
            f"{list(labels.shape)} and {len(rngs)} generators."
        )
    if not bool(((images >= 0) & (images <= 1)).all()):
        low, high = images.amin().item(), images.amax().item()
        raise RequestError(
            f"Images must lie in [0, 1]; got {low:g} to {high:g}. "
            "Scale pixels before, and normalize inside the classifier."
        )


def check_labels(labels: Tensor, *, classes: int) -> None:
    """Refuses labels that are not class numbers.

    Raises:
        RequestError: a label outside 0 ... `classes` - 1.
    """
    wrong = (labels < 0) | (labels >= classes)
    if bool(wrong.any()):
        row = int(wrong.nonzero()[0, 0])
        raise RequestError(
            f"Label {int(labels[row])} of image {row} of the batch is not a class: the "
            f"classifier has {classes}, numbered 0 to {classes - 1}."
        )


def _checked_images(result: object, clean: Images, title: str) -> Images:
    """What an attack returned, detached, on the device and in the type of `clean`."""
    expected = f"expected images {list(clean.shape)} in [0, 1]"
    if not isinstance(result, Tensor):
        raise RequestError(f"{title} returned {type(result).__name__}; {expected}.")
    if result.shape != clean.shape:
        raise RequestError(f"{title} returned shape {list(result.shape)}; {expected}.")
    if not result.is_floating_point():
        raise RequestError(f"{title} returned {result.dtype} pixels; {expected}.")
    return result.detach().to(clean)


def _python_name(attack: Attack) -> str:
    return getattr(attack, "__name__", type(attack).__name__)
