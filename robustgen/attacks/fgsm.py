"""Fast gradient sign method, through torchattacks."""

import torchattacks

from robustgen.attacks.attack import Attack, Rngs
from robustgen.attacks.checks import require_norm
from robustgen.attacks.logits import LogitsModule
from robustgen.threat import Threat
from robustgen.types import Images, Labels, LogitsFn


def build_fgsm() -> Attack:
    """FGSM has no setting but the threat's `eps`."""
    return fgsm


def fgsm(
    logits_fn: LogitsFn, images: Images, labels: Labels, threat: Threat, rngs: Rngs
) -> Images:
    """One step of length `eps` along the sign of the gradient (arXiv:1412.6572).

    The loss is the cross-entropy. One forward and one backward pass per image. Where
    the gradient of a pixel is exactly 0 its sign is 0: the pixel stays as it is, and
    so does an image whose whole gradient vanishes. torchattacks averages the loss over
    the batch; the sign does not see that.

    Args:
        logits_fn: The classifier under attack.
        images: Clean images.
        labels: True classes, to get away from.
        threat: An `linf` ball.
        rngs: Unused; the attack draws nothing.

    Raises:
        RequestError: the threat is not `linf`.
    """
    del rngs
    require_norm("fgsm", threat, "linf")
    attack = torchattacks.FGSM(LogitsModule(logits_fn, images.device), eps=threat.eps)
    return attack(images, labels)
