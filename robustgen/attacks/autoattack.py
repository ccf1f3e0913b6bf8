"""AutoAttack, with its official budget and parts that two classes do not break."""

from functools import partial

from robustgen.attacks.apgd import search_apgd
from robustgen.attacks.attack import Attack, Rngs
from robustgen.attacks.best import look_at_clean, require_ball
from robustgen.attacks.checks import require
from robustgen.attacks.fab import search_fab
from robustgen.attacks.square import search_square
from robustgen.threat import Threat
from robustgen.types import Images, Labels, LogitsFn


def build_autoattack(
    *, steps: int = 100, queries: int = 5000, targets: int = 9
) -> Attack:
    """AutoAttack with fixed settings; see `autoattack`.

    Raises:
        RequestError: a setting is out of its range.
    """
    require("autoattack", "steps", steps, "1 or more", met=steps >= 1)
    require("autoattack", "queries", queries, "1 or more", met=queries >= 1)
    require("autoattack", "targets", targets, "1 or more", met=targets >= 1)
    return partial(autoattack, steps=steps, queries=queries, targets=targets)


def autoattack(
    logits_fn: LogitsFn,
    images: Images,
    labels: Labels,
    threat: Threat,
    rngs: Rngs,
    *,
    steps: int = 100,
    queries: int = 5000,
    targets: int = 9,
) -> Images:
    """Four attacks one after the other (arXiv:2003.01690, section 6).

    With 4 classes or more the official `standard` composition: APGD on the
    cross-entropy, targeted APGD on the DLR loss, targeted FAB, Square. With 2 or
    3 classes, where the targeted DLR is not defined: APGD on the cross-entropy, APGD on
    the margin, FAB, Square. One run of each. An attack works on the images that the
    ones before did not break; a broken image keeps the strongest look of the attack
    that broke it first. What none breaks comes back as the strongest near miss of all.

    The rule is sound for a deterministic classifier only. One look that is
    misclassified ends the search on an image, so that on a random classifier luck
    counts as a break: every look is another chance, and the image that comes back need
    not be broken at all. Score a random classifier on fresh draws, never by this rule.

    Args:
        logits_fn: The classifier under attack; deterministic.
        images: Clean images.
        labels: True classes, to get away from.
        threat: An `linf` or `l2` ball.
        rngs: Sources of the random starts and squares. Consumed.
        steps: Of APGD and of FAB. The official number is 100; 10, as
            `torchattacks.AutoAttack` takes, is another, weaker attack.
        queries: Forward passes of Square at most.
        targets: Wrong classes that the targeted attacks aim at; at most all there are.

    Returns:
        Attacked images. An image whose logits were never finite comes back as NaN, for
        the framework to count as a failure.

    Raises:
        RequestError: the threat is no ball of finite radius.
    """
    require_ball("autoattack", threat)
    best, logits = look_at_clean(logits_fn, images, labels)
    apgd = partial(search_apgd, logits_fn, best, logits, threat, rngs, steps=steps)
    fab = partial(search_fab, logits_fn, best, logits, threat, steps=steps)
    apgd(loss="ce")
    if logits.shape[1] >= 4:
        apgd(targets=targets)
        fab(targets=targets)
    else:
        apgd(loss="margin")
        fab()
    search_square(logits_fn, best, threat, rngs, queries=queries)
    return best.images
