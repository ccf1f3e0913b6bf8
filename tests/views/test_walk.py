import pytest
import torch
from generators import LinearGan, brightness_gan

from robustgen.errors import RequestError
from robustgen.gan.layers import LayerRange
from robustgen.view_settings import EDITS as NAMED
from robustgen.views.edits import (
    EDITS,
    LARGEST_BRIGHTNESS,
    brightness,
    rotate,
    shift_x,
    shift_y,
    zoom,
)
from robustgen.views.walk import fit_walks

PICTURE = torch.arange(64.0).view(1, 1, 8, 8) / 64


def _edited(edit, strength: float) -> tuple[torch.Tensor, torch.Tensor]:
    images, mask = edit(PICTURE, torch.tensor([strength]))
    return images[0, 0], mask[0, 0]


def test_a_suite_names_the_edits_that_there_are():
    assert tuple(NAMED) == tuple(EDITS)


def test_a_shift_of_1_is_an_eighth_of_the_side():
    images, mask = _edited(shift_x, 1.0)
    torch.testing.assert_close(images[:, 1:], PICTURE[0, 0, :, :-1])
    assert mask[:, 0].sum() == 0
    assert mask[:, 1:].min() == 1
    images, mask = _edited(shift_y, -1.0)
    torch.testing.assert_close(images[:-1], PICTURE[0, 0, 1:])
    assert mask[-1].sum() == 0
    assert mask[:-1].min() == 1


def test_half_a_pixel_is_interpolated_and_needs_both_sources():
    images, mask = _edited(shift_x, 0.5)
    middle = (PICTURE[0, 0, :, 1:] + PICTURE[0, 0, :, :-1]) / 2
    torch.testing.assert_close(images[:, 1:], middle)
    assert mask[:, 0].sum() == 0


def test_no_strength_changes_nothing():
    for edit in EDITS.values():
        images, mask = edit(PICTURE, torch.zeros(1))
        torch.testing.assert_close(images, PICTURE)
        assert mask.min() == 1


def test_zoom_and_rotation_keep_the_center_and_mask_what_they_lack():
    # A picture that is linear in x and y is resampled exactly.
    x = torch.linspace(-0.875, 0.875, 8)
    plane = (2 * x[None, :] + 3 * x[:, None])[None, None]
    larger, mask = zoom(plane, torch.ones(1))
    torch.testing.assert_close(larger, plane / 1.25)
    assert mask.min() == 1
    smaller, mask = zoom(plane, -torch.ones(1))
    assert mask[0, 0, 0].sum() == 0
    torch.testing.assert_close(smaller[0, 0, 2:6, 2:6], 1.25 * plane[0, 0, 2:6, 2:6])
    turned, mask = rotate(plane, torch.ones(1))
    assert mask[0, 0, 0, 0] == 0
    # Clockwise: the source of a point right of the center lies above it.
    right_of_center = turned[0, 0, 3:5, 6].mean()
    assert right_of_center.item() < plane[0, 0, 3:5, 6].mean().item()
    back, _ = rotate(turned, -torch.ones(1))
    inner = slice(3, 5)
    torch.testing.assert_close(
        back[0, 0, inner, inner], plane[0, 0, inner, inner], atol=1e-5, rtol=0
    )


def test_brightness_is_added_everywhere():
    images, mask = _edited(brightness, -0.5)
    torch.testing.assert_close(images, PICTURE[0, 0] - LARGEST_BRIGHTNESS / 2)
    assert mask.min() == 1


def test_a_known_brightness_direction_is_learned():
    # Style channel 0 adds 0.1 per unit to all pixels; the picture shows the mean of two
    # layers, of which one may move: 0.25 brighter is 5 units along it.
    made = fit_walks(
        brightness_gan(), layers=LayerRange(1, 2), edits=("brightness",), seed=0
    )
    expected = torch.tensor([[[5.0, 0.0, 0.0, 0.0]]])
    torch.testing.assert_close(made.vectors, expected, atol=0.05, rtol=0)
    assert made.scale.tolist() == [1.0]
    assert made.names == ("brightness",)
    assert made.layers == LayerRange(1, 2)
    assert made.evidence["left"].item() < 1e-3


def test_two_layers_share_the_step():
    made = fit_walks(
        brightness_gan(), layers=LayerRange(0, 2), edits=("brightness",), seed=0
    )
    expected = torch.tensor([[[2.5, 0, 0, 0], [2.5, 0, 0, 0]]])
    torch.testing.assert_close(made.vectors, expected, atol=0.05, rtol=0)


def test_an_edit_that_the_generator_lacks_is_left_over():
    layers = LayerRange(0, 2)
    made = fit_walks(brightness_gan(), layers=layers, edits=("shift_x",), seed=0)
    # Stripes average to zero: no one step shifts the stripes of every picture.
    assert made.evidence["left"].item() == pytest.approx(1, abs=0.1)
    # A flat picture, shifted, is the same where it has a source.
    flat = LinearGan(0.1 * torch.ones(16, 1), torch.ones(1), side=4)
    made = fit_walks(flat, layers=layers, edits=("shift_x",), seed=0, steps=2)
    assert made.vectors.abs().max().item() < 1e-3
    assert made.evidence["left"].isnan().item()


def test_a_walk_hangs_on_its_seed_and_its_edit_alone():
    gan = brightness_gan()
    layers = LayerRange(0, 2)
    both = fit_walks(gan, layers=layers, edits=("zoom", "brightness"), seed=0, steps=9)
    alone = fit_walks(gan, layers=layers, edits=("brightness",), seed=0, steps=9)
    other = fit_walks(gan, layers=layers, edits=("brightness",), seed=1, steps=9)
    assert torch.equal(both.vectors[1], alone.vectors[0])
    assert not torch.equal(other.vectors, alone.vectors)


@pytest.mark.parametrize(
    ("edits", "layers", "message"),
    [
        (
            ("shiftx",),
            LayerRange(0, 2),
            "Unknown edit 'shiftx'. Did you mean 'shift_x'",
        ),
        ((), LayerRange(0, 2), "one edit or more"),
        (("zoom",), LayerRange(0, 3), "it has 2"),
    ],
)
def test_a_wrong_request_is_refused(edits, layers: LayerRange, message: str):
    with pytest.raises(RequestError, match=message):
        fit_walks(brightness_gan(), layers=layers, edits=edits, seed=0)
