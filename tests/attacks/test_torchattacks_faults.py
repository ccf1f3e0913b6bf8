"""Faults of torchattacks 3.5.1 for which robustgen has attacks of its own.

Those of CW stand in test_cw, those of APGD, FAB, Square and AutoAttack with them.
"""

import torch
import torchattacks
from attack_models import Mapped, convnet, pictures, predictions
from torch import Tensor


def flat_once(z: Tensor) -> Tensor:
    """Logits without any gradient."""
    return z.detach() + 0 * z


def test_mifgsm_never_moves_again_after_one_gradient_of_zero():
    model, images = convnet().eval(), pictures(3)
    labels = predictions(model, images)
    calls = 0

    def change(z: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return flat_once(z) if calls == 1 else z

    attack = torchattacks.MIFGSM(Mapped(model, change), eps=0.1, alpha=0.02, steps=10)
    found = attack(images, labels)
    assert calls == 10
    assert found.isnan().all() or torch.equal(found, images)


def test_deepfool_returns_nan_where_the_gradient_is_zero():
    model, images = convnet().eval(), pictures(2)
    labels = predictions(model, images)
    found = torchattacks.DeepFool(Mapped(model, flat_once).eval(), steps=5)(
        images, labels
    )
    assert found.isnan().any()


def test_pgd_and_eotpgd_start_where_the_global_generator_says():
    model, images = convnet().eval(), pictures(4)
    labels = predictions(model, images)
    for attack in (
        torchattacks.PGD(model, eps=0.1, alpha=0.01, steps=1),
        torchattacks.PGDL2(model, eps=1.0, alpha=0.01, steps=1),
        torchattacks.EOTPGD(model, eps=0.1, alpha=0.01, steps=1),
    ):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            whole = attack(images, labels)
            torch.default_generator.manual_seed(0)
            last = attack(images[3:], labels[3:])
        assert float((whole[3:] - last).abs().max()) > 0.01


def test_steps_that_cannot_cross_the_ball_are_taken_without_a_word():
    # 10 steps of 2/255, the defaults, reach a quarter of the ball of 0.3.
    model, images = convnet().eval(), pictures(2, low=0.4, high=0.6)
    labels = predictions(model, images)
    attack = torchattacks.PGD(model, eps=0.3, random_start=False)
    assert float((attack(images, labels) - images).abs().max()) < 0.08
