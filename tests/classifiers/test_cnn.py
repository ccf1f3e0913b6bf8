import pytest
import torch

from robustgen.classifiers.cnn import SmallCNN
from robustgen.errors import RequestError


def test_the_default_is_a_small_network():
    parameters = sum(p.numel() for p in SmallCNN(3, 2).parameters())
    assert 100_000 < parameters < 300_000


@pytest.mark.parametrize(("channels", "classes"), [(1, 10), (3, 2)])
def test_images_of_32_pixels_give_one_logit_per_class(channels: int, classes: int):
    model = SmallCNN(channels, classes).eval()
    assert model(torch.rand(2, channels, 32, 32, generator=_rng())).shape == (
        2,
        classes,
    )


def test_normalization_happens_inside():
    images = torch.rand(4, 3, 8, 8, generator=_rng())
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    plain = SmallCNN(3, 2, (4,), mean=(0.0,), std=(1.0,)).eval()
    inside = SmallCNN(3, 2, (4,), mean=mean, std=std).eval()
    shift, scale = (torch.tensor(v).view(1, 3, 1, 1) for v in (mean, std))
    torch.testing.assert_close(inside(images), plain((images - shift) / scale))


def test_batch_size_changes_no_class():
    images = torch.rand(5, 3, 16, 16, generator=_rng())
    model = SmallCNN(3, 2, (4, 8)).eval()
    alone = torch.cat([model(image[None]) for image in images])
    torch.testing.assert_close(model(images), alone, rtol=1e-5, atol=1e-6)


def test_initial_weights_belong_to_the_seed_alone():
    before = torch.get_rng_state()
    first, again, other = (SmallCNN(3, 2, (4,), seed=seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first.head.weight, again.head.weight)
    assert not torch.equal(first.head.weight, other.head.weight)
    wide = SmallCNN(3, 2, (64,)).state_dict()["trunk.3.weight"]
    # Variance 2 / fan-in of 576, to 3 standard errors of a variance of 36,864 normals.
    assert wide.var().item() * 288 == pytest.approx(1, abs=3 * (2 / 36_864) ** 0.5)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"num_classes": 1}, "one logit for each of 2"),
        ({"widths": ()}, "has no layers"),
        ({"in_channels": 0}, "has no layers"),
        ({"mean": (0.5, 0.5)}, "need one number"),
        ({"std": (0.0,)}, "above 0"),
    ],
)
def test_a_network_that_cannot_work_is_refused(config, message: str):
    with pytest.raises(RequestError, match=message):
        SmallCNN(**({"in_channels": 3, "num_classes": 2} | config))


def test_grey_images_are_not_read_as_color():
    with pytest.raises(RequestError, match="Images of 1 channels"):
        SmallCNN(3, 2, (4,))(torch.zeros(1, 1, 8, 8))


def _rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)
