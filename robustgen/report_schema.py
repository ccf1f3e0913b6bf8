"""What a report holds, and its form as JSON."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from robustgen.columns import REPORT_FRAMES, record_schema

SCHEMA_VERSION = 1

SCHEMA_FILE = Path(__file__).with_name("schemas") / "report.schema.json"
"""The published JSON schema of report.json; it ships with the package."""


def json_safe(value: Any) -> Any:
    """A value that strict JSON can hold: NaN becomes null, infinity the text `inf`.

    >>> json_safe({"eps": float("inf"), "n": (1, float("nan"))})
    {'eps': 'inf', 'n': [1, None]}
    """
    if isinstance(value, Mapping):
        return {str(key): json_safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_safe(item) for item in value]
    if isinstance(value, np.generic):
        return json_safe(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if value is None or isinstance(value, str | int | float):
        return value
    return str(value)


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return json_safe(frame.to_dict(orient="records"))


Frame: TypeAlias = Annotated[pd.DataFrame, PlainSerializer(_records)]
"""A data frame; one record per row in JSON."""


class Report(BaseModel):
    """All numbers of a run and what they came from.

    In JSON every frame is a list of records; NaN is null and infinity the text `inf`.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)

    schema_version: Literal[1] = SCHEMA_VERSION
    """Grows when a field changes its meaning or goes away."""
    name: str
    """Name of the suite."""
    profile: str
    """`embedded` or `full`; numbers of two profiles are never compared."""
    notes: tuple[str, ...]
    """What a reader must know to read the numbers, one sentence or two each."""
    accuracy: Frame
    """`metrics.accuracy_frame`: what accuracy.csv holds."""
    balanced: Frame
    """`balanced.balanced_frame`: what balanced.csv holds, mean recall per row."""
    differences: Frame
    """`metrics.differences_frame`: paths compared on the same samples."""
    robustness: Frame
    """`metrics.robustness_frame`: attack success and robust accuracy per path."""
    worst_case: Frame
    """`metrics.worst_case_frame`: right under every attack, per sample."""
    costs: Frame
    """`metrics.costs_frame`: distances, losses and passes per attack."""
    randomness: Frame
    """`strength.randomness.random_frame`: random paths over their scoring draws."""
    checks: Frame
    """`checks.checks_frame`: S1 to S16, each with its evidence and what to do."""
    curves: Frame
    """`metrics.curves_frame`: accuracy at every alpha."""
    predictions: Annotated[pd.DataFrame, Field(exclude=True)]
    """`metrics.predictions_frame`; kept in predictions.parquet, not in JSON."""
    suite: dict[str, Any]
    """The suite as resolved."""
    provenance: dict[str, Any]
    """The rest of the manifest: versions, seeds, asset hashes, commit, times."""


def json_schema() -> dict[str, Any]:
    """The JSON schema (2020-12) of report.json, as `SCHEMA_FILE` publishes it.

    It is exact: a key that is missing or unknown, or a value of another type, makes a
    report invalid. `suite` and `provenance` alone hold what the run put there.
    """
    frames = {
        name: {
            "description": meaning,
            "type": "array",
            "items": record_schema(columns),
        }
        for name, (meaning, columns) in REPORT_FRAMES.items()
    }
    properties: dict[str, Any] = {
        "schema_version": {
            "description": "Grows when a field changes its meaning or goes away.",
            "const": SCHEMA_VERSION,
        },
        "name": {"description": "Name of the suite.", "type": "string"},
        "profile": {
            "description": "Assets of the run. Numbers of two profiles are never "
            "compared.",
            "enum": ["embedded", "full"],
        },
        "notes": {
            "description": "What a reader must know to read the numbers.",
            "type": "array",
            "items": {"type": "string"},
        },
        **frames,
        "suite": {"description": "The suite as resolved.", "type": "object"},
        "provenance": {
            "description": "The rest of manifest.json: versions, seeds, hashes of "
            "assets and data, commit, times.",
            "type": "object",
        },
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:robustgen:report:{SCHEMA_VERSION}",
        "title": f"report.json of robustgen, version {SCHEMA_VERSION}",
        "description": "Every number of a run and what it came from. Frames are lists "
        "of records. What was not counted is null, infinity is the text inf.",
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def schema_text() -> str:
    """The text of `SCHEMA_FILE`."""
    return json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"


def to_json(report: Report) -> str:
    """The text of report.json: strict JSON, keys in the order of the schema."""
    return json.dumps(json_safe(report.model_dump()), indent=1, allow_nan=False) + "\n"
