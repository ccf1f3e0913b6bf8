"""The mask of aligned cats: which 8-bit values the released rule takes for padding."""

import numpy as np
import pytest

from robustgen.data.masks import near_gray_mask


def test_the_released_threshold_masks_six_values():
    values = np.arange(256, dtype=np.float32).reshape(1, 16, 16) / 255
    mask = near_gray_mask(values, 0.02)
    assert mask.shape == (1, 16, 16)
    assert np.flatnonzero(mask == 0).tolist() == [125, 126, 127, 128, 129, 130]
    assert set(mask.ravel().tolist()) == {0, 1}


@pytest.mark.parametrize(("threshold", "masked"), [(0, 0), (0.005, 2), (0.0119, 4)])
def test_the_threshold_is_a_magnitude_on_the_scale_of_two(
    threshold: float, masked: int
):
    # |2 v / 255 - 1| is 1/255 for 127 and 128, 3/255 for 126 and 129.
    values = np.arange(256, dtype=np.float32).reshape(1, 16, 16) / 255
    assert int((near_gray_mask(values, threshold) == 0).sum()) == masked


def test_only_the_first_channel_decides():
    reddish = np.array([0.5, 0.9, 0.1], np.float32).reshape(3, 1, 1)
    assert near_gray_mask(reddish, 0.02).tolist() == [[[0]]]
    assert near_gray_mask(reddish[::-1], 0.02).tolist() == [[[1]]]
