"""Fast adaptive boundary attack: the nearest misclassified image.

A loop of our own, step for step that of `torchattacks.FAB` (a test holds the two
together), because that one casts images to float32, takes logits that are NaN for
a success, returns the clean image of what it did not break within `eps`, and does not
say which images of the batch its partial batches hold.
"""

from functools import partial
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from robustgen.attacks.attack import Attack, Rngs
from robustgen.attacks.best import (
    Best,
    Rows,
    gradient,
    look_at_clean,
    per_image,
    wrong_classes,
)
from robustgen.attacks.checks import require
from robustgen.attacks.passes import logits_of, misclassified
from robustgen.errors import RequestError
from robustgen.threat import Norm, Threat
from robustgen.types import Flags, Images, Labels, Logits, LogitsFn, PerSample

OVERSHOOT = 1.05
"""How far beyond the linearized boundary a step goes (eta of the paper)."""

BACKWARD = 0.9
"""Share of its distance that a broken iterate keeps, going back (beta)."""

BIAS = 0.1
"""Weight at most of the step from the clean image (alpha_max)."""

_TINY = 1e-12


def build_fab(*, steps: int, targets: int = 0) -> Attack:
    """FAB with fixed settings; see `fab`.

    Raises:
        RequestError: a setting is out of its range.
    """
    require("fab", "steps", steps, "1 or more", met=steps >= 1)
    require("fab", "targets", targets, "0 or more", met=targets >= 0)
    return partial(fab, steps=steps, targets=targets)


def fab(
    logits_fn: LogitsFn,
    images: Images,
    labels: Labels,
    threat: Threat,
    rngs: Rngs,
    *,
    steps: int,
    targets: int = 0,
) -> Images:
    """The nearest misclassified image (arXiv:1907.02044, algorithm 1).

    Each step projects the iterate and the clean image onto the nearest linearized
    boundary, within the box of pixels, and mixes the two; from a broken iterate it goes
    back towards the clean image. One start, the clean image, so it draws nothing. Costs
    per image one forward pass, for each search 2 x `steps` forward and `steps` backward
    passes for each class looked at, and one more forward pass if the nearest broken
    image is outside the threat.

    Args:
        logits_fn: The classifier under attack.
        images: Clean images.
        labels: True classes, to get away from.
        threat: An `linf` or `l2` ball. The search minimizes the distance in this norm,
            whatever `eps` is.
        rngs: Unused; the attack draws nothing.
        steps: Projections of a search.
        targets: 0 for one search in which each step looks at all classes. Else one
            search towards each of so many wrong classes, the most probable on the clean
            image first; at most all there are.

    Returns:
        Per image the nearest broken iterate if it is inside the threat. Else the
        strongest of the iterates inside and of the nearest broken one clipped, which is
        as a rule *not* broken. An image whose logits were never finite comes back as
        NaN, for the framework to count as a failure.

    Raises:
        RequestError: the threat has no norm.
    """
    del rngs
    if threat.norm == "none":
        raise RequestError(
            "Attack 'fab' searches a ball; the threat says `norm: none`. "
            "Set `norm: linf` or `norm: l2`."
        )
    best, logits = look_at_clean(logits_fn, images, labels)
    rows = best.left()
    nearest = _Nearest(images, threat)
    for rank in _ranks(logits, targets):
        aims = None if rank is None else wrong_classes(logits, labels)[rows, rank]
        _search(logits_fn, best, nearest, rows, threat, aims, steps=steps)
    _look_at_clipped(logits_fn, best, nearest, rows, threat)
    inside = (nearest.distance <= threat.eps) & (nearest.distance < torch.inf)
    return torch.where(per_image(inside), nearest.images, best.images)


def search_fab(
    logits_fn: LogitsFn,
    best: Best,
    clean_logits: Logits,
    threat: Threat,
    *,
    steps: int,
    targets: int = 0,
) -> None:
    """The searches of `fab`, each on the images that are not broken yet.

    Args:
        logits_fn: As in `fab`, like all arguments not named here.
        best: What is known of the batch; updated by looks inside the threat only.
        clean_logits: Logits of the clean images.
        threat: An `linf` or `l2` ball.
        steps: As in `fab`.
        targets: As in `fab`.
    """
    nearest = _Nearest(best.clean, threat)
    order = wrong_classes(clean_logits, best.labels)
    for rank in _ranks(clean_logits, targets):
        rows = best.left()
        if len(rows) == 0:
            return
        aims = None if rank is None else order[rows, rank]
        _search(logits_fn, best, nearest, rows, threat, aims, steps=steps)
    _look_at_clipped(logits_fn, best, nearest, best.left(), threat)


@final
class _Nearest:
    """The nearest broken image of each clean one.

    Attributes:
        images: NaN where there is none.
        distance: In the norm of the threat; infinity where there is none.
    """

    def __init__(self, clean: Images, threat: Threat) -> None:
        self._clean = clean
        self._threat = threat
        self.images = torch.full_like(clean, torch.nan)
        self.distance = clean.new_full((len(clean),), torch.inf)

    def look(self, rows: Rows, x: Images, wrong: Flags) -> None:
        """Remembers `x` where it is broken and nearer than all before."""
        away = self._threat.distance(x, self._clean[rows])
        nearer = wrong & (away < self.distance[rows])
        self.images[rows[nearer]] = x[nearer]
        self.distance[rows[nearer]] = away[nearer]


def _ranks(logits: Logits, targets: int) -> tuple[int | None, ...]:
    """Which wrong classes are aimed at, one after the other; None is all at once."""
    return tuple(range(min(targets, logits.shape[1] - 1))) if targets else (None,)


def _search(
    logits_fn: LogitsFn,
    best: Best,
    nearest: _Nearest,
    rows: Rows,
    threat: Threat,
    aims: Labels | None,
    *,
    steps: int,
) -> None:
    """One search from the clean images of `rows`, towards `aims` or any class."""
    if len(rows) == 0:
        return
    clean, labels = best.clean[rows], best.labels[rows]
    part = logits_of(logits_fn, rows)
    x = clean
    for _ in range(steps):
        lead, normal = _nearest_boundary(part, x, labels, aims, threat.norm)
        from_clean = -lead - (normal * (clean - x)).flatten(1).sum(dim=1)
        step = _to_boundary(x, normal, -lead, threat.norm)
        step_clean = _to_boundary(clean, normal, from_clean, threat.norm)
        here = threat.distance(step, torch.zeros_like(step)).clamp(min=1e-8)
        there = threat.distance(step_clean, torch.zeros_like(step)).clamp(min=1e-8)
        bias = per_image((here / (here + there)).clamp(max=BIAS))
        x = (1 - bias) * (x + OVERSHOOT * step)
        x = (x + bias * (clean + OVERSHOOT * step_clean)).clamp(0.0, 1.0)
        wrong = _look(part, best, rows, x, threat)
        nearest.look(rows, x, wrong)
        x = torch.where(per_image(wrong), clean + BACKWARD * (x - clean), x)


def _look(part: LogitsFn, best: Best, rows: Rows, x: Images, threat: Threat) -> Flags:
    """Which candidates are misclassified; `best` sees those inside the threat."""
    with torch.no_grad():
        logits = part(x)
    inside = threat.contains(x, best.clean[rows], atol=0.0)
    best.look(rows[inside], x[inside], logits[inside])
    return misclassified(logits, best.labels[rows])


def _look_at_clipped(
    logits_fn: LogitsFn, best: Best, nearest: _Nearest, rows: Rows, threat: Threat
) -> None:
    """Shows `best` the way to a boundary that is outside the threat, up to its edge."""
    away = nearest.distance[rows]
    rows = rows[(away > threat.eps) & (away < torch.inf)]
    if len(rows) == 0:
        return
    x = threat.clip(nearest.images[rows], best.clean[rows])
    with torch.no_grad():
        logits = logits_of(logits_fn, rows)(x)
    best.look(rows, x, logits)


def _nearest_boundary(
    part: LogitsFn, x: Images, labels: Labels, aims: Labels | None, norm: Norm
) -> tuple[PerSample, Images]:
    """Lead of a wrong class over the true one, and its gradient.

    The class is `aims`, or the one whose linearized boundary is the nearest. Where no
    gradient is finite, both are 0.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        logits = part(x)
        true = logits.gather(1, labels[:, None])
        columns = (
            wrong_classes(logits.detach(), labels) if aims is None else aims[:, None]
        )
        closest = torch.full_like(true[:, 0].detach(), torch.inf)
        lead, normal = torch.zeros_like(closest), torch.zeros_like(x.detach())
        for number, column in enumerate(columns.unbind(dim=1), start=1):
            ahead = (logits.gather(1, column[:, None]) - true)[:, 0]
            slope = gradient(ahead, x, keep=number < columns.shape[1])
            # The dual norm, since the boundary is |lead| / |slope|* away.
            steep = slope.flatten(1).norm(p=1 if norm == "linf" else 2, dim=1)
            away = ahead.detach().abs() / (steep + _TINY)
            closer = away < closest  # never for NaN
            closest = torch.where(closer, away, closest)
            lead = torch.where(closer, ahead.detach(), lead)
            normal = torch.where(per_image(closer), slope, normal)
    return lead, normal


def _to_boundary(x: Images, normal: Images, gap: PerSample, norm: Norm) -> Images:
    """The shortest step within the box that moves `<normal, x>` by `gap`."""
    flat = shortest_step(x.flatten(1), normal.flatten(1), gap, norm)
    return flat.view_as(x)


def shortest_step(
    points: Float[Tensor, "batch pixel"],
    normal: Float[Tensor, "batch pixel"],
    gap: PerSample,
    norm: Norm,
) -> Float[Tensor, "batch pixel"]:
    """The shortest `d` with `<normal, d> = gap` and `points + d` in [0, 1].

    Every pixel moves along `normal` (L2) or its sign (Linf) until it meets the box.
    The gain is then concave and piecewise linear in the length of the way; sorting the
    pixels by where they meet the box gives the length in closed form (section 3.1 of
    arXiv:1907.02044).

    Args:
        points: Pixels in [0, 1].
        normal: Normals of the hyperplanes; where it is 0, nothing moves.
        gap: How far, in units of `<normal, d>`.
        norm: `linf` or `l2`; which `d` is the shortest.

    Returns:
        The steps. Where the box ends before the hyperplane, the step to the corner that
        comes closest to it.
    """
    scale = normal.abs().amax(dim=1).clamp(min=1e-30)
    up = normal * (gap.sign() / scale)[:, None]
    need = gap.abs() / scale
    up = torch.where(up.abs() < 1e-8, 0.0, up)
    way = up.sign() if norm == "linf" else up
    room = torch.where(up > 0, 1 - points, points)
    until = torch.where(way == 0, 0.0, room / way.abs().clamp(min=1e-30))

    met, order = until.sort(dim=1)
    rate = (up * way).gather(1, order)
    moving = rate.flip(1).cumsum(dim=1).flip(1)  # rate of those not yet at the box
    arrived = (rate * met).cumsum(dim=1)  # gain of those that are
    gain = (arrived + met * (moving - rate)).cummax(dim=1).values
    last = torch.searchsorted(gain, need[:, None])
    reached = last[:, 0] < gain.shape[1]
    last = last.clamp(max=gain.shape[1] - 1)
    before = (arrived - rate * met).gather(1, last)[:, 0]
    speed = moving.gather(1, last)[:, 0].clamp(min=1e-30)
    length = torch.where(reached, (need - before) / speed, met[:, -1]).clamp(min=0)
    return way * torch.minimum(length[:, None], until)
