import pytest
from synthetic import make_run

from robustgen.grids import check_groups, check_lines, subjects
from robustgen.report import build_report
from robustgen.report_schema import Report
from robustgen.sections import Count, build_sections, summarize


def report_of(*attacks: str) -> Report:
    """A report of synthetic tables, on five paths; no check has run."""
    suite = {"name": "s", "attacks": list(attacks), "ensemble": {"resamples": 2}}
    return build_report(
        [table for table in make_run() if table.key.attack in attacks],
        suite=suite,
        profile="embedded",
        manifest={},
    )


@pytest.fixture(scope="module")
def report() -> Report:
    return report_of("clean", "pgd")


def test_a_summary_is_what_is_left_in_the_worst_case(report: Report):
    (subject,) = subjects(report.accuracy)
    text = summarize(report, subject).text
    assert text.startswith(
        "Right on the clean image and under every attack, none of which knows the "
        "defense: image 0.100 [0.018, 0.404] (1 attack), reconstruction 0.700"
    )
    assert text.endswith("No check has run.")
    # One line per path, by alpha from clean images.
    assert len(summarize(report, subject).left) == 5


def test_a_summary_counts_rows_by_verdict(report: Report):
    verdicts = [
        "INVALID" if row == "pgd" else "TRUSTED" for row in report.accuracy.attack
    ]
    checked = report.model_copy(
        update={"accuracy": report.accuracy.assign(verdict=verdicts)}
    )
    (subject,) = subjects(report.accuracy)
    summary = summarize(checked, subject)
    assert summary.counts == (
        Count("TRUSTED", "✓", 5),
        Count("SUSPECT", "?", 0),
        Count("INVALID", "✗", 5),
    )
    assert summary.text.endswith("Rows: 5 TRUSTED, 0 SUSPECT, 5 INVALID.")


def test_attacks_that_know_the_defense_are_not_called_blind(report: Report):
    tiers = report.worst_case.assign(tiers="none oblivious unrolled")
    (subject,) = subjects(report.accuracy)
    knowing = report.model_copy(update={"worst_case": tiers})
    assert "none of which" not in summarize(knowing, subject).worst
    assert not any(one.oblivious for one in summarize(knowing, subject).left)


def test_a_path_that_no_attack_knows_is_said_to_be_so(report: Report):
    (subject,) = subjects(report.accuracy)
    said = {one.path: one.attacks_text for one in summarize(report, subject).left}
    assert said["image"] == "1 attack"
    assert said["reconstruction"] == "1 attack, oblivious"


def test_clean_images_alone_are_under_no_attack():
    report = report_of("clean")
    (subject,) = subjects(report.accuracy)
    summary = summarize(report, subject)
    assert summary.worst == "Right on the clean image"
    assert summary.left[0].attacks_text == "0 attacks"


def test_parts_without_anything_to_show_are_left_out(report: Report):
    (section,) = build_sections(report, with_plots=False)
    slugs = [part.slug for part in section.parts]
    assert slugs == ["accuracy", "worst", "differences", "costs", "projection"]
    assert [grid.title.split()[0] for grid in section.grids] == [
        "Accuracy",
        "Accuracy",
        "Worst",
        "Robust",
        "Paired",
        "Attacks:",
        "Projection:",
    ]


def test_findings_that_ask_for_the_same_stand_together(report: Report):
    def finding(status: str, path: str, advice: str) -> dict[str, str]:
        names = dict.fromkeys(report.checks.columns, "")
        said = {"check": "S5", "title": "t", "status": status, "path": path}
        return {**names, **said, "advice": advice, "evidence": f"on {path}"}

    frame = type(report.checks)(
        [
            finding("warn", "image", "Look."),
            finding("fail", "a", "Quote b."),
            finding("fail", "b", "Quote b."),
            finding("fail", "b", "Quote b."),
            finding("fail", "c", "Quote d."),
            finding("pass", "d", ""),
            finding("pass", "e", ""),
        ]
    )
    groups = check_groups(check_lines(frame))
    found = [(g.status, g.advice, [line.about for line in g.lines]) for g in groups]
    assert found == [
        ("fail", "Quote b.", ["a", "b"]),
        ("fail", "Quote d.", ["c"]),
        ("warn", "Look.", ["image"]),
        ("pass", "", ["d"]),
    ]
    assert groups[-1].lines[0].evidence == "on d And 1 more of this check."
