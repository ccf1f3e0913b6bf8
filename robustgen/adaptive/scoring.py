"""Asks a path for its answer: on numbered draws, with nothing of the user's changed."""

import torch
from jaxtyping import Float
from torch import Tensor

from robustgen.adaptive.victim import Draw, Stream, Victim
from robustgen.attacks.isolation import isolated
from robustgen.attacks.logits import margin
from robustgen.attacks.passes import checked_logits
from robustgen.errors import RequestError
from robustgen.rngs import rng_for
from robustgen.types import Images, Labels, Logits, PerSample

MARGIN_LIMIT = 100.0
"""Largest lead that one draw may show, in nats: exp(-100) is beyond float32, and an
infinite lead in one draw must not decide a mean over many."""


def score_draws(
    victim: Victim,
    images: Images,
    count: int,
    *,
    stream: Stream = "score",
    start: int = 0,
) -> Float[Tensor, "n r k"]:
    """Probabilities of independent draws of the full path.

    Args:
        victim: The path.
        images: The whole batch of the victim, attacked or not.
        count: Draws; of a path that draws nothing, one is made, so `r` is 1.
        stream: Where the draws come from.
        start: Number of the first.

    Raises:
        RequestError: there are not as many images as the victim has samples, no draw
            is asked for, or the path returns no log-probabilities [N, K].
    """
    return _log_probabilities(victim, images, count, stream, start).exp()


def mean_margin(
    victim: Victim, images: Images, labels: Labels, count: int, *, stream: Stream
) -> PerSample:
    """Mean lead of the best wrong class on the full path, in nats of log-probability.

    Two calls with equal arguments look at the same draws. Above 0, the image counts as
    broken. A draw counts for at most `MARGIN_LIMIT`; one whose answer is NaN counts as
    a failure to attack, the lowest there is.

    Args:
        victim: The path.
        images: The whole batch of the victim, attacked or not.
        labels: True classes.
        count: Draws to average; one is made of a path that draws nothing.
        stream: Where they come from.

    Raises:
        RequestError: see `score_draws`.
    """
    return margins(victim, images, labels, count, stream=stream).mean(dim=1)


def margins(
    victim: Victim, images: Images, labels: Labels, count: int, *, stream: Stream
) -> Float[Tensor, "n r"]:
    """The leads that `mean_margin` averages, one for each draw; arguments as there."""
    found = _log_probabilities(victim, images, count, stream, 0)
    leads = [bounded_margin(logits, labels) for logits in found.unbind(dim=1)]
    return torch.stack(leads, dim=1)


def bounded_margin(logits: Logits, labels: Labels) -> PerSample:
    """The margin in [-`MARGIN_LIMIT`, `MARGIN_LIMIT`]; the lowest for a NaN.

    >>> bounded_margin(torch.tensor([[0.0, -torch.inf]]), torch.tensor([0]))
    tensor([-100.])
    """
    lead = margin(logits, labels).nan_to_num(nan=-torch.inf)
    return lead.clamp(-MARGIN_LIMIT, MARGIN_LIMIT)


def _log_probabilities(
    victim: Victim, images: Images, count: int, stream: Stream, start: int
) -> Float[Tensor, "n r k"]:
    if len(images) != len(victim.samples):
        raise RequestError(
            f"{len(images)} images for path '{victim.path}' of {len(victim.samples)} "
            "samples: expected one image for each."
        )
    if count < 1:
        raise RequestError(
            f"{count} draws of path '{victim.path}': expected 1 or more."
        )
    rows = torch.arange(len(images), device=images.device)
    found: list[Tensor] = []
    for number in range(start, start + (count if victim.random else 1)):
        rng = rng_for(0, "score_draws", stream, number)
        with isolated(victim.networks, images.device, [rng]):
            answer = victim.predict(images.detach(), rows, Draw(stream, number))
        found.append(checked_logits(answer, len(images)).detach())
    return torch.stack(found, dim=1)
