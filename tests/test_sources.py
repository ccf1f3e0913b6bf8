"""Which profile runs, and what a person needs to run the other."""

from pathlib import Path
from typing import Any

import pytest

from robustgen import sources
from robustgen.errors import RequestError
from robustgen.full_assets import all_assets
from robustgen.sources import (
    SourceFile,
    archive_files,
    asset_files,
    choose_profile,
    companion,
    data_folder,
    full_files,
    missing_files,
    weights_folder,
    weights_path,
)
from robustgen.suite import Pair, Profile, Profiles, Suite, load_suite
from robustgen.view_settings import PcaViews

SMILING = (
    "celebahq/images/images",
    "celebahq/list_attr_celeba.txt",
    "celebahq/list_eval_partition.txt",
    "pretrained_classifiers/celebahq/Smiling/net_best.pth",
    "sgans_stylegan2-ffhq-config-f.pt",
    "sgan_encoders_ffhq_RGBM_model_initial.pth.tar",
    "alexnet-owt-7be5be79.pth",
)


@pytest.fixture
def suite() -> Suite:
    return load_suite("celebahq_smiling")


@pytest.fixture(autouse=True)
def _empty_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ROBUSTGEN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ROBUSTGEN_WEIGHTS", str(tmp_path / "weights"))


def make_all_files(
    files: tuple[SourceFile, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "islice", lambda images, count: iter(range(count)))
    for file in files:
        if file.count:
            file.location.mkdir(parents=True)
        else:
            file.location.parent.mkdir(parents=True, exist_ok=True)
            file.location.touch()


def full_only(suite: Suite) -> Suite:
    return suite.model_copy(update={"profiles": Profiles(full=suite.profiles.full)})


def changed_pair(suite: Suite, **change: Any) -> Profile:
    """The full profile with one pair, of which some parts are others."""
    full = suite.profile("full")
    pair = full.pairs[0].model_copy(update=change)
    return full.model_copy(update={"pairs": (pair,)})


def paths(files: tuple[SourceFile, ...] | list[SourceFile]) -> tuple[str, ...]:
    return tuple(file.path for file in files)


def test_folders_follow_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert data_folder() == tmp_path / "data"
    assert weights_folder() == tmp_path / "weights"
    monkeypatch.setenv("ROBUSTGEN_DATA", "")
    assert data_folder().name == "data"
    assert data_folder().parent.name == "robustgen"


def test_files_of_an_asset(tmp_path: Path):
    (file,) = asset_files("stylegan2_ffhq")
    assert file.location == tmp_path / "weights" / "sgans_stylegan2-ffhq-config-f.pt"
    assert (file.asset, file.root, file.automatic) == (
        *("stylegan2_ffhq", "weights", True),
    )
    assert file.license.startswith("NVIDIA")
    (lpips,) = asset_files("lpips_alex")
    assert (lpips.bytes, (lpips.sha256 or "")[:8]) == (244_408_911, "7be5be79")
    (smiling,) = asset_files("celebahq_smiling")
    assert smiling.archive is not None
    assert smiling.archive.url.endswith("/pretrained_classifiers_subset.zip")
    assert smiling.member == smiling.path == SMILING[3]
    with pytest.raises(RequestError, match="Did you mean 'stylegan2_ffhq'"):
        asset_files("stylegan2_ffqh")


def test_a_name_may_stand_for_two_kinds():
    data = asset_files("cifar10", "dataset")
    weights = asset_files("cifar10", "classifier")
    assert [file.root for file in data] == ["data"] * 6
    assert [file.root for file in weights] == ["weights"]
    assert asset_files("cifar10") == (*data, *weights)
    assert data[0].member == "cifar-10-batches-bin/data_batch_1.bin"


def test_weights_paths(tmp_path: Path):
    weights = tmp_path / "weights"
    assert weights_path("celebahq_young") == weights / SMILING[3].replace(
        "Smiling", "Young"
    )
    assert weights_path("cifar10") == (
        weights / "pretrained_classifiers/cifar10/imageclassifier/ckpt.pth"
    )
    assert weights_path("cifar10_wmean") == weights / "stylegan2_cifar10c_wmean.npz"
    with pytest.raises(RequestError) as caught:
        weights_path("celebahq")
    assert str(caught.value) == "'celebahq' is a data set; it has no weights."


def test_companions():
    assert companion("stylegan2_car", "pca") == "stylegan2_car_stats"
    assert companion("stylegan2_cifar10", "pca") is None
    assert companion("stylegan2_cifar10", "class_means") == "cifar10_wmean"
    assert companion("faces", "pca") is None


def test_files_of_an_archive():
    assert paths(archive_files("network_stats")) == (
        *("stylegan2_car_stats.npz", "stylegan2_cat_stats.npz"),
        *("stylegan2_ffhq_stats.npz", "stylegan2_cifar10c_wmean.npz"),
    )
    assert len(archive_files("all_classifiers")) == 41
    assert archive_files("x") == ()


def test_files_of_a_profile(suite: Suite):
    assert paths(full_files(suite.profile("full"))) == SMILING
    assert full_files(suite.profile("embedded")) == ()
    assert missing_files(suite.profile("full")) == list(
        full_files(suite.profile("full"))
    )


def test_parts_that_need_no_file_count_as_there(suite: Suite):
    bare = changed_pair(suite, encoder="none", perceptual="none")
    assert paths(full_files(bare)) == SMILING[:5]
    mixed = changed_pair(suite, classifier="/somewhere/net.pth", perceptual="faces")
    assert paths(full_files(mixed)) == (*SMILING[:3], *SMILING[4:6])


def test_class_means_stand_where_an_encoder_does(suite: Suite):
    profile = changed_pair(
        suite,
        dataset="cifar10",
        classifier="cifar10",
        generator="stylegan2_cifar10",
        encoder="cifar10_wmean",
        perceptual="none",
    )
    found = paths(full_files(profile))
    assert found[-2:] == ("cifar10.pkl", "stylegan2_cifar10c_wmean.npz")
    assert len(found) == 9


def test_pca_views_need_the_statistics_of_the_generator(suite: Suite):
    full = suite.profile("full")
    views = {"views": PcaViews(family="pca")}
    needed = paths(full_files(full.model_copy(update=views)))
    assert set(needed) == {*SMILING, "stylegan2_ffhq_stats.npz"}


def test_files_that_pairs_share_are_listed_once(suite: Suite):
    full = suite.profile("full")
    young = full.pairs[0].model_copy(update={"classifier": "celebahq_young"})
    twice = full.model_copy(update={"pairs": (full.pairs[0], young)})
    assert len(full_files(twice)) == len(SMILING) + 1


def test_auto_takes_embedded_and_says_what_is_missing(suite: Suite):
    choice = choose_profile(suite)
    assert choice.name == "embedded"
    assert choice.message.startswith(
        "Profile: embedded (stand-in assets that ship with robustgen; numbers are not "
        "those of the full profile). Missing for full: celebahq/images/images (about "
    )
    assert "\n" not in choice.message
    for path in SMILING:
        assert path in choice.message


def test_full_names_each_missing_file_and_how_to_get_it(suite: Suite, tmp_path: Path):
    for file in full_files(suite.profile("full"))[:5]:
        file.location.parent.mkdir(parents=True, exist_ok=True)
        if not file.count:
            file.location.touch()
    with pytest.raises(RequestError) as caught:
        choose_profile(suite, "full")
    assert caught.value.exit_code == 2
    assert str(caught.value) == (
        "Suite 'celebahq_smiling': profile full lacks these files (3):\n"
        f"  {tmp_path}/data/celebahq/images/images\n"
        "      for celebahq, about 40 GB, from "
        "https://github.com/tkarras/progressive_growing_of_gans\n"
        "      make CelebA-HQ with the instructions there: 30,000 PNG files of 1024 x "
        "1024 pixels, named by their CelebA number (000004.png)\n"
        f"  {tmp_path}/weights/sgan_encoders_ffhq_RGBM_model_initial.pth.tar\n"
        "      for ffhq_rgbm, 105 MB or more, from "
        "https://github.com/chail/latent-composition\n"
        "      the encoder that chail/gan-ensembling loads for ffhq, not the final "
        "one\n"
        "      or: robustgen fetch ffhq_rgbm\n"
        f"  {tmp_path}/weights/alexnet-owt-7be5be79.pth\n"
        "      for lpips_alex, 244 MB, from "
        "https://docs.pytorch.org/vision/stable/models/alexnet.html\n"
        "      download https://download.pytorch.org/models/alexnet-owt-7be5be79.pth\n"
        "      or: robustgen fetch lpips_alex\n"
        "Or use --profile embedded, which needs no download."
    )


def test_one_present_file_is_not_listed(suite: Suite):
    weights = full_files(suite.profile("full"))[4]
    weights.location.parent.mkdir(parents=True)
    weights.location.touch()
    assert weights not in missing_files(suite.profile("full"))
    assert weights.path not in choose_profile(suite).message


@pytest.mark.parametrize(
    ("asset", "name"), [("celebahq", "000004.png"), ("cars", "00001.jpg")]
)
def test_a_folder_needs_all_its_images(asset: str, name: str):
    images = next(file for file in asset_files(asset) if file.count)
    images.location.mkdir(parents=True)
    (images.location / name).touch()
    assert not images.present


def test_only_files_of_the_right_kind_count():
    (cats,) = asset_files("cats")
    cats.location.mkdir(parents=True)
    for number in range(12):
        (cats.location / f"Bengal_{number}.txt").touch()
    assert not cats.present
    for number in range(12):
        (cats.location / f"Bengal_{number}.png").touch()
    assert cats.present


def test_full_runs_when_all_its_files_are_here(
    suite: Suite, monkeypatch: pytest.MonkeyPatch
):
    make_all_files(full_files(suite.profile("full")), monkeypatch)
    assert missing_files(suite.profile("full")) == []
    for requested in ("auto", "full"):
        choice = choose_profile(suite, requested)
        assert choice == ("full", "Profile: full (every file it needs is on disk).")
    choice = choose_profile(suite, "embedded")
    assert choice.name == "embedded"
    assert choice.message.endswith("Every file of the full profile is on disk.")


def test_auto_without_an_embedded_profile_is_full(suite: Suite):
    with pytest.raises(RequestError, match="lacks these files") as caught:
        choose_profile(full_only(suite), "auto")
    assert str(caught.value).endswith(
        "This suite has no profile that needs no download."
    )
    with pytest.raises(RequestError, match="no profile 'embedded'"):
        choose_profile(full_only(suite), "embedded")


def test_a_full_profile_of_ones_own_needs_no_files(suite: Suite):
    pair = Pair.model_validate(
        {
            "dataset": {"factory": "mine:images"},
            "classifier": {"factory": "mine:net"},
            "generator": "faces",
            "encoder": "faces",
            "perceptual": "faces",
        }
    )
    own = Profile(pairs=(pair,), attacks=suite.profile("full").attacks)
    mine = suite.model_copy(update={"profiles": Profiles(full=own)})
    assert choose_profile(mine, "auto").name == "full"
    assert choose_profile(mine, "full").message == "Profile: full."


@pytest.mark.parametrize(
    ("name", "file", "size", "line"),
    [
        (
            "smiles",
            "smiles/smiles64.npz",
            "43 MB, from https://github.com/hromi/SMILEsmileD",
            "made of the photographs of that repository by:",
        ),
        (
            "mnist",
            "mnist/mnist8k.npz",
            "1 MB, from https://storage.googleapis.com/cvdf-datasets/mnist/",
            "made of the first 8,000 test images there by:",
        ),
    ],
)
def test_a_data_set_to_fetch_beside_networks_that_ship(
    suite: Suite, tmp_path: Path, name: str, file: str, size: str, line: str
):
    networks = dict.fromkeys(("classifier", "generator", "encoder"), "digits")
    profile = changed_pair(suite, dataset=name, perceptual="digits", **networks)
    mine = suite.model_copy(update={"profiles": Profiles(full=profile)})
    with pytest.raises(RequestError) as caught:
        choose_profile(mine)
    assert caught.value.exit_code == 2
    assert str(caught.value) == (
        "Suite 'celebahq_smiling': profile full lacks these files (1):\n"
        f"  {tmp_path}/data/{file}\n"
        f"      for {name}, {size}\n"
        f"      {line}\n"
        f"      robustgen fetch {name}\n"
        "This suite has no profile that needs no download."
    )
    (needed,) = full_files(profile)
    needed.location.parent.mkdir(parents=True)
    needed.location.touch()
    assert choose_profile(mine) == (
        *("full", "Profile: full (every file it needs is on disk)."),
    )


def test_a_suite_without_full(suite: Suite):
    digits = load_suite("digits")
    assert choose_profile(digits).message.startswith("Profile: embedded (no download")
    with pytest.raises(RequestError, match="no profile 'full'"):
        choose_profile(digits, "full")


def test_an_unknown_request(suite: Suite):
    with pytest.raises(RequestError, match="Did you mean 'embedded'"):
        choose_profile(suite, "embeded")


def test_every_file_says_where_it_comes_from_and_how():
    for name in {asset.name for asset in all_assets()}:
        for file in asset_files(name):
            assert file.how
            assert file.origin.startswith("https://")
            assert file.size
            assert file.license


def test_a_folder_may_lie_where_its_archive_puts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ROBUSTGEN_DATA", str(tmp_path))
    images = next(file for file in asset_files("cars", "dataset") if file.count)
    assert images.location == tmp_path / "cars" / "images" / "images"
    assert not images.usable
    folder = tmp_path / "cars" / "cars_train"
    folder.mkdir(parents=True)
    (folder / "00001.jpg").touch()
    assert images.location == folder
    assert (images.found, images.count) == (1, 8144)
    assert images.usable
    assert not images.present
