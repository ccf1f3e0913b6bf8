"""Which profile runs, and what a person needs to run the other."""

from pathlib import Path

import pytest

from robustgen import sources
from robustgen.errors import RequestError
from robustgen.names import FULL
from robustgen.sources import (
    FULL_FILES,
    choose_profile,
    data_folder,
    full_files,
    missing_files,
    weights_folder,
)
from robustgen.suite import Pair, Profile, Profiles, Suite, load_suite


@pytest.fixture
def suite() -> Suite:
    return load_suite("celebahq_smiling")


@pytest.fixture(autouse=True)
def _empty_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ROBUSTGEN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ROBUSTGEN_WEIGHTS", str(tmp_path / "weights"))


def make_all_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "islice", lambda images, count: iter(range(count)))
    for file in FULL_FILES:
        if file.count:
            file.location.mkdir(parents=True)
        else:
            file.location.parent.mkdir(parents=True, exist_ok=True)
            file.location.touch()


def full_only(suite: Suite) -> Suite:
    return suite.model_copy(update={"profiles": Profiles(full=suite.profiles.full)})


def test_every_full_asset_has_files():
    assert {file.asset for file in FULL_FILES} == {n for s in FULL.values() for n in s}


def test_folders_follow_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert data_folder() == tmp_path / "data"
    assert weights_folder() == tmp_path / "weights"
    monkeypatch.setenv("ROBUSTGEN_DATA", "")
    assert data_folder().name == "data"
    assert data_folder().parent.name == "robustgen"


def test_files_of_a_profile(suite: Suite):
    assert full_files(suite.profile("full")) == FULL_FILES
    assert full_files(suite.profile("embedded")) == ()
    assert missing_files(suite.profile("full")) == list(FULL_FILES)


def test_auto_takes_embedded_and_says_what_is_missing(suite: Suite):
    choice = choose_profile(suite)
    assert choice.name == "embedded"
    assert choice.message.startswith(
        "Profile: embedded (stand-in assets that ship with robustgen; numbers are not "
        "those of the full profile). Missing for full: celebahq/images/images (about "
    )
    assert "\n" not in choice.message
    for file in FULL_FILES:
        assert file.path in choice.message


def test_full_names_each_missing_file_and_how_to_get_it(suite: Suite):
    with pytest.raises(RequestError) as caught:
        choose_profile(suite, "full")
    for file in FULL_FILES:
        for word in (str(file.location), file.size, file.origin, file.how):
            assert word in str(caught.value)
    assert caught.value.exit_code == 2


def test_one_present_file_is_not_listed(suite: Suite):
    weights = FULL_FILES[3]
    weights.location.parent.mkdir(parents=True)
    weights.location.touch()
    assert weights not in missing_files(suite.profile("full"))
    assert weights.path not in choose_profile(suite).message


def test_a_folder_needs_all_its_images():
    images = FULL_FILES[0]
    images.location.mkdir(parents=True)
    (images.location / "000004.png").touch()
    assert not images.present


def test_full_files_that_are_all_here_cannot_be_read_yet(
    suite: Suite, monkeypatch: pytest.MonkeyPatch
):
    make_all_files(monkeypatch)
    assert missing_files(suite.profile("full")) == []
    with pytest.raises(RequestError, match="cannot read them yet"):
        choose_profile(suite, "full")
    choice = choose_profile(suite, "auto")
    assert choice.name == "embedded"
    assert choice.message.endswith("cannot read them yet.")


def test_auto_without_an_embedded_profile_is_full(suite: Suite):
    with pytest.raises(RequestError, match="lacks these files"):
        choose_profile(full_only(suite), "auto")
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


def test_a_suite_without_full(suite: Suite):
    digits = load_suite("digits")
    assert choose_profile(digits).message.startswith("Profile: embedded (no download")
    with pytest.raises(RequestError, match="no profile 'full'"):
        choose_profile(digits, "full")


def test_an_unknown_request(suite: Suite):
    with pytest.raises(RequestError, match="Did you mean 'embedded'"):
        choose_profile(suite, "embeded")
