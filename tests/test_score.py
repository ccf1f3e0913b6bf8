import json
from pathlib import Path

import numpy as np
import pytest
from reference import reference_file

from robustgen.errors import RequestError
from robustgen.score import score_predictions

CASES = {"celebahq_Smiling": 31, "car_imageclassifier": 16}


@pytest.fixture
def released(tmp_path: Path) -> tuple[Path, Path]:
    """A binary validation and test file of the released layout, and their crops."""
    rng = np.random.default_rng(0)
    paths: list[Path] = []
    for split in ("val", "test"):
        folder = tmp_path / f"face_{split}"
        folder.mkdir()
        label = rng.integers(0, 2, (50, 1))
        arrays = {
            name: np.clip(label * 0.3 + 0.7 * rng.random((50, count)), 0, 1)
            for name, count in [
                ("original", 1),
                ("reconstructed", 1),
                ("stylemix_fine", 32),
                ("imcrop", 31),
            ]
        }
        path = folder / "gan_ensemble_stylemix_fine.npz"
        np.savez(
            path,
            original=arrays["original"],
            reconstructed=arrays["reconstructed"],
            stylemix_fine=arrays["stylemix_fine"],
            label=label,
            random_seed=np.array(2),
        )
        np.savez(
            folder / "image_ensemble_imcrop.npz",
            original=arrays["original"],
            imcrop=arrays["imcrop"],
            label=label,
        )
        paths.append(path)
    return paths[0], paths[1]


def _rewrite(path: Path, **changes: np.ndarray | None) -> None:
    with np.load(path) as data:
        arrays = {name: data[name] for name in data.files}
    arrays |= {name: new for name, new in changes.items() if new is not None}
    for name, new in changes.items():
        if new is None:
            del arrays[name]
    np.savez(path, allow_pickle=True, **arrays)


@pytest.mark.parametrize("name", CASES)
def test_curves_equal_the_reference_exactly(name: str):
    folder = reference_file("upstream_predictions")
    expected = json.loads((folder / f"{name}_expected.json").read_text())
    val, test = (
        folder / f"{name}_{split}" / "gan_ensemble_stylemix_fine.npz"
        for split in ("val", "test")
    )
    scores = score_predictions(
        val,
        test,
        ensemble_size=CASES[name],
        image_crops=expected["add_image_crops"],
    )
    for split, curves in (
        ("val", scores["val_curves"]),
        ("test", scores["test_curves"]),
    ):
        percent = [row[f"{split}_accuracy_percent"] for row in expected["resamples"]]
        # Counts of 400 images: anything but rounding would differ by 0.25.
        np.testing.assert_allclose(100 * curves, percent, rtol=0, atol=1e-9)

    grid = np.linspace(0, 1, 21)
    best = scores["val_curves"] == scores["val_curves"].max(axis=1, keepdims=True)
    largest = [grid[row].max() for row in best]
    assert scores["alphas"].tolist() == largest
    # The reference leaves the choice among tied alphas to an unstable sort.
    untied = best.sum(axis=1) == 1
    assert untied.sum() >= 5
    reference = np.array(expected["reference_alphas"])
    assert (scores["alphas"][untied] == reference[untied]).all()
    assert all(reference[i] in grid[row] for i, row in enumerate(best))


@pytest.mark.parametrize("name", CASES)
def test_reference_mean_and_stderr_follow_from_its_own_alphas(name: str):
    folder = reference_file("upstream_predictions")
    expected = json.loads((folder / f"{name}_expected.json").read_text())
    paths = [
        folder / f"{name}_{split}" / "gan_ensemble_stylemix_fine.npz"
        for split in ("val", "test")
    ]
    scores = score_predictions(
        paths[0],
        paths[1],
        ensemble_size=CASES[name],
        image_crops=expected["add_image_crops"],
    )
    positions = np.round(20 * np.array(expected["reference_alphas"])).astype(int)
    chosen = scores["test_curves"][np.arange(20), positions]
    assert 100 * chosen.mean() == pytest.approx(expected["reference_test_mean"])
    assert 100 * chosen.std() / np.sqrt(20) == pytest.approx(
        expected["reference_test_stderr"]
    )
    # Ties move the mean by less than the reference's own standard error times two.
    assert 100 * scores["mean"] == pytest.approx(
        expected["reference_test_mean"], abs=2 * expected["reference_test_stderr"]
    )


def test_mean_and_stderr_come_from_the_chosen_alphas(released: tuple[Path, Path]):
    scores = score_predictions(*released)
    assert scores["alphas"].shape == (20,)
    assert scores["val_curves"].shape == scores["test_curves"].shape == (20, 21)
    positions = np.round(20 * scores["alphas"]).astype(int)
    chosen = scores["test_curves"][np.arange(20), positions]
    assert scores["mean"] == chosen.mean()
    assert scores["stderr"] == pytest.approx(chosen.std() / np.sqrt(20))


def test_alpha_0_is_the_image_and_with_crops_it_is_not(released: tuple[Path, Path]):
    with np.load(released[1]) as data:
        image = ((data["original"] > 0.5) == data["label"]).mean()
    plain = score_predictions(*released)
    assert (plain["test_curves"][:, 0] == image).all()
    crops = score_predictions(*released, ensemble_size=16, image_crops=True)
    assert len(set(crops["test_curves"][:, 0])) > 1


def test_labels_without_a_second_axis_are_read_too(released: tuple[Path, Path]):
    before = score_predictions(*released)
    for path in released:
        with np.load(path) as data:
            label = data["label"][:, 0]
        _rewrite(path, label=label)
    assert score_predictions(*released)["mean"] == before["mean"]


def test_an_unknown_family_is_answered_with_the_nearest_key(
    released: tuple[Path, Path],
):
    with pytest.raises(RequestError) as raised:
        score_predictions(*released, family="stylemix_fin")
    message = str(raised.value)
    assert str(released[0]) in message
    assert "no array 'stylemix_fin'. Did you mean 'stylemix_fine'?" in message
    assert "random_seed" not in message


def test_a_missing_file_is_named(released: tuple[Path, Path]):
    missing = released[0].with_name("none.npz")
    with pytest.raises(RequestError, match=r"none\.npz: no such file"):
        score_predictions(missing, released[1])


def test_missing_crops_are_named(released: tuple[Path, Path]):
    crops = released[1].with_name("image_ensemble_imcrop.npz")
    crops.unlink()
    with pytest.raises(RequestError, match=f"{crops}: no such file"):
        score_predictions(*released, image_crops=True)


@pytest.mark.parametrize("kept", [0, 100, 3000])
def test_a_damaged_file_is_named(released: tuple[Path, Path], kept: int):
    released[1].write_bytes(released[1].read_bytes()[:kept])
    with pytest.raises(RequestError, match=f"{released[1]}: not a readable"):
        score_predictions(*released)


def test_pickled_arrays_are_refused(released: tuple[Path, Path]):
    _rewrite(released[0], label=np.array([[None]] * 50))
    with pytest.raises(RequestError, match="not a readable"):
        score_predictions(*released)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label": None}, "no array 'label'"),
        ({"label": np.full((50, 1), 2)}, "`label` runs from 2 to 2"),
        ({"label": np.full((50, 1), 0.5)}, "not whole numbers"),
        ({"label": np.zeros((50, 2))}, "`label` has shape"),
        ({"label": np.zeros((0, 1))}, "`label` has shape"),
        ({"original": np.zeros((49, 1))}, "`original` has shape"),
        ({"original": np.full((50, 1), np.nan)}, "`original` holds values"),
        ({"stylemix_fine": np.full((50, 32), 1.5)}, "`stylemix_fine` holds values"),
        ({"stylemix_fine": np.zeros((50, 32), int)}, "`stylemix_fine` holds values"),
    ],
)
def test_arrays_that_do_not_fit_are_named(
    released: tuple[Path, Path], changes: dict[str, np.ndarray | None], message: str
):
    _rewrite(released[0], **changes)
    with pytest.raises(RequestError, match=message) as raised:
        score_predictions(*released)
    assert str(released[0]) in str(raised.value)


def test_arrays_of_different_class_counts_are_refused(released: tuple[Path, Path]):
    _rewrite(released[0], reconstructed=np.full((50, 1, 3), 1 / 3))
    with pytest.raises(RequestError, match="classes"):
        score_predictions(*released)


def test_crops_of_other_images_are_refused(released: tuple[Path, Path]):
    crops = released[0].with_name("image_ensemble_imcrop.npz")
    with np.load(crops) as data:
        _rewrite(crops, label=1 - data["label"])
    with pytest.raises(RequestError, match="labels differ"):
        score_predictions(*released, image_crops=True)


def test_an_ensemble_of_nothing_is_refused(released: tuple[Path, Path]):
    with pytest.raises(RequestError, match="ensemble_size=0"):
        score_predictions(*released, ensemble_size=0)
