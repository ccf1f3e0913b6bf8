"""What every column of a run's files means.

The one source of the JSON schema of report.json, of the metadata of
predictions.parquet and of the tables of docs/files.md. The order is that of the files.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from robustgen.names import TIERS
from robustgen.table import PATHS

Kind: TypeAlias = Literal["text", "integer", "number"]


@dataclass(frozen=True)
class Column:
    """A column of a frame.

    Args:
        name: Its name, the same in every file.
        kind: What its values are.
        meaning: What they say, in a sentence or two.
        unit: Of numbers: `share` (of 1), `pixels` (of the range [0, 1]), `count`, ...
        empty: When there is no value: null in JSON, NaN in parquet, nothing in CSV. An
            empty text stays an empty text in JSON and parquet. `never` for always one.
        values: All values that a text may have; none for any text.
        low: The least number that may stand here, if any.
        high: The largest, if any.
        infinite: Whether infinity may stand here: the text `inf` in JSON and CSV.
        stored: Type of a number in predictions.parquet.
    """

    name: str
    kind: Kind
    meaning: str
    unit: str = ""
    empty: str = "never"
    values: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None
    infinite: bool = False
    stored: Literal["float64", "float32"] = "float64"

    @property
    def is_always_there(self) -> bool:
        """Whether no row lacks a value."""
        return self.empty == "never"

    @property
    def json_type(self) -> dict[str, Any]:
        """The JSON schema of one value."""
        schema: dict[str, Any] = {"description": self._described}
        if self.kind == "text":
            return schema | ({"enum": list(self.values)} if self.values else _TEXT)
        number: dict[str, Any] = {"type": self.kind}
        if self.low is not None:
            number["minimum"] = self.low
        if self.high is not None:
            number["maximum"] = self.high
        others: list[dict[str, Any]] = []
        if self.infinite:
            signs = ["inf"] if self.low is not None else ["inf", "-inf"]
            others.append({"enum": signs})
        if not self.is_always_there:
            others.append({"type": "null"})
        return schema | ({"anyOf": [number, *others]} if others else number)

    @property
    def parquet_type(self) -> str:
        """Name of the Arrow type of the column in predictions.parquet."""
        if self.kind == "number":
            return self.stored
        return "string" if self.kind == "text" else "int64"

    @property
    def _described(self) -> str:
        unit = f" Unit: {self.unit}." if self.unit else ""
        empty = "" if self.is_always_there else f" Empty: {self.empty}."
        return f"{self.meaning}{unit}{empty}"


_TEXT = MappingProxyType({"type": "string"})

NO_SAMPLES = "without samples"
VERDICTS = ("", "TRUSTED", "SUSPECT", "INVALID")


def _text(
    name: str, meaning: str, values: tuple[str, ...] = (), empty: str = "never"
) -> Column:
    return Column(name, "text", meaning, values=values, empty=empty)


def _share(name: str, meaning: str, empty: str = NO_SAMPLES) -> Column:
    return Column(name, "number", meaning, "share", empty, low=0, high=1)


def _count(name: str, meaning: str, low: int = 0) -> Column:
    return Column(name, "integer", meaning, "count", low=low)


def _interval(low: str, high: str, of: str, empty: str) -> tuple[Column, Column]:
    return (
        _share(low, f"Lower end of the 95% interval of `{of}`, Wilson's.", empty),
        _share(high, f"Upper end of the 95% interval of `{of}`, Wilson's.", empty),
    )


PAIR = (
    _text("dataset", "Name of the data set."),
    _text("classifier", "Name of the classifier."),
)

CASE = (
    *PAIR,
    _text(
        "attack",
        "Name of the attack as the suite has it; `clean` for none, the tier for an "
        "attack of the ladder.",
    ),
    _text(
        "tier",
        "What the attack knows; `none` where nobody searched: clean images and "
        "corruptions.",
        ("none", *TIERS),
    ),
    _text("norm", "Norm that bounds the attack.", ("none", "linf", "l2")),
    Column(
        "eps",
        "number",
        "Radius of the attack; infinity for an attack that looks for the least "
        "distance and for a corruption.",
        "pixels",
        low=0,
        infinite=True,
    ),
)

PATH = _text("path", "What classifies.", PATHS)
SPLIT = _text("split", "Validation or test images.", ("val", "test"))
N = _count("n", "Number of samples.")

ALPHA_FROM = _text(
    "alpha_from",
    "Images on which an ensemble chose alpha: validation images under the same attack "
    "(`matched`) or clean ones.",
    ("", "matched", "clean"),
    empty="without an ensemble",
)

ACCURACY = (
    _text("suite", "Name of the suite."),
    _text(
        "profile",
        "Assets of the run. Numbers of two profiles are never compared.",
        ("embedded", "full"),
    ),
    *CASE,
    PATH,
    SPLIT,
    N,
    _share(
        "accuracy",
        "Share of the samples that are right; of an ensemble, or of a path that an "
        "attack was aimed at, the mean over resamples or draws.",
    ),
    *_interval("ci_low", "ci_high", "accuracy", NO_SAMPLES),
    _share(
        "alpha",
        "Weight of the views in an ensemble, mean over resamples.",
        "without an ensemble",
    ),
    ALPHA_FROM,
    _text(
        "verdict",
        "What the checks say of the number.",
        VERDICTS,
        empty="where no check has run",
    ),
)

BALANCED = (
    *CASE,
    PATH,
    SPLIT,
    N,
    _count("classes", "Number of classes that occur among the samples."),
    _share("largest_class", "Share of the samples that the most frequent class has."),
    _share("accuracy", "As in accuracy.csv."),
    _share(
        "balanced_accuracy",
        "Mean over the classes that occur of the share of their samples that is right: "
        "0.5 for always guessing one of two classes, however often it occurs.",
    ),
    _share(
        "balanced_low",
        "Lower end of its 95% interval: the hull of Wilson's of every class, put "
        "together by MOVER, and Wilson's of the effective number of samples.",
        NO_SAMPLES,
    ),
    _share(
        "balanced_high",
        "Upper end of its 95% interval.",
        NO_SAMPLES,
    ),
    ALPHA_FROM,
    _text(
        "verdict",
        "As in accuracy.csv.",
        VERDICTS,
        empty="where no check has run",
    ),
)

DIFFERENCES = (
    *CASE,
    ALPHA_FROM,
    _text("first", "Path that is compared.", PATHS),
    _text("second", "Path that it is compared with, on the same samples.", PATHS),
    N,
    Column(
        "difference",
        "number",
        "Accuracy of `second` minus accuracy of `first`.",
        "share",
        NO_SAMPLES,
        low=-1,
        high=1,
    ),
    Column(
        "ci_low",
        "number",
        "Lower end of the 95% interval, a paired bootstrap over samples.",
        "share",
        NO_SAMPLES,
        low=-1,
        high=1,
    ),
    Column(
        "ci_high",
        "number",
        "Upper end of the 95% interval, a paired bootstrap over samples.",
        "share",
        NO_SAMPLES,
        low=-1,
        high=1,
    ),
    _count("gained", "Samples on which `second` is right more often."),
    _count("lost", "Samples on which `second` is right less often."),
)

_NOTHING_TO_TURN = "where no sample is right without the attack"

ROBUSTNESS = (
    *CASE,
    PATH,
    ALPHA_FROM,
    N,
    Column(
        "clean_correct",
        "number",
        "Samples right without the attack, mean over resamples.",
        "count",
        low=0,
    ),
    Column(
        "turned",
        "number",
        "Those of them that are wrong under the attack, mean over resamples.",
        "count",
        low=0,
    ),
    _share(
        "success_rate",
        "Attack success rate: `turned` / `clean_correct`.",
        _NOTHING_TO_TURN,
    ),
    *_interval("success_low", "success_high", "success_rate", _NOTHING_TO_TURN),
    _share(
        "robust_accuracy",
        "Share of all samples that are right before and under the attack.",
    ),
    *_interval("robust_low", "robust_high", "robust_accuracy", NO_SAMPLES),
)

WORST_CASE = (
    *PAIR,
    _text("attacks", "Attacks that it is over, clean included, parted by blanks."),
    _text("tiers", "Their tiers, parted by blanks."),
    PATH,
    ALPHA_FROM,
    N,
    _share(
        "accuracy",
        "Share of the samples that are right under every one of these attacks, per "
        "sample and resample.",
    ),
    *_interval("ci_low", "ci_high", "accuracy", NO_SAMPLES),
)

_NOT_ATTACKED = "where the table lacks it"
_NOT_PROJECTED = "without a projection"
_NOT_AIMED = "unless the attack was aimed at a path of the defense"


def _cost(name: str, meaning: str, unit: str, empty: str) -> Column:
    return Column(name, "number", meaning, unit, empty, low=0, stored="float32")


def _lead(name: str, meaning: str, empty: str) -> Column:
    return Column(
        name, "number", meaning, "nats", empty, infinite=True, stored="float32"
    )


COSTS = (
    _cost(
        "distance_linf",
        "Largest change of a pixel, attacked to clean image.",
        "pixels",
        _NOT_ATTACKED,
    ),
    _cost(
        "distance_l2", "L2 distance, attacked to clean image.", "pixels", _NOT_ATTACKED
    ),
    _cost(
        "attack_forwards",
        "Forward passes of the attacked model.",
        "passes",
        _NOT_ATTACKED,
    ),
    _cost(
        "attack_backwards",
        "Backward passes of the attacked model.",
        "passes",
        _NOT_ATTACKED,
    ),
    Column(
        "attack_success",
        "number",
        "1 where the attacked model was wrong on the image that the attack returned, "
        "else 0.",
        "share",
        _NOT_ATTACKED,
        low=0,
        high=1,
        stored="float32",
    ),
    _cost(
        "first_success",
        "Forward passes until the first misclassified image.",
        "passes",
        "where the attack found none",
    ),
    _lead(
        "margin_first",
        "Lead of the best wrong class in the attack's first pass.",
        _NOT_ATTACKED,
    ),
    _lead("margin_best", "The largest lead in all of its passes.", _NOT_ATTACKED),
    _lead("margin_last", "The lead in its last pass.", _NOT_ATTACKED),
    _lead(
        "select_margin",
        "Mean lead of the best wrong class on the draws that selected the image.",
        _NOT_AIMED,
    ),
    _cost("initial_loss", "Loss of the projection at its start.", "", _NOT_PROJECTED),
    _cost("final_loss", "Loss of the projection at its end.", "", _NOT_PROJECTED),
    _cost(
        "projection_passes",
        "Forward passes of the generator in the projection.",
        "passes",
        _NOT_PROJECTED,
    ),
    Column(
        "psnr",
        "number",
        "Peak signal-to-noise ratio of the reconstruction against the attacked image, "
        "100 at most.",
        "dB",
        _NOT_PROJECTED,
        stored="float32",
    ),
)

COST = (
    *CASE,
    _text(
        "target",
        "Path that the attack was aimed at.",
        ("", *PATHS),
        empty="for an attack on the classifier alone",
    ),
    N,
    *COSTS,
    _cost("max_distance_linf", "The largest `distance_linf`.", "pixels", _NOT_ATTACKED),
    _cost("max_distance_l2", "The largest `distance_l2`.", "pixels", _NOT_ATTACKED),
)

_NOT_FIXED = "where the suite did not ask for it"

RANDOMNESS = (
    *CASE,
    _text(
        "target",
        "Path that the attack was aimed at.",
        ("", *PATHS),
        empty="for an attack on the classifier alone",
    ),
    PATH,
    N,
    _count("draws", "Draws that score each sample.", low=2),
    _share("mean", "Share of single draws that are right."),
    *_interval("mean_low", "mean_high", "mean", NO_SAMPLES),
    _share("majority", "Share of samples that a vote of the draws gets right."),
    *_interval("majority_low", "majority_high", "majority", NO_SAMPLES),
    _share("worst", "Share of samples right in every draw."),
    *_interval("worst_low", "worst_high", "worst", NO_SAMPLES),
    _share(
        "fixed",
        "Share of samples right in one draw that the attacker knew.",
        _NOT_FIXED,
    ),
    *_interval("fixed_low", "fixed_high", "fixed", _NOT_FIXED),
)

CHECKS = (
    *PAIR,
    _text("check", "`S1` to `S16`, see verdicts.md."),
    _text("title", "What the check asks, as the fact that it hopes for."),
    _text(
        "status",
        "`pass`: measured and fine. `fail`: measured, and against the number. `warn`: "
        "not measured, or worth a look.",
        ("pass", "warn", "fail"),
    ),
    _text("attack", "Attack of the rows that it is about.", empty="for all"),
    _text("tier", "Tier of these rows.", ("", "none", *TIERS), empty="for all"),
    _text("path", "Path of these rows.", ("", *PATHS), empty="for all"),
    _text("evidence", "The numbers, in words.", empty="where nothing was measured"),
    _text("advice", "What to do.", empty="where the check passed"),
    _text(
        "effect",
        "What it does to the verdict of these rows.",
        ("", "SUSPECT", "INVALID"),
        empty="for nothing",
    ),
)

CURVES = (
    *CASE,
    PATH,
    SPLIT,
    Column(
        "alpha",
        "number",
        "Weight of the views: 0 is the image alone, 1 the views alone.",
        "share",
        low=0,
        high=1,
    ),
    _share("accuracy", "Accuracy at this alpha, mean over resamples."),
)

PREDICTIONS = (
    *CASE,
    PATH,
    SPLIT,
    _count("sample", "Index of the sample in its data set."),
    Column("label", "integer", "True class.", "class index", low=0),
    Column(
        "predicted",
        "integer",
        "Class of the largest mean probability over resamples or draws.",
        "class index",
        low=0,
    ),
    Column(
        "correct",
        "number",
        "Share of the resamples or draws that are right; 0 or 1 without either.",
        "share",
        low=0,
        high=1,
    ),
    Column(
        "probability",
        "number",
        "Probability of the true class, mean over resamples or draws.",
        "share",
        low=0,
        high=1,
    ),
    _share(
        "alpha",
        "Weight of the views in an ensemble, mean over resamples. On validation "
        "images it was chosen on them.",
        "without an ensemble",
    ),
    _text(
        "alpha_from",
        "`clean`, or `matched` where the run has no clean validation images.",
        ("", "matched", "clean"),
        empty="without an ensemble",
    ),
    Column(
        "correct_matched",
        "number",
        "`correct`, with alpha from validation images under the same attack.",
        "share",
        low=0,
        high=1,
    ),
    *COSTS,
)

REPORT_FRAMES = MappingProxyType(
    {
        "accuracy": ("What accuracy.csv holds.", ACCURACY),
        "balanced": ("What balanced.csv holds.", BALANCED),
        "differences": ("Paths compared on the same test samples.", DIFFERENCES),
        "robustness": (
            "What each attack turned, per path, on test images. Empty for a run "
            "without clean images.",
            ROBUSTNESS,
        ),
        "worst_case": (
            "Test samples right under every attack, per path. Corruptions, which "
            "nobody searched for, are left out.",
            WORST_CASE,
        ),
        "costs": (
            "Means over test samples of what attacks and projections cost.",
            COST,
        ),
        "randomness": (
            "Paths that were scored on two draws or more, on test images.",
            RANDOMNESS,
        ),
        "checks": ("What the checks found.", CHECKS),
        "curves": ("Accuracy at every alpha, of ensembles.", CURVES),
    }
)
"""What every frame of report.json holds, and its columns."""


def names(columns: tuple[Column, ...]) -> tuple[str, ...]:
    """The names of columns, in their order.

    >>> names(PAIR)
    ('dataset', 'classifier')
    """
    return tuple(column.name for column in columns)


def record_schema(columns: tuple[Column, ...]) -> Mapping[str, Any]:
    """The JSON schema of one row: these columns, all of them, and no other."""
    return {
        "type": "object",
        "properties": {column.name: column.json_type for column in columns},
        "required": list(names(columns)),
        "additionalProperties": False,
    }


def column_table(columns: tuple[Column, ...]) -> str:
    """The columns as a table of Markdown: name, type, unit, meaning, when empty."""
    lines = [
        "| column | type | unit | meaning | empty |",
        "|---|---|---|---|---|",
    ]
    for column in columns:
        values = ", ".join(f"`{value}`" for value in column.values if value)
        meaning = f"{column.meaning} One of {values}." if values else column.meaning
        infinite = ", `inf`" if column.infinite else ""
        lines.append(
            f"| `{column.name}` | {column.kind}{infinite} | {column.unit} | {meaning} "
            f"| {column.empty} |"
        )
    return "\n".join(lines)
