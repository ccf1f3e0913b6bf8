"""Canaries around the classifier of digits pass, and fail when broken on purpose."""

import pytest
import torch
from torch import nn

from robustgen.attacks import build_clean
from robustgen.canaries import planted
from robustgen.canaries.digits import (
    IdentityProjector,
    Lowered,
    Sample,
    constant_canary,
    correct_digits,
    cw_canary,
    identity_canary,
    masked_canary,
)
from robustgen.catalog import build_attack
from robustgen.classifiers.load import load_classifier
from robustgen.gan.load import load_gan
from robustgen.library import load_attack


@pytest.fixture(scope="module")
def classifier() -> nn.Module:
    return load_classifier("digits")


@pytest.fixture(scope="module")
def sample(classifier: nn.Module) -> Sample:
    return correct_digits(classifier, 12)


def test_the_sample_is_classified_correctly(classifier: nn.Module, sample: Sample):
    assert sample.images.shape == (12, 1, 32, 32)
    assert torch.equal(classifier(sample.images).argmax(dim=1), sample.labels)
    lowered = Lowered(classifier)(sample.images)
    assert float(lowered.max()) < 0
    assert torch.equal(lowered.argmax(dim=1), sample.labels)


def test_cw_breaks_the_undefended_classifier(classifier: nn.Module, sample: Sample):
    attack, _ = build_attack(load_attack("cw"), ())
    found = cw_canary(classifier, attack, sample)
    assert found.passed, found.text


def test_an_attack_in_cw_s_place_that_does_nothing_is_seen(
    classifier: nn.Module, sample: Sample
):
    assert not cw_canary(classifier, build_clean(), sample).passed


def test_the_identity_s_gradient_breaks_what_has_none(
    classifier: nn.Module, sample: Sample
):
    found = masked_canary(planted.rounding(8), classifier, sample)
    assert found.passed, found.text
    assert "zero gradients 1.00" in found.text


def test_a_subject_with_gradients_or_with_robustness_is_no_masked_one(
    classifier: nn.Module, sample: Sample
):
    assert not masked_canary(classifier, classifier, sample).passed
    honest = planted.Rounded(load_classifier("digits_robust"), 8)
    assert not masked_canary(honest, classifier, sample).passed


def test_a_constant_has_the_share_of_its_class(classifier: nn.Module, sample: Sample):
    label = int(sample.labels[0])
    found = constant_canary(planted.constant(label), classifier, sample)
    assert found.passed, found.text
    assert not constant_canary(classifier, classifier, sample).passed


def test_an_identity_projection_leaves_what_the_classifier_leaves(
    classifier: nn.Module, sample: Sample
):
    few = Sample(sample.images[:6], sample.labels[:6])
    gan = load_gan("digits")
    tiers = ("bpda_identity", "square")
    found = identity_canary(IdentityProjector(gan), classifier, few, tiers)
    assert found.passed, found.text
    darker = IdentityProjector(gan, change=lambda images: images * 0.3)
    assert not identity_canary(darker, classifier, few, tiers).passed
