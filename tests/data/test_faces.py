"""The renderer: deterministic, labeled exactly, stable whatever the batch."""

import numpy as np
import pytest

from robustgen.data.faces import (
    ATTRIBUTES,
    SMILE_MARGIN,
    draw_faces,
    load_faces,
    render_faces,
)
from robustgen.errors import RequestError


def test_a_face_belongs_to_seed_stream_and_index():
    both = render_faces(draw_faces(0, "val", [3, 70]))
    assert np.array_equal(both[1:], render_faces(draw_faces(0, "val", [70])))
    assert not np.array_equal(both[:1], render_faces(draw_faces(0, "test", [3])))
    assert not np.array_equal(both[:1], render_faces(draw_faces(1, "val", [3])))


def test_the_population_does_not_change():
    """A change of the renderer would make every published number another one's."""
    faces = draw_faces(0, "val", range(8))
    assert faces.attributes[:, 0].tolist() == POPULATION
    pixels = np.round(render_faces(faces) * 255).astype(np.uint8)
    assert pixels.shape == (8, 3, 32, 32)
    mean = pixels.mean(axis=(1, 2, 3))
    np.testing.assert_allclose(mean, MEANS, atol=0.05)


POPULATION = [1, 1, 1, 0, 1, 1, 0, 1]
MEANS = [65.79, 114.75, 106.74, 85.97, 145.72, 155.3, 150.49, 98.41]


def test_labels_are_the_sign_of_the_curvature_beyond_the_margin():
    faces = draw_faces(0, "val", range(400))
    curvature = faces.curvature
    assert np.abs(curvature).min() >= SMILE_MARGIN
    assert np.abs(curvature).max() <= 1
    assert np.array_equal(faces.attributes[:, 0], (curvature > 0).astype(int))
    assert faces.attributes.shape == (400, len(ATTRIBUTES))
    shares = faces.attributes.mean(axis=0)
    # Designed shares: 1/2, 0.4, 1/2, 1/2, 0.4; four standard errors at n = 400.
    np.testing.assert_allclose(shares, [0.5, 0.4, 0.5, 0.5, 0.4], atol=0.1)


def test_pixels_are_smooth_and_in_range():
    images = render_faces(draw_faces(0, "val", range(32)))
    assert images.dtype == np.float32
    assert images.min() >= 0
    assert images.max() <= 1
    # Twice the resolution, averaged, is nearly the same picture.
    large = render_faces(draw_faces(0, "val", range(32)), 64)
    small = large.reshape(32, 3, 32, 2, 32, 2).mean(axis=(3, 5))
    assert np.abs(small - images).mean() < 0.01


def test_only_the_mouth_region_tells_a_smile():
    faces = draw_faces(0, "val", range(16))
    flipped = type(faces)(**{**vars(faces), "curvature": -faces.curvature})
    change = np.abs(render_faces(faces) - render_faces(flipped)).max(axis=(0, 1))
    assert change[18:].max() > 0.3
    assert change[:4].max() == 0


def test_splits_have_their_own_indices():
    faces = load_faces(val=3, test=5)
    assert faces.split.tolist() == ["val"] * 3 + ["test"] * 5
    assert len(set(faces.index.tolist())) == 8
    assert np.array_equal(load_faces(test=2).images, faces.images[3:5])
    assert np.array_equal(load_faces(test=2).index, faces.index[3:5])
    with pytest.raises(RequestError, match="no images"):
        load_faces()
