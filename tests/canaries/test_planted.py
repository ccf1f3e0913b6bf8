"""Planted defenses do what they say, and nothing else."""

import pytest
import torch

from robustgen.adaptive.whole import draws_randomly
from robustgen.canaries import planted
from robustgen.canaries.digits import correct_digits
from robustgen.canaries.suites import CONTROL, MODULE, PLANTED
from robustgen.classifiers.load import load_classifier


@pytest.mark.parametrize("name", [*PLANTED, CONTROL, "constant"])
def test_a_planted_defense_is_a_classifier_of_digits(name: str):
    module = getattr(planted, name)()
    sample = correct_digits(load_classifier("digits"), 10)
    with torch.no_grad():
        logits = module(sample.images)
    assert logits.shape == (10, 10)
    assert bool(torch.isfinite(logits).all())
    right = float((logits.argmax(dim=1) == sample.labels).double().mean())
    assert right <= 0.3 if name in ("blind", "constant") else right >= 0.9
    assert draws_randomly(module, sample.images) == (name == "resizing")
    assert planted.__name__ == MODULE


@pytest.mark.parametrize("name", ["jpeg", "rounding", "saturated", "detached"])
def test_the_gradient_of_a_masked_defense_is_zero_or_missing(name: str):
    module = getattr(planted, name)()
    sample = correct_digits(load_classifier("digits"), 4)
    x = sample.images.clone().requires_grad_()
    logits = module(x)
    if logits.requires_grad:
        loss = torch.nn.functional.cross_entropy(logits, sample.labels)
        (gradient,) = torch.autograd.grad(loss, x)
        assert float(gradient.abs().max()) == 0
