"""The coin: scored on fresh draws it keeps its accuracy, by AutoAttack's rule not."""

import torch

from robustgen.canaries.coin import Coin, autoattack_rule, coin_canary


def test_a_coin_keeps_its_accuracy_on_fresh_draws():
    found = coin_canary(Coin(), count=30, draws=10)
    assert found.passed, found.text


def test_a_worse_coin_is_seen():
    found = coin_canary(Coin(0.8), count=30, draws=10)
    assert not found.passed


def test_the_rule_of_autoattack_counts_luck_as_breaks():
    images, labels = torch.rand(1000, 1, 4, 4), torch.zeros(1000, dtype=torch.int64)
    # Three looks, the clean image and two parts: 0.9^3 = 0.73, four standard errors.
    assert abs(autoattack_rule(Coin(), images, labels) - 0.729) < 0.057
    assert autoattack_rule(Coin(1.0), images, labels) == 1.0
    assert abs(autoattack_rule(Coin(), images, labels, []) - 0.9) < 0.04
