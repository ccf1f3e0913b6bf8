"""The gallery of a report: pictures of single samples, and what each path said.

Pictures come from `pictures/`, what the paths said from the predictions of the report.
Both are joined here into plain data that a page can filter without a model.
"""

import base64
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pandas as pd
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from robustgen.errors import RequestError
from robustgen.grids import Record, attack_name, eps_text, records
from robustgen.outcomes import CLEAN

PICTURE_BYTES = 7_500_000
"""PNG bytes that a page holds at most: 10 MB of text, so that it stays under 15 MB."""

OUTCOMES = ("right", "wrong", "turned", "regained")
"""What a path did with a sample. `turned`: right on the clean image, wrong now.
`regained`: right where the image alone is wrong."""

_SAID = ("path", "sample", "label", "predicted", "correct", "probability")
_CASE = ("dataset", "classifier", "attack", "tier", "norm", "eps")

_UNATTACKED = ("none", "none", 0.0)
"""Tier, norm and eps of clean images."""

_Key: TypeAlias = tuple[Any, ...]

_Said: TypeAlias = dict[_Key, list[Record]]
"""Rows of predictions by case and sample."""


class Panel(BaseModel):
    """One square of a strip."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    """`image`, `attacked`, `difference x10`, `reconstruction`, `view 1`, ..."""
    probability: float | None = None
    """Of the true class; on views only."""


class Picture(BaseModel):
    """One entry of pictures.json: a strip of panels about a case and a sample."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    """Name of a PNG file beside pictures.json: its panels side by side."""
    dataset: str
    classifier: str
    attack: str
    tier: str
    norm: str
    eps: float
    """Radius in pixel units of [0, 1]; in JSON `inf` for none."""
    target: str
    """Path that the attack was aimed at, or empty."""
    sample: int
    """Index of the sample in its data set."""
    label: str
    """Name of the true class."""
    classes: tuple[str, ...]
    """Names of all classes."""
    panels: tuple[Panel, ...]
    """What the parts of the picture show, from left to right."""


class Strip(NamedTuple):
    """A picture and the bytes of its file."""

    picture: Picture
    content: bytes


@dataclass(frozen=True)
class Gallery:
    """What a page needs to show and filter the samples of one pair.

    Args:
        cards: As JSON, one for each case and sample, sample by sample.
        cases: As JSON: `id`, `attack` and `label` of each case, in order.
        paths: Paths that said something, in the order of the report.
        left_out: How many cards have no picture, because the page would be too large.
    """

    cards: tuple[dict[str, Any], ...]
    cases: tuple[dict[str, str], ...]
    paths: tuple[str, ...]
    left_out: int

    @property
    def samples(self) -> tuple[int, ...]:
        """The samples shown, in order."""
        return tuple(dict.fromkeys(card["sample"] for card in self.cards))

    def to_json(self) -> dict[str, Any]:
        """What the page's script reads."""
        return {"cases": self.cases, "paths": self.paths, "cards": self.cards}


def read_strips(folder: Path) -> tuple[Strip, ...]:
    """Every picture of a run.

    Args:
        folder: Folder of pictures.json and its PNG files; may be absent.

    Raises:
        RequestError: pictures.json is damaged or names a file that is missing.
    """
    listing = folder / "pictures.json"
    if not listing.is_file():
        return ()
    try:
        entries = TypeAdapter(tuple[Picture, ...]).validate_json(listing.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise RequestError(
            f"{listing}: {place}: {first['msg']}. Run the suite again."
        ) from error
    found: list[Strip] = []
    for entry in entries:
        path = folder / entry.file
        if Path(entry.file).name != entry.file or not path.is_file():
            raise RequestError(f"{listing}: names '{entry.file}', which is not here.")
        found.append(Strip(entry, path.read_bytes()))
    return tuple(found)


def build_gallery(
    strips: Sequence[Strip],
    predictions: pd.DataFrame,
    *,
    limit: int,
) -> Gallery:
    """Joins the pictures of one pair with what its paths said.

    Args:
        strips: Pictures of one data set and classifier, by case.
        predictions: Rows of the predictions frame about the same pair.
        limit: Bytes of pictures that are kept: those of the first samples, under
            every attack.
    """
    named = _named_cases(strip.picture for strip in strips)
    places = {case: place for place, case in enumerate(named)}
    samples = [strip.picture.sample for strip in strips]
    said = _by_case(predictions, samples)
    ordered = sorted(strips, key=lambda strip: strip.picture.sample)
    cards: list[dict[str, Any]] = []
    spent = left_out = 0
    for strip in ordered:
        picture = strip.picture
        spent += len(strip.content)
        # What is spent only grows: once one is left out all later ones are.
        is_shown = spent <= limit
        left_out += not is_shown
        cards.append(
            {
                "case": places[_case_of(picture)],
                "sample": picture.sample,
                "label": picture.label,
                "file": picture.file,
                "png": base64.b64encode(strip.content).decode() if is_shown else "",
                "panels": [_panel(panel) for panel in picture.panels],
                "said": _what_paths_said(picture, said),
            }
        )
    paths = dict.fromkeys(str(path) for path in predictions["path"])
    heard = {line["path"] for card in cards for line in card["said"]}
    return Gallery(
        cards=tuple(cards),
        cases=tuple(named.values()),
        paths=tuple(path for path in paths if path in heard),
        left_out=left_out,
    )


def _panel(panel: Panel) -> list[Any]:
    if panel.probability is None:
        return [panel.name]
    return [panel.name, round(panel.probability, 4)]


def _case_of(picture: Picture) -> _Key:
    return (*(getattr(picture, name) for name in _CASE), picture.target)


def _named_cases(
    pictures: Iterable[Picture],
) -> dict[_Key, dict[str, str]]:
    """A short name for each case that no other has, and one to read."""
    cases = {_case_of(picture): picture for picture in pictures}
    count = Counter(picture.attack for picture in cases.values())
    named: dict[_Key, dict[str, str]] = {}
    taken: set[str] = set()
    for case, picture in cases.items():
        radius = "" if picture.norm == "none" else f"{picture.norm} {_radius(picture)}"
        aim = f"on {picture.target}" if picture.target else ""
        name = picture.attack
        if count[name] > 1:
            name = " ".join(filter(None, (name, aim)))
        if name in taken:
            name = f"{name} {picture.tier} {radius}"
        taken.add(name)
        read = attack_name({"attack": picture.attack, "tier": picture.tier})
        label = " ".join(filter(None, (read, aim)))
        named[case] = {
            "id": name,
            "attack": picture.attack,
            "label": ", ".join(filter(None, (label, radius))),
        }
    return named


def _radius(picture: Picture) -> str:
    return "any distance" if math.isinf(picture.eps) else eps_text(picture.eps)


def _by_case(predictions: pd.DataFrame, samples: Sequence[int]) -> _Said:
    chosen = predictions.loc[
        (predictions["split"] == "test") & predictions["sample"].isin(samples)
    ]
    found: _Said = {}
    for row in records(chosen[[*_CASE, *_SAID]]):
        key = (*(row[name] for name in _CASE), row["sample"])
        found.setdefault(key, []).append(row)
    return found


def _what_paths_said(picture: Picture, said: _Said) -> list[dict[str, Any]]:
    """One line for each path: class, probability of the true one, outcomes."""
    case = tuple(getattr(picture, name) for name in _CASE)
    rows = [
        row
        for row in said.get((*case, picture.sample), ())
        if picture.target in ("", row["path"])
    ]
    before = {
        row["path"]: row["predicted"] == row["label"]
        for row in said.get(_clean_case(picture), ())
    }
    right = {row["path"]: row["predicted"] == row["label"] for row in rows}
    lines: list[dict[str, Any]] = []
    for row in rows:
        path, is_right = row["path"], right[row["path"]]
        outcomes = ["right" if is_right else "wrong"]
        if picture.attack != CLEAN and not is_right and before.get(path, False):
            outcomes.append("turned")
        if is_right and path != "image" and not right.get("image", True):
            outcomes.append("regained")
        line: dict[str, Any] = {
            "path": path,
            "says": _class_name(picture, int(row["predicted"])),
            "p": round(float(row["probability"]), 4),
            "is": outcomes,
        }
        if 0 < row["correct"] < 1:
            line["share"] = round(float(row["correct"]), 4)
        lines.append(line)
    return lines


def _clean_case(picture: Picture) -> _Key:
    pair = (picture.dataset, picture.classifier)
    return (*pair, CLEAN, *_UNATTACKED, picture.sample)


def _class_name(picture: Picture, number: int) -> str:
    known = number < len(picture.classes)
    return picture.classes[number] if known else f"class {number}"
