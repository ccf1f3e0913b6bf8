"""`robustgen check`: what it refuses, its files, its exit status."""

import dataclasses
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from gate_runs import MANIFEST, SUITE, write_run

from robustgen.cli import main
from robustgen.cli.gate import ALPHA, FILES, MARGIN, gate_run
from robustgen.errors import RequestError
from robustgen.evidence import DataEvidence, load_evidence, save_evidence
from robustgen.gate import check_run, judging, load_baseline, request_refusals
from robustgen.gate.annotations import annotations
from robustgen.gate.junit import to_junit


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("baseline")
    path = folder / "b.json"
    assert status("baseline", write_run(folder / "run"), "--out", path) == 0
    return path


@pytest.fixture(autouse=True)
def _outside_github(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)


def status(*argv: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(one) for one in argv])
    return int(stopped.value.code or 0)


def distrust(run: Path) -> Path:
    """More test images were found than the tables hold: every row is INVALID."""
    data = DataEvidence(
        split="test", asked=80, found=80, label_counts=(40, 40), duplicate_images=0
    )
    path = run / "probes" / "faces-cnn.json"
    save_evidence(load_evidence(path).model_copy(update={"data": (data,)}), path)
    return run


def test_defaults_of_the_command_line_are_those_of_the_gate():
    assert (MARGIN, ALPHA) == (judging.MARGIN, judging.ALPHA)


def test_the_same_run_passes_and_all_rows_are_identical(tmp_path: Path, baseline: Path):
    run = write_run(tmp_path / "run")
    assert status("check", run, "--baseline", baseline) == 0
    record = json.loads((run / "gate.json").read_text())
    assert record["status"] == "passed"
    assert {row["verdict"] for row in record["rows"]} == {"identical"}


def test_a_weaker_defense_fails(
    tmp_path: Path, baseline: Path, capsys: pytest.CaptureFixture[str]
):
    run = write_run(tmp_path / "run", right={"clean": 58, "jpeg": 20})
    assert status("check", run, "--baseline", baseline) == 1
    out = capsys.readouterr().out
    assert "Gate failed" in out
    assert "0.667" in out
    assert "+0 -20" in out
    assert out.count("✗ defense weaker") == 6


def test_a_weaker_attack_fails_and_the_text_says_where_to_look(
    tmp_path: Path, baseline: Path
):
    jpeg = {**SUITE["attacks"][1], "settings": {"kind": "jpeg", "severity": 1}}
    run = write_run(
        tmp_path / "run",
        right={"clean": 58, "jpeg": 58},
        suite={"attacks": [SUITE["attacks"][0], jpeg]},
    )
    assert gate_run(run, baseline) == 1
    text = (run / "gate.md").read_text()
    assert text.startswith("# Gate failed")
    assert "Settings differ: severity 3 -> 1." in text
    assert "No defense stands on the image path" in text
    assert "rose too, which points to the attack" in text


def test_a_rise_on_clean_images_passes(tmp_path: Path):
    before = write_run(tmp_path / "before", right={"clean": 40, "jpeg": 40})
    assert status("baseline", before, "--out", tmp_path / "b.json") == 0
    run = write_run(tmp_path / "run", right={"clean": 58, "jpeg": 40})
    report = check_run(run, tmp_path / "b.json")
    assert (report.status, report.rows[0].verdict) == ("passed", "improved")


def test_undecided_rows_fail_only_with_strict(
    tmp_path: Path, baseline: Path, capsys: pytest.CaptureFixture[str]
):
    run = write_run(tmp_path / "run", right={"clean": 58, "jpeg": 39})
    assert status("check", run, "--baseline", baseline) == 0
    out = capsys.readouterr().out
    assert re.search(r"A drop of up to 0\.\d+ and a rise of up to 0\.\d+ are", out)
    assert re.search(r"about [\d,]+ images would do", out)
    assert status("check", run, "--baseline", baseline, "--strict") == 1
    assert status("check", run, "--baseline", baseline, "--margin", "0.2") == 0


def test_rows_that_are_not_trusted_any_more_end_with_3(tmp_path: Path, baseline: Path):
    run = distrust(write_run(tmp_path / "run"))
    assert status("check", run, "--baseline", baseline) == 3
    root = ET.parse(run / "gate.xml").getroot()
    assert root.attrib["errors"] == root.attrib["tests"] == "12"
    assert "S16" in (run / "gate.md").read_text()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"suite": {"name": "other"}}, "suite 'other'"),
        ({"profile": "full"}, "--profile embedded"),
        ({"limit": 5}, "--limit 5"),
        ({"checked": False}, "no check has run"),
        (
            {"assets_sha256": {"classifier: cnn": "zz", "generator: faces": "bb"}},
            "other asset: 'classifier: cnn' (changed)",
        ),
        ({"assets_sha256": {"classifier: cnn": "aa"}}, "'generator: faces' (missing)"),
        ({"data": {**MANIFEST["data"], "faces/cnn val": 0}}, "other data"),
        (
            {"suite": {"projection": {"passes": 3}}},
            "path 'reconstruction', 'stylemix_ensemble': projection.passes 6 -> 3",
        ),
        ({"suite": {"jitter": {"zoom": 1.1}}}, "'image_ensemble': jitter.zoom"),
        (
            {"paths": ["image", "reconstruction", "image_ensemble"]},
            "clean on stylemix_ensemble (matched)",
        ),
        ({"right": {"clean": 58, "pgd": 40}}, "jpeg on image"),
    ],
)
def test_a_run_that_cannot_be_compared_is_refused(
    tmp_path: Path, baseline: Path, changes: dict[str, Any], said: str
):
    run = write_run(tmp_path / "run", **changes)
    (run / "gate.xml").write_text("of an earlier check")
    with pytest.raises(RequestError, match=re.escape(said)):
        gate_run(run, baseline)
    assert not any((run / name).exists() for name in FILES)


def test_every_reason_is_listed_at_once(tmp_path: Path, baseline: Path):
    run = write_run(
        tmp_path / "run",
        suite={"projection": {"passes": 3}},
        assets_sha256={},
        data={},
    )
    with pytest.raises(RequestError) as refused:
        gate_run(run, baseline)
    assert str(refused.value).count("\n- ") == 3


def test_another_threat_is_refused(tmp_path: Path, baseline: Path):
    data = json.loads(baseline.read_text())
    for one in data["rows"]:
        one["eps"] = 0.5 if one["attack"] == "jpeg" else one["eps"]
    other = tmp_path / "b.json"
    other.write_text(json.dumps(data))
    with pytest.raises(RequestError, match=r"attack 'jpeg': another threat, none 0\.5"):
        check_run(write_run(tmp_path / "run"), other)


def test_seed_code_and_versions_may_differ_and_are_named(
    tmp_path: Path, baseline: Path
):
    run = write_run(
        tmp_path / "run",
        suite={"seed": 9},
        versions={"torch": "2.7.0"},
        code_sha256="ff",
        right={"clean": 58, "jpeg": 40, "pgd": 30},
    )
    report = check_run(run, baseline)
    assert report.status == "passed"
    said = "\n".join(report.notes)
    assert "Another seed: 3 -> 9." in said
    assert "Other code: 0123456789 -> 0123456789." in said
    assert "torch 2.6.0 -> 2.7.0" in said
    assert "Not judged, since the baseline lacks them: pgd" in said


def test_a_planned_run_is_refused_before_it_is_made(baseline: Path):
    found = load_baseline(baseline)

    def reasons(limit: int | None = None, **changes: Any) -> list[str]:
        return request_refusals(
            found, settings={**SUITE, **changes}, profile="embedded", limit=limit
        )

    assert reasons() == []
    assert "--limit 4" in reasons(limit=4)[0]
    assert "projection.passes 6 -> 2" in reasons(projection={"passes": 2})[0]
    assert "attack 'jpeg'" in reasons(attacks=SUITE["attacks"][:1])[0]
    assert "lacks this pair" in reasons(pairs=[])[0]
    assert "path 'reconstruction'" in reasons(paths=["image"])[0]
    blur = {**SUITE["attacks"][1], "eps": 1.0}
    assert "another threat" in reasons(attacks=[SUITE["attacks"][0], blur])[0]


def test_junit_has_one_case_per_row_and_counts_them(tmp_path: Path, baseline: Path):
    run = write_run(tmp_path / "run", right={"clean": 58, "jpeg": 20})
    xml, text = tmp_path / "out" / "j.xml", tmp_path / "out" / "j.md"
    command = ("check", run, "--baseline", baseline)
    assert status(*command, "--junit", xml, "--markdown", text) == 1
    assert not (run / "gate.xml").exists()
    assert not (run / "gate.md").exists()
    root = ET.parse(xml).getroot()
    (suite,) = root.findall("testsuite")
    cases = suite.findall("testcase")
    assert root.tag == "testsuites"
    for element in (root, suite):
        assert element.attrib["tests"] == str(len(cases)) == "12"
        assert element.attrib["failures"] == "6"
        assert element.attrib["errors"] == element.attrib["skipped"] == "0"
    failed = [case for case in cases if case.find("failure") is not None]
    assert {case.attrib["classname"] for case in cases} == {"gated.faces.cnn"}
    assert all("jpeg on" in case.attrib["name"] for case in failed)
    fault = failed[0].find("failure")
    assert fault is not None
    assert fault.attrib["type"] == "defense weaker"
    assert "0.667 -> 0.333" in fault.attrib["message"]


def test_junit_is_well_formed_whatever_the_names_hold(tmp_path: Path, baseline: Path):
    odd = 'a<b>&"c"\x00\x1b\'d\ud800'
    report = check_run(write_run(tmp_path / "run"), baseline)
    changed = dataclasses.replace(report, suite=odd, notes=(odd,))
    root = ET.fromstring(to_junit(changed).encode())
    case = root.find("testsuite/testcase")
    assert case is not None
    assert case.attrib["classname"] == 'a<b>&"c"��\'d�.faces.cnn'


def test_github_gets_annotations_and_the_summary(
    tmp_path: Path,
    baseline: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    run = write_run(tmp_path / "run", right={"clean": 58, "jpeg": 20})
    assert gate_run(run, baseline) == 1
    lines = [one for one in capsys.readouterr().out.splitlines() if one[:2] == "::"]
    assert [one.split(" ")[0] for one in lines] == ["::error"] * 6 + ["::warning"]
    assert lines[0].startswith("::error title=defense weaker%3A jpeg on image::")
    assert summary.read_text() == "before\n" + (run / "gate.md").read_text()
    limited = write_run(tmp_path / "limited", limit=3, checked=False)
    with pytest.raises(RequestError):
        gate_run(limited, baseline)
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x[:2] == "::"]
    assert line.startswith("::error title=gate refused::")
    assert line.count("%0A- ") == 2


def test_many_failures_share_the_last_annotation(tmp_path: Path, baseline: Path):
    run = write_run(tmp_path / "run", right={"clean": 20, "jpeg": 20})
    lines = annotations(check_run(run, baseline))
    assert [line[:7] for line in lines] == ["::error"] * 10 + ["::warni"]
    assert "3 more rows" in lines[9]


@pytest.mark.parametrize(
    "option", [("--margin", "-1"), ("--margin", "1"), ("--alpha", "0")]
)
def test_levels_out_of_range_are_refused(
    tmp_path: Path, baseline: Path, option: tuple[str, str]
):
    run = write_run(tmp_path / "run")
    assert status("check", run, "--baseline", baseline, *option) == 2
