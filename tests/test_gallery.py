import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pages import entry, write_pictures
from synthetic import make_run

from robustgen.ensembling import EnsembleRule
from robustgen.errors import RequestError
from robustgen.gallery import Gallery, Picture, Strip, build_gallery, read_strips
from robustgen.metrics import predictions_frame
from robustgen.outcomes import read_outcomes
from robustgen.table import PredictionTable

TESTS = [table for table in make_run() if table.key.split == "test"]
CLEAN, PGD = TESTS


@pytest.fixture(scope="module")
def predictions() -> pd.DataFrame:
    return predictions_frame(read_outcomes(make_run(), EnsembleRule(resamples=2)))


def strips(*tables: PredictionTable, size: int = 10) -> list[Strip]:
    """Strips of so many bytes for every row of some tables."""
    return [
        Strip(Picture.model_validate(entry(table, row, f"{row}.png")), b"x" * size)
        for table in tables
        for row in range(len(table.sample))
    ]


def gallery_of(pictures: list[Strip], predictions: pd.DataFrame) -> Gallery:
    """The gallery of a page that has room for everything."""
    return build_gallery(pictures, predictions, limit=10**9)


def found(gallery: Gallery, path: str, outcome: str) -> list[int]:
    """Samples attacked by PGD where a path has an outcome."""
    return [
        card["sample"]
        for card in gallery.cards
        if gallery.cases[card["case"]]["id"] == "pgd"
        for line in card["said"]
        if line["path"] == path and outcome in line["is"]
    ]


def test_outcomes_are_those_of_the_tables(predictions: pd.DataFrame):
    gallery = gallery_of(strips(*TESTS), predictions)
    # Clean: image 10 right, reconstruction the first 9. PGD: the first 1 and 7.
    assert found(gallery, "image", "right") == [100]
    assert found(gallery, "image", "turned") == list(range(101, 110))
    assert found(gallery, "reconstruction", "wrong") == [107, 108, 109]
    assert found(gallery, "reconstruction", "turned") == [107, 108]
    assert found(gallery, "reconstruction", "regained") == list(range(101, 107))
    assert found(gallery, "image", "regained") == []


def test_clean_images_are_never_turned(predictions: pd.DataFrame):
    gallery = gallery_of(strips(CLEAN), predictions)
    said = Counter(
        outcome
        for card in gallery.cards
        for line in card["said"]
        for outcome in line["is"]
    )
    # The reconstruction of the tenth image is wrong; ensembles follow the image.
    assert said == {"right": 49, "wrong": 1}


def test_a_line_says_class_and_probability(predictions: pd.DataFrame):
    card = gallery_of(strips(PGD), predictions).cards[1]
    said = {line["path"]: line for line in card["said"]}
    assert card["label"] == "class1"
    assert said["image"] == {
        "path": "image",
        "says": "class0",
        "p": 0.2,
        "is": ["wrong", "turned"],
    }
    assert said["reconstruction"]["says"] == "class1"
    assert said["reconstruction"]["p"] == 0.7
    assert card["panels"][0] == ["image"]
    assert card["panels"][-1] == ["view 2", 0.25]


def test_a_share_of_resamples_is_told(predictions: pd.DataFrame):
    ensemble = predictions["path"] == "stylemix_ensemble"
    mixed = predictions.assign(correct=predictions["correct"].where(~ensemble, 0.85))
    card = gallery_of(strips(PGD), mixed).cards[0]
    shares = {line["path"]: line.get("share") for line in card["said"]}
    assert shares["stylemix_ensemble"] == 0.85
    assert shares["reconstruction"] is None


def test_cards_go_sample_by_sample(predictions: pd.DataFrame):
    gallery = gallery_of(strips(*TESTS), predictions)
    order = [(card["sample"], card["case"]) for card in gallery.cards]
    assert order[:4] == [(100, 0), (100, 1), (101, 0), (101, 1)]
    assert gallery.samples == tuple(range(100, 110))
    assert gallery.paths[:2] == ("image", "reconstruction")


def test_an_aimed_attack_shows_its_path_alone(predictions: pd.DataFrame):
    key = dataclasses.replace(PGD.key, target="reconstruction")
    aimed = dataclasses.replace(PGD, key=key)
    gallery = gallery_of(strips(PGD, aimed), predictions)
    assert [case["id"] for case in gallery.cases] == ["pgd", "pgd on reconstruction"]
    assert {case["attack"] for case in gallery.cases} == {"pgd"}
    assert gallery.cases[1]["label"] == "pgd (oblivious) on reconstruction, linf 8/255"
    paths = [line["path"] for line in gallery.cards[1]["said"]]
    assert paths == ["reconstruction"]


def test_two_radii_of_one_attack_have_names_of_their_own(predictions: pd.DataFrame):
    key = dataclasses.replace(PGD.key, eps=float("inf"), norm="l2")
    far = dataclasses.replace(PGD, key=key)
    gallery = gallery_of(strips(PGD, far), predictions)
    assert [case["id"] for case in gallery.cases] == [
        "pgd",
        "pgd oblivious l2 any distance",
    ]
    # Nothing is known of the second: it was not in the run.
    assert gallery.cards[1]["said"] == []


def test_a_page_has_room_for_the_first_samples_of_every_case(
    predictions: pd.DataFrame,
):
    gallery = build_gallery(strips(*TESTS, size=100), predictions, limit=650)
    shown = [(card["sample"], bool(card["png"])) for card in gallery.cards]
    assert [sample for sample, has in shown if has] == [100, 100, 101, 101, 102, 102]
    assert gallery.left_out == 14
    assert len(gallery.cards) == 20
    assert gallery.cards[-1]["said"]


def test_a_class_without_a_name_has_its_number(predictions: pd.DataFrame):
    nameless = [
        Strip(strip.picture.model_copy(update={"classes": ("class0",)}), b"")
        for strip in strips(PGD)
    ]
    card = gallery_of(nameless, predictions).cards[3]
    assert {line["says"] for line in card["said"]} <= {"class0", "class 1"}


def test_pictures_are_read_as_they_were_written(tmp_path: Path):
    write_pictures(tmp_path / "pictures", TESTS, shown=3)
    read = read_strips(tmp_path / "pictures")
    assert len(read) == 6
    assert read[5].picture.eps == 8 / 255
    assert read[5].content == (tmp_path / "pictures" / "5.png").read_bytes()
    assert read_strips(tmp_path / "nothing") == ()


def test_a_radius_may_be_without_bound(tmp_path: Path):
    said = {**entry(PGD, 0, "0.png"), "eps": "inf"}
    write_pictures(tmp_path / "pictures", [PGD], shown=1)
    (tmp_path / "pictures" / "pictures.json").write_text(json.dumps([said]))
    assert read_strips(tmp_path / "pictures")[0].picture.eps == float("inf")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file": "../0.png"}, r"names '\.\./0\.png', which is not here"),
        ({"file": "9.png"}, r"names '9\.png', which is not here"),
        ({"sample": "many"}, r"0\.sample: .*\. Run the suite again"),
        ({"mood": "good"}, r"0\.mood: Extra inputs"),
    ],
)
def test_damaged_listings_are_refused(
    tmp_path: Path, change: dict[str, Any], message: str
):
    write_pictures(tmp_path / "pictures", [PGD], shown=1)
    (tmp_path / "0.png").write_bytes(b"")
    said = {**entry(PGD, 0, "0.png"), **change}
    (tmp_path / "pictures" / "pictures.json").write_text(json.dumps([said]))
    with pytest.raises(RequestError, match=message):
        read_strips(tmp_path / "pictures")
