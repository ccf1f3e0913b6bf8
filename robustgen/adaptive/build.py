"""From a defense and the name of a path to the victim of a batch."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from robustgen.adaptive.paths import path_victims
from robustgen.adaptive.victim import Victim
from robustgen.adaptive.whole import whole_victim
from robustgen.budgets import Budget
from robustgen.defense import Defense, WholeDefense
from robustgen.names import DEFENSE
from robustgen.types import Masks


def build_victim(
    defense: Defense | WholeDefense,
    path: str,
    samples: Sequence[int],
    masks: Masks | None = None,
    *,
    alpha: Mapping[str, float],
    budget: Budget,
    classes: int,
) -> Victim:
    """One path of a defense, for one batch.

    Args:
        defense: What the path belongs to.
        path: Its name; `image` and `defense` for a whole defense.
        samples: Index of each image in its data set.
        masks: Pixels that the projection looks at; None for all.
        alpha: Weight of the views, by ensemble path.
        budget: Bounds the views that a gradient looks at.
        classes: Number of classes.

    Raises:
        RequestError: the defense has no such path, or an ensemble lacks its alpha.
    """
    if isinstance(defense, WholeDefense):
        whole = path == DEFENSE
        victim = whole_victim(
            defense.module if whole else defense.classifier,
            defense.classifier,
            samples,
            classes=classes,
            random=whole and defense.random,
            seed=defense.seed,
        )
        # Attacks that do not know a defense are all that the bare classifier needs.
        return victim if whole else replace(victim, path=path, surrogates={})
    return path_victims(
        defense,
        samples,
        masks,
        alpha=alpha,
        budget=budget,
        paths=(path,),
        classes=classes,
    )[path]
