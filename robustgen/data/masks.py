"""Which pixels of an image count."""

import numpy as np
from jaxtyping import Float32


def near_gray_mask(
    image: Float32[np.ndarray, "c h w"], threshold: float
) -> Float32[np.ndarray, "1 h w"]:
    """0 where the first channel is near mid-gray, else 1.

    Aligned cats are padded with mid-gray, which is 0 on the scale [-1, 1], and the
    released code finds the padding by it (`optimize_cat.py` of chail/gan-ensembling).
    It means to sum the magnitudes of the channels, but sums over the batch axis of one
    image and keeps the first channel. So a reddish pixel whose red is near mid-gray is
    masked too. Kept as it is, because the released codes were found with it.

    Args:
        image: Pixels in [0, 1].
        threshold: Smallest magnitude that counts, on the scale [-1, 1]. The released
            0.02 masks the 8-bit values 125 to 130.
    """
    first = image[:1] * np.float32(2) - np.float32(1)
    return (np.abs(first) >= np.float32(threshold)).astype(np.float32)
