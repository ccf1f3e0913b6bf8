"""Tables of the documentation say what the code does."""

import re
from pathlib import Path

import pytest

from robustgen.budgets import BUDGETS, Budget
from robustgen.library import attack_names
from robustgen.names import TIERS

DOCS = Path(__file__).parents[2] / "docs"


def first_cells(document: str, heading: str) -> list[list[str]]:
    """The rows of the table that follows a heading, as cells."""
    text = (DOCS / document).read_text(encoding="utf-8").split(heading, 1)[1]
    table = re.split(r"\n\n(?!\|)", text[text.index("\n|") :].strip())[0]
    rows = [line.strip("|").split("|") for line in table.splitlines()[2:]]
    return [[cell.strip().replace("`", "") for cell in row] for row in rows]


def test_the_table_of_budgets_holds_their_numbers():
    rows = first_cells("threat_models.md", "## Budgets")
    assert [row[0] for row in rows] == list(Budget.model_fields)
    for place, name in enumerate(("smoke", "standard", "paper"), start=1):
        written = {row[0]: row[place] for row in rows}
        budget = {
            key: "all" if value is None else f"{value:g}"
            for key, value in BUDGETS[name].model_dump().items()
        }
        assert written == budget


def test_the_table_of_tiers_lists_them_in_order():
    rows = first_cells("threat_models.md", "## Tiers")
    assert [row[0] for row in rows] == list(TIERS)


def test_the_table_of_attacks_lists_every_preset():
    rows = first_cells("attacks.md", "# Attacks")
    listed = [name for row in rows for name in row[0].split(", ")]
    assert sorted([*listed, "clean"]) == attack_names()


@pytest.mark.parametrize("document", ["attacks.md", "threat_models.md"])
def test_links_lead_to_files(document: str):
    text = (DOCS / document).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (DOCS / target).exists()
