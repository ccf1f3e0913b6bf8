"""docs/files.md and the published schema say what the files of a run hold.

After a change of `robustgen.columns` run `python tests/test_files_doc.py`, which
writes both again.
"""

import ast
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet
from synthetic import make_run, make_table

from robustgen import columns
from robustgen.balanced import BALANCED_COLUMNS
from robustgen.checks import CHECK_COLUMNS, checks_frame
from robustgen.checks.finding import Finding
from robustgen.columns import COSTS, PREDICTIONS, REPORT_FRAMES, column_table, names
from robustgen.finished import SEAL
from robustgen.gallery import Panel, Picture
from robustgen.metrics import ACCURACY_COLUMNS, PREDICTION_COLUMNS
from robustgen.metrics import COSTS as COST_NAMES
from robustgen.report import build_report, write_numbers, write_report
from robustgen.report_schema import SCHEMA_FILE, Report, schema_text, to_json
from robustgen.table import save_table

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "files.md"
SUITE = {"version": 1, "name": "mini", "seed": 0}
MANIFEST = {"suite": SUITE, "profile": "embedded", "versions": {}}
REWRITE = "run `python tests/test_files_doc.py`"

TABLES = {
    "accuracy.csv": columns.ACCURACY,
    "balanced.csv": columns.BALANCED,
    "predictions.parquet": columns.PREDICTIONS,
    **{
        name: shown
        for name, (_, shown) in REPORT_FRAMES.items()
        if name not in ("accuracy", "balanced")
    },
}


def document_text(text: str) -> str:
    """The document with the tables that follow its marks written again."""
    for name, shown in TABLES.items():
        start = f"<!-- columns of {name} -->\n"
        before, after = text.split(start)
        rest = after[after.index("\n\n") :]
        text = f"{before}{start}{column_table(shown)}{rest}"
    return text


def run_report(**changes: Any) -> Report:
    arguments: dict[str, Any] = {
        "tables": [*make_run(), make_table("jpeg", "test", {"image": [True] * 10})],
        "suite": SUITE,
        "profile": "embedded",
        "manifest": MANIFEST,
        **changes,
    }
    return build_report(arguments.pop("tables"), **arguments)


@pytest.fixture(scope="module")
def report() -> Report:
    return run_report()


@pytest.fixture(scope="module")
def folder(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    write_report(report, out)
    for one in make_run():
        save_table(one, out / "tables" / f"{one.key.attack}-{one.key.split}.npz")
    (out / "manifest.json").write_text(json.dumps(MANIFEST))
    return out


def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_published_schema_is_that_of_the_code():
    assert SCHEMA_FILE.read_text(encoding="utf-8") == schema_text(), REWRITE


def test_the_document_is_that_of_the_code():
    text = DOCUMENT.read_text(encoding="utf-8")
    assert text == document_text(text), REWRITE


@pytest.mark.parametrize("frame", REPORT_FRAMES)
def test_every_frame_has_the_columns_of_its_description(frame: str, report: Report):
    assert tuple(getattr(report, frame).columns) == names(REPORT_FRAMES[frame][1])


def test_every_frame_of_a_report_is_described():
    frames = {
        name
        for name, field in Report.model_fields.items()
        if field.annotation is pd.DataFrame and not field.exclude
    }
    assert frames == REPORT_FRAMES.keys()


def test_columns_are_those_that_are_counted():
    assert names(columns.ACCURACY) == ACCURACY_COLUMNS
    assert names(columns.BALANCED) == BALANCED_COLUMNS
    assert names(columns.PREDICTIONS) == PREDICTION_COLUMNS
    assert names(columns.CHECKS) == CHECK_COLUMNS
    assert names(COSTS) == COST_NAMES


@pytest.mark.parametrize("name", ["accuracy", "balanced"])
def test_a_csv_has_the_columns_of_its_description(name: str, folder: Path):
    first = (folder / f"{name}.csv").read_text().splitlines()[0]
    assert tuple(first.split(",")) == names(REPORT_FRAMES[name][1])


def test_predictions_parquet_describes_its_own_columns(folder: Path):
    schema = parquet.read_schema(folder / "predictions.parquet")
    assert tuple(schema.names) == names(PREDICTIONS)
    for column in PREDICTIONS:
        field = schema.field(column.name)
        assert field.type == getattr(pa, column.parquet_type)()
        assert field.nullable == (column.empty != "never")
        assert field.metadata[b"description"].decode() == column.meaning
        assert field.metadata[b"unit"].decode() == column.unit
        assert field.metadata[b"empty"].decode() == column.empty
    assert schema.metadata[b"robustgen_schema_version"] == b"1"


def test_types_of_predictions_do_not_depend_on_what_a_run_holds(
    folder: Path, tmp_path: Path
):
    clean = [one for one in make_run() if one.key.attack == "clean"]
    write_numbers(run_report(tables=clean), tmp_path)
    one, other = (
        parquet.read_schema(path / "predictions.parquet").remove_metadata()
        for path in (folder, tmp_path)
    )
    assert one.equals(other)


def test_types_of_pandas_are_those_documented(folder: Path):
    frame = pd.read_parquet(folder / "predictions.parquet")
    for column in PREDICTIONS:
        dtype = frame[column.name].dtype
        if column.kind == "text":
            assert pd.api.types.is_string_dtype(dtype), column.name
        else:
            assert str(dtype) == column.parquet_type, column.name


def test_a_report_is_valid(folder: Path):
    validator().validate(json.loads((folder / "report.json").read_text()))


def test_a_report_with_checks_is_valid(report: Report):
    findings = [
        Finding("S5", "An attack that knows more leaves less", "faces", "cnn", "pass"),
        Finding(
            *("S1", "Title", "faces", "cnn", "fail", "pgd", "oblivious", "image"),
            *("Evidence.", "Advice.", "INVALID"),
        ),
    ]
    accuracy = report.accuracy.assign(verdict="SUSPECT")
    checked = report.model_copy(
        update={"checks": checks_frame(findings), "accuracy": accuracy}
    )
    validator().validate(json.loads(to_json(checked)))


def test_a_report_without_samples_is_valid():
    paths = ("image", "reconstruction")
    tables = [
        make_table(attack, "test", {path: [] for path in paths})
        for attack in ("clean", "pgd")
    ]
    record = json.loads(to_json(run_report(tables=tables)))
    assert record["accuracy"][0]["accuracy"] is None
    validator().validate(record)


def _edit(frame: str, **changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda record: record[frame][0].update(changes)


def _drop(frame: str, key: str) -> Callable[[dict[str, Any]], None]:
    return lambda record: record[frame][0].pop(key)


@pytest.mark.parametrize(
    "fault",
    [
        _drop("accuracy", "verdict"),
        _drop("costs", "psnr"),
        _edit("accuracy", unknown=1),
        _edit("curves", accuracy="0.5"),
        _edit("accuracy", accuracy=1.5),
        _edit("accuracy", n=1.5),
        _edit("accuracy", n=None),
        _edit("accuracy", eps=None),
        _edit("accuracy", eps="-inf"),
        _edit("accuracy", tier="all-knowing"),
        _edit("accuracy", path=None),
        _edit("differences", difference=-1.01),
        _edit("worst_case", n=-1),
        _edit("robustness", success_rate="inf"),
        lambda record: record.update(schema_version=2),
        lambda record: record.update(more=[]),
        lambda record: record.update(profile="half"),
        lambda record: record.update(accuracy={}),
        lambda record: record.pop("curves"),
        lambda record: record["notes"].append(1),
    ],
)
def test_a_fault_makes_a_report_invalid(
    fault: Callable[[dict[str, Any]], Any], report: Report
):
    record = json.loads(to_json(report))
    fault(record)
    with pytest.raises(jsonschema.ValidationError):
        validator().validate(record)


def test_code_of_the_document_runs(folder: Path, monkeypatch: pytest.MonkeyPatch):
    text = DOCUMENT.read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) == 3
    monkeypatch.chdir(folder.parent)
    for block in blocks:
        exec(compile(block.replace("reports/runs/digits", folder.name), "doc", "exec"))


def test_the_document_names_every_file_of_a_run(folder: Path):
    text = DOCUMENT.read_text(encoding="utf-8")
    for path in folder.iterdir():
        assert f"`{path.name}{'/' if path.is_dir() else ''}" in text, path.name


def first_cells(heading: str) -> list[str]:
    """The names in the first column of the table that follows a heading."""
    text = DOCUMENT.read_text(encoding="utf-8").split(f"## {heading}\n", 1)[1]
    lines = text[text.index("\n|---") :].strip().split("\n\n")[0].splitlines()[1:]
    return [
        name for line in lines for name in re.findall(r"`(\w+)`", line.split("|")[1])
    ]


def test_every_key_of_a_manifest_is_described():
    tree = ast.parse((ROOT / "robustgen" / "runner.py").read_text(encoding="utf-8"))
    (written,) = (
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Dict)
        and ast.unparse(node.targets[0]) == "manifest"
    )
    keys = [key.value for key in written.keys if isinstance(key, ast.Constant)]
    assert first_cells("manifest.json") == [*keys, SEAL]


def test_every_key_of_a_picture_is_described():
    found = first_cells("pictures/pictures.json")
    assert sorted(found) == sorted(Picture.model_fields)
    text = DOCUMENT.read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in Panel.model_fields)


def test_links_of_the_document_lead_to_files():
    for target in re.findall(r"\]\(([^)#]+)\)", DOCUMENT.read_text("utf-8")):
        assert (DOCUMENT.parent / target).exists(), target


if __name__ == "__main__":
    SCHEMA_FILE.write_text(schema_text(), encoding="utf-8")
    text = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(document_text(text), encoding="utf-8")
