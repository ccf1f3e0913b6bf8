"""No attack: the control of every suite."""

from robustgen.attacks.attack import Attack, Rngs
from robustgen.threat import Threat
from robustgen.types import Images, Labels, LogitsFn


def build_clean() -> Attack:
    """The attack that returns the clean images; it costs no pass."""
    return clean


def clean(
    logits_fn: LogitsFn, images: Images, labels: Labels, threat: Threat, rngs: Rngs
) -> Images:
    """The images themselves; every other argument is ignored."""
    del logits_fn, labels, threat, rngs
    return images
