"""Transfer: images made against networks that stand in for the path.

The undefended classifier is one; a substitute that was trained to give the answers of
the path is another (Papernot et al. 2017, arXiv:1602.02697).
"""

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from robustgen.adaptive.scoring import score_draws
from robustgen.adaptive.search import Measure, ascend, loss_measure, step_shares
from robustgen.adaptive.selection import Candidate, Problem, attacked, bare
from robustgen.adaptive.victim import Rows, Victim
from robustgen.attacks.attack import AttackOutcome, Rngs
from robustgen.errors import RequestError
from robustgen.rngs import rng_for
from robustgen.threat import Threat
from robustgen.types import Images, Labels, LogitsFn, PerSample

STEPS = 40
"""Gradient steps on a stand-in: cheap, whatever the path costs."""

DECAY = 1.0
"""Weight of earlier gradients of MI-FGSM, the paper's."""

NOISE = (0.0, 0.03, 0.1)
"""Largest change of a pixel in the copies that the path is asked about: the images
themselves, about 8/255 and more, since the ball is not known when asking."""

SIDE = 64
"""Pixels on a side that a substitute looks at, at most."""

_RATE = 2e-3
_BATCH = 32


def transfer_candidates(
    problem: Problem, surrogates: Sequence[nn.Module]
) -> list[Candidate]:
    """Two searches on every stand-in.

    MI-FGSM (arXiv:1710.06081) on the cross-entropy, and PGD on the margin; both from
    the clean image, with steps that shrink, keeping the iterate that the stand-in gets
    most wrong. None stops once the stand-in is wrong: what leads by more transfers
    better.

    Args:
        problem: What to break.
        surrogates: Stand-ins beside the classifier.
    """
    classifier = problem.victim.classifier
    stand_ins = [("classifier", classifier)]
    stand_ins += [(f"substitute {i}", net) for i, net in enumerate(surrogates, start=1)]
    found: list[Candidate] = []
    for name, network in stand_ins:
        for kind in ("momentum", "pgd"):
            title = f"{kind} on {name}"
            search = partial(_search, name=title, network=network, kind=kind)
            found.append(Candidate(title, search))
    return found


def _search(
    problem: Problem, *, name: str, network: nn.Module, kind: str
) -> AttackOutcome:
    threat, share = problem.threat, problem.budget.step_share

    def attack(
        logits_fn: LogitsFn, images: Images, labels: Labels, _: Threat, rngs: Rngs
    ) -> Images:
        del rngs
        with_momentum = kind == "momentum"
        measure = loss_measure(logits_fn, labels, "ce" if with_momentum else "margin")
        return ascend(
            _normalized(measure) if with_momentum else measure,
            images,
            threat,
            images,
            shares=step_shares(STEPS, share),
            momentum=DECAY if with_momentum else 0.0,
        )

    return attacked(problem, name, attack, bare(network), networks=network)


def _normalized(measure: Measure) -> Measure:
    """The same, with gradients of mean absolute value 1, or 0."""

    def normalized(images: Images, rows: Rows, last: bool) -> tuple[PerSample, Images]:
        reached, gradient = measure(images, rows, last)
        size = gradient.abs().mean(dim=(1, 2, 3), keepdim=True)
        return reached, gradient / size.clamp(min=1e-30)

    return normalized


def train_substitute(
    victim: Victim, images: Images, *, epochs: int, seed: int
) -> nn.Module:
    """A small network trained to give the answers of a path.

    The path is asked once about each image and its noisy copies, `NOISE`; the network
    fits the probabilities it gave. Train it once, on images that are not attacked: then
    no attacked image hangs on others of its batch. No label is looked at.

    Args:
        victim: The path, of these images.
        images: What to ask about; copies double and triple the questions.
        epochs: Passes over the questions.
        seed: Seed of the suite.

    Returns:
        Images in [0, 1] to logits, in eval mode, frozen, on the device of `images`.

    Raises:
        RequestError: `epochs` is below 1; see also `score_draws`.
    """
    if epochs < 1:
        raise RequestError(f"{epochs} epochs for a substitute: expected 1 or more.")
    images = images.detach()
    asked = [_noisy(victim, images, level, seed) for level in NOISE]
    answers = [
        score_draws(victim, copy, 1, stream="attack", start=number)[:, 0]
        for number, copy in enumerate(asked)
    ]
    x, y = torch.cat(asked), torch.cat(answers)
    rng = rng_for(seed, "substitute", victim.path)
    with torch.inference_mode(mode=False), torch.enable_grad():
        network = _network(images.shape[1], victim.classes, rng).to(images.device)
        optimizer = torch.optim.Adam(network.parameters(), lr=_RATE)
        for _ in range(epochs):
            order = torch.randperm(len(x), generator=rng).to(x.device)
            for some in order.split(_BATCH):
                optimizer.zero_grad()
                loss = F.cross_entropy(network(x[some]), y[some])
                loss.backward()
                optimizer.step()
    return network.eval().requires_grad_(False)


def _noisy(victim: Victim, images: Images, level: float, seed: int) -> Images:
    """Copies with even noise of each image's own generator."""
    shape = images.shape[1:]
    noise = [
        torch.rand(shape, generator=rng_for(seed, "substitute noise", f"{level}", i))
        for i in victim.samples
    ]
    return (images + level * (2 * torch.stack(noise).to(images) - 1)).clamp(0, 1)


class _Shrunk(nn.Module):
    """Images of at most `SIDE` pixels on a side, around zero."""

    def forward(self, images: Images) -> Tensor:
        height, width = images.shape[2:]
        largest = max(height, width)
        if largest > SIDE:
            size = (max(1, height * SIDE // largest), max(1, width * SIDE // largest))
            images = F.interpolate(images, size=size, mode="area")
        return 2 * images - 1


def _network(channels: int, classes: int, rng: torch.Generator) -> nn.Sequential:
    """Three convolutions and a linear layer, He-initialized from `rng`."""
    with torch.device("meta"):  # weights drawn by layers would come from a global RNG
        network = nn.Sequential(
            _Shrunk(),
            nn.Conv2d(channels, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(64 * 16, classes),
        )
    network = network.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.zero_()
                continue
            scale = (2 / parameter[0].numel()) ** 0.5
            parameter.copy_(torch.randn(parameter.shape, generator=rng) * scale)
    return network
