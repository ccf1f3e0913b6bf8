"""docs/compare.md says what the code does."""

import re
from pathlib import Path

from robustgen.comparison.configuration import GROUPS
from robustgen.comparison.sample_size import SMALLEST_MARGIN
from robustgen.comparison.samples import SAMPLE_COLUMNS

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "compare.md").read_text(encoding="utf-8")


def test_every_column_of_the_csv_is_described_in_order():
    table = TEXT.split("| column of comparison.csv", 1)[1]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("|")]
    assert tuple(re.findall(r"`(\w+)`", " ".join(cells))) == SAMPLE_COLUMNS


def test_groups_and_limits_are_those_of_the_code():
    assert all(f"| {group} |" in TEXT for group in GROUPS)
    assert f"The margin is at least {SMALLEST_MARGIN:g}." in TEXT


def test_links_lead_to_files():
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert (DOCS / target).exists()
