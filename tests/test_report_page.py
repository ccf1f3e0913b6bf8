"""report.html as a reader meets it: in headless Chromium, unchanged, from a file."""

import dataclasses
import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
from pages import CHROMIUM, Browsed, browse, rename, write_pictures
from synthetic import first, make_run, make_table

from robustgen.rendering import share_parts, to_html
from robustgen.report import build_report
from robustgen.report_schema import Report

CSS = (Path(__file__).parents[1] / "robustgen/templates/report.css").read_text()
NASTY = """a<b>"c'|</script><script>document.title='owned'</script>"""
PATHS = (
    "image",
    "reconstruction",
    "stylemix_ensemble",
    "combined_ensemble",
    "image_ensemble",
)
FINDINGS = [
    ("S4", "Twice the work changes nothing", "fail", "SUSPECT", f"1 -> 0 {NASTY}"),
    ("S5", "An attack that knows more leaves less", "warn", "", "not measured"),
    ("S1", "The attack breaks the undefended classifier", "pass", "", "0.10 left"),
]

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason="needs chromium (Debian package chromium)"
)


def report_of(tables: list[Any], **ensemble: int) -> Report:
    """A report of synthetic tables, with one finding of every status."""
    suite = {
        "name": NASTY,
        "about": NASTY,
        "attacks": list(dict.fromkeys(table.key.attack for table in tables)),
        "paths": list(PATHS),
        "ensemble": ensemble,
    }
    manifest = {"suite": suite, "profile": "embedded", "plugins": [NASTY]}
    report = build_report(tables, suite=suite, profile="embedded", manifest=manifest)
    pairs = report.accuracy[["dataset", "classifier"]].drop_duplicates()
    findings = [
        {
            **dict(zip(report.checks.columns, [""] * 99, strict=False)),
            "dataset": dataset,
            "classifier": classifier,
            "check": check,
            "title": title,
            "status": status,
            "evidence": evidence,
            "advice": "Do more." if status != "pass" else "",
            "effect": effect,
        }
        for dataset, classifier in pairs.itertuples(index=False, name=None)
        for check, title, status, effect, evidence in FINDINGS
    ]
    verdict = [
        "SUSPECT" if row == "pgd" else "TRUSTED" for row in report.accuracy.attack
    ]
    return report.model_copy(
        update={
            "accuracy": report.accuracy.assign(verdict=verdict),
            "checks": type(report.checks)(findings),
        }
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a run of two pairs, whose names would break out of anything."""
    folder = tmp_path_factory.mktemp("page")
    tables = [
        dataclasses.replace(
            rename(table, dataset, "cnn"), class_names=(NASTY, "class1")
        )
        for dataset in ("faces", NASTY)
        for table in make_run()
    ]
    write_pictures(folder / "pictures", tables)
    text = to_html(report_of(tables, resamples=2), folder / "pictures")
    (folder / "report.html").write_text(text)
    return folder / "report.html"


@pytest.fixture(scope="module")
def opened(page: Path, tmp_path_factory: pytest.TempPathFactory) -> Browsed:
    return browse(page, tmp_path_factory.mktemp("opened"))


def colors() -> dict[str, tuple[str, str]]:
    """The light and the dark value of every color of the page."""
    pattern = r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)"
    return {name: (light, dark) for name, light, dark in re.findall(pattern, CSS)}


def contrast(one: str, two: str) -> float:
    """Contrast of two colors, 1 to 21 (WCAG 2.2, relative luminance)."""

    def luminance(color: str) -> float:
        parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4
            for part in parts
        ]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(one), luminance(two)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_the_standard():
    assert contrast("#000000", "#ffffff") == 21
    # Grays of a published example: https://webaim.org/resources/contrastchecker/
    assert round(contrast("#777777", "#ffffff"), 2) == 4.48


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("text", "ground"),
    [
        *[(name, "paper") for name in ("ink", "soft", "link", "note")],
        *[(name, "panel") for name in ("ink", "soft", "link")],
        ("ink", "note-ground"),
        ("good", "good-ground"),
        ("doubt", "doubt-ground"),
        ("bad", "bad-ground"),
    ],
)
def test_text_stands_out_in_both_themes(text: str, ground: str, theme: int):
    found = colors()
    assert contrast(found[text][theme], found[ground][theme]) >= 4.5


def test_no_color_is_written_outside_of_the_themes():
    rules = re.sub(r"--[\w-]+: light-dark\([^;]*;", "", CSS)
    named = set(re.findall(r"#[0-9a-f]{6}", rules))
    # Paper is white and its text black.
    assert named == {"#000000", "#333333", "#ffffff"}


def test_the_script_takes_texts_for_texts():
    script = (Path(__file__).parents[1] / "robustgen/templates/report.js").read_text()
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "eval(", "Function("):
        assert word not in script
    for word in ("localStorage", "sessionStorage", "cookie", "fetch(", "XMLHttp"):
        assert word not in script


def test_names_stay_inside_their_places(page: Path):
    text = page.read_text()
    assert "</script><script>document" not in text
    assert text.count("<script") == text.count("</script>") == 2
    data = text.split('id="galleries">')[1].split("</script>")[0]
    galleries = json.loads(data)
    assert galleries["pair1"]["cards"][0]["label"] == NASTY
    assert html.escape(NASTY, quote=False).split("|")[0] not in data


def test_a_share_and_its_interval_come_apart():
    assert share_parts("+0.100 [-0.018, +0.404]") == ("+0.100", "[-0.018, +0.404]")
    assert share_parts("–") == ("–", "")


def test_every_verdict_has_color_mark_and_word(page: Path):
    text = page.read_text()
    assert (
        text.count('<span class="mark suspect" role="img" aria-label="SUSPECT"') == 20
    )
    assert (
        text.count('<span class="mark trusted" role="img" aria-label="TRUSTED"') == 20
    )
    assert text.count(">?</span>") == 20
    assert '<span class="chip suspect">? 5 SUSPECT</span>' in text


def test_checks_that_failed_stand_first_and_passes_are_folded(page: Path):
    part = page.read_text().split('id="pair1-checks"')[1].split("</section>")[0]
    assert re.findall(r'data-status="(\w+)"', part) == ["fail", "warn", "pass"]
    assert part.index('class="passes"') < part.index('data-status="pass"')
    assert "What to do:</b> Do more." in part


def test_parts_stand_in_the_order_of_a_reader(page: Path):
    parts = re.findall(r'<section id="pair1-(\w+)"', page.read_text())
    assert parts == [
        "accuracy",
        "bars",
        "alpha",
        "worst",
        "checks",
        "gallery",
        "differences",
        "costs",
        "projection",
    ]


@needs_chromium
def test_a_page_opens_without_a_word_and_asks_for_nothing(opened: Browsed):
    assert opened.console == ()
    assert opened.requests == ()
    assert re.search(r'<html lang="en" data-ready="\d+"', opened.dom)
    assert not re.search(r"<title>owned", opened.dom)


@needs_chromium
def test_a_request_and_a_complaint_would_be_seen(page: Path, tmp_path: Path):
    image = '<img src="http://127.0.0.1:9/x.png">'
    (tmp_path / "open.html").write_text(image)
    assert browse(tmp_path / "open.html", tmp_path).requests == (
        "http://127.0.0.1:9/x.png",
    )
    closed = page.read_text().replace("<h2", f"{image}<h2", 1)
    (tmp_path / "closed.html").write_text(closed)
    found = browse(tmp_path / "closed.html", tmp_path)
    assert found.requests == ()
    assert "Content Security Policy" in found.console[0]


@needs_chromium
def test_without_a_filter_the_first_cards_of_each_gallery_stand(opened: Browsed):
    assert opened.counts == ["20 of 20 cards match, shown 1 to 12."] * 2
    assert opened.cards[:3] == [("clean", 100), ("pgd", 100), ("clean", 101)]
    assert len(opened.cards) == 24
    # Six squares of one strip under PGD, four of a clean image.
    assert opened.dom.count("<img ") == 2 * (6 * 6 + 6 * 4)
    assert (
        opened.dom.count('alt="view 2: sample 100, pgd (oblivious), linf 8/255"') == 2
    )


@needs_chromium
@pytest.mark.parametrize(
    ("fragment", "samples", "count"),
    [
        ("attack=pgd&path=reconstruction&outcome=wrong", [107, 108, 109], 3),
        ("page=2", [106, 106, 107, 107, 108, 108, 109, 109], 20),
    ],
)
def test_an_address_opens_the_cards_that_it_names(
    page: Path, tmp_path: Path, fragment: str, samples: list[int], count: int
):
    found = browse(page, tmp_path, fragment)
    # The second gallery has filters of its own.
    assert [sample for _, sample in found.cards[:-12]] == samples
    assert found.counts[0].startswith(f"{count} of 20 cards match")
    assert found.counts[1] == "20 of 20 cards match, shown 1 to 12."
    assert found.console == ()


ADDRESSES = {
    # Under PGD the image is right once, its reconstruction 7 times, clean 9 times.
    "attack=pgd&path=reconstruction&outcome=turned": [107, 108],
    "path=reconstruction&outcome=regained": [101, 102, 103, 104, 105, 106],
    "attack=pgd&path=image&outcome=right": [100],
    "sample=104&attack=clean": [104],
    "attack=clean&outcome=turned": [],
    "attack=nobody&sample=105": [105, 105],
    "sample=105&page=99": [105, 105],
    "sample=105&page=-1": [105, 105],
}

DRIVER = """<!doctype html><meta charset="utf-8">
<iframe id="f" style="width:%(width)dpx;height:800px;border:0" src="%(page)s">
</iframe>
<pre id="result"></pre>
<script>
const wait = () => new Promise((done) => setTimeout(done, 50));
document.getElementById("f").addEventListener("load", async (event) => {
  const page = event.target.contentWindow, dom = page.document, found = {};
  const one = (name) => dom.querySelector(name);
  const cards = () => [...one("[data-cards]").children].map((c) => +c.dataset.sample);
  const select = async (name, value) => {
    const list = one(name);
    list.value = value;
    list.dispatchEvent(new page.Event("change", { bubbles: true }));
    await wait();
  };
  await wait();
  const root = dom.documentElement;
  found.wide = [root.scrollWidth, root.clientWidth];
  const tables = [...dom.querySelectorAll(".scroll")];
  found.scrolls = tables.some((e) => e.scrollWidth > e.clientWidth);
  const color = () => page.getComputedStyle(dom.body).backgroundColor;
  found.themes = [color()];
  for (const _ of "ab") { one("#theme").click(); found.themes.push(color()); }
  await select('[data-filter="attack"]', "pgd");
  await select('[data-filter="path"]', "image");
  await select('[data-filter="outcome"]', "wrong");
  found.wrong = cards();
  found.hash = page.location.hash;
  one("[data-reset]").click();
  found.reset = page.location.hash;
  one('[data-step="1"]').click();
  found.second = [page.location.hash, cards().length, one('[data-step="1"]').disabled];
  found.typed = [];
  for (const address of %(addresses)s) {
    page.location.hash = "#" + address;
    await wait();
    found.typed.push(cards());
  }
  page.location.hash = "#sample=105";
  await wait();
  await select("[data-checks]", "fail");
  const statuses = [...dom.querySelectorAll("#pair1-checks [data-status]")];
  found.checks = statuses.map((e) => !e.hidden);
  found.address = page.location.hash;
  const closed = () => dom.querySelectorAll("details:not([open])").length;
  found.closed = closed();
  page.dispatchEvent(new page.Event("beforeprint"));
  found.printing = closed();
  page.dispatchEvent(new page.Event("afterprint"));
  found.printed = closed();
  found.unlabeled = [...dom.querySelectorAll("select, button")].filter(
    (e) => !(e.closest("label") || e.textContent.trim())).length;
  found.alts = [...dom.images].filter((e) => !e.alt).length;
  document.getElementById("result").textContent = JSON.stringify(found);
});
</script>
"""


def drive(page: Path, work: Path, width: int) -> dict[str, Any]:
    """What a reader sees who uses the page at a width in pixels."""
    driver = work / "driver.html"
    settings = {"width": width, "page": page.as_uri(), "addresses": [*ADDRESSES]}
    driver.write_text(DRIVER % settings)
    flags = ("--allow-file-access-from-files", "--virtual-time-budget=20000")
    browsed = browse(driver, work, "", *flags)
    assert browsed.console == ()
    return json.loads(browsed.dom.split('<pre id="result">')[1].split("</pre>")[0])


@needs_chromium
def test_a_reader_with_a_phone_can_use_everything(page: Path, tmp_path: Path):
    found = drive(page, tmp_path, 360)
    # Tables scroll in regions of their own, the page does not.
    assert found["wide"][0] == found["wide"][1] <= 360
    assert found["scrolls"]
    light, dark = "rgb(255, 255, 255)", "rgb(20, 23, 27)"
    assert found["themes"] == [light, dark, light]
    assert found["wrong"] == list(range(101, 110))
    assert found["hash"] == "#attack=pgd&amp;path=image&amp;outcome=wrong"
    assert found["reset"] == ""
    assert found["second"] == ["#page=2", 8, True]
    assert found["typed"] == list(ADDRESSES.values())
    assert found["checks"] == [True, False, False]
    assert found["address"] == "#sample=105&amp;checks=fail"
    assert found["closed"] > 0
    assert found["printing"] == 0
    assert found["printed"] == found["closed"]
    assert found["unlabeled"] == 0
    assert found["alts"] == 0


ATTACKS = ("clean", "pgd", *(f"attack{number}" for number in range(10)))


def large_page(folder: Path, side: int) -> Path:
    """The page of 2,000 test images under 12 attacks on 5 paths, pictures of noise."""
    tables = [
        make_table(attack, split, {path: first(n // 2, n) for path in PATHS}, views=4)
        for attack in ATTACKS
        for split, n in (("val", 20), ("test", 2000))
    ]
    write_pictures(folder / "pictures", tables, side=side)
    report = report_of(tables, size=3, resamples=2)
    assert len(report.predictions) == 12 * 5 * 2020
    (folder / "report.html").write_text(to_html(report, folder / "pictures"))
    return folder / "report.html"


@pytest.mark.slow
@needs_chromium
@pytest.mark.parametrize("side", [32, 96])
def test_2000_samples_make_a_page_below_15_mb_that_opens_in_2_s(
    tmp_path: Path, side: int
):
    # Sides of the pictures of both profiles; of noise, the largest that they can be.
    page = large_page(tmp_path, side)
    assert page.stat().st_size < 15e6
    found = browse(page, tmp_path)
    assert found.counts == ["288 of 288 cards match, shown 1 to 12."]
    assert found.console == ()
    # The least of three: of more the machine's other work is to blame.
    opened = [found, browse(page, tmp_path), browse(page, tmp_path)]
    ready = [re.findall(r'data-ready="(\d+)"', one.dom)[0] for one in opened]
    assert min(map(int, ready)) < 2000
