"""The gate as JUnit XML, which CI systems show as tests: one test case per row."""

import re
import xml.etree.ElementTree as ET

from robustgen.gate.judging import Judgment
from robustgen.gate.rendering import explain, flips_text, headline
from robustgen.gate.report import GateReport
from robustgen.grids import share_text

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, escaped or not."""


def to_junit(report: GateReport) -> str:
    """The text of gate.xml.

    A row that fails is a `failure`, a refused one an `error`; an undecided one passes
    and says so in `system-out`.
    """
    failures = sum(report.fails(row) for row in report.rows)
    errors = sum(row.verdict == "refused" for row in report.rows)
    counts = {
        "name": f"robustgen gate {report.suite}",
        "tests": str(len(report.rows)),
        "failures": str(failures),
        "errors": str(errors),
        "skipped": "0",
        "time": "0",
    }
    suites = _element("testsuites", counts)
    suite = ET.SubElement(suites, "testsuite", suites.attrib)
    properties = ET.SubElement(suite, "properties")
    for name, value in (
        ("profile", report.profile),
        ("baseline", report.baseline),
        ("margin", f"{report.margin:g}"),
        ("alpha", f"{report.alpha:g}"),
    ):
        properties.append(_element("property", {"name": name, "value": value}))
    for place, row in enumerate(report.rows):
        suite.append(_case(report, place, row))
    ET.SubElement(suite, "system-out").text = _clean(
        "\n".join((headline(report), *report.notes))
    )
    ET.indent(suites, " ")
    text = ET.tostring(suites, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _case(report: GateReport, place: int, row: Judgment) -> ET.Element:
    name = row.name
    case = _element(
        "testcase",
        {
            "classname": f"{report.suite}.{name.dataset}.{name.classifier}",
            "name": str(name),
            "time": "0",
        },
    )
    said = explain(report, place)
    if row.verdict == "refused":
        kind = "error"
    elif report.fails(row):
        kind = "failure"
    else:
        numbers = share_text(row.difference, row.low, row.high, sign=True)
        ET.SubElement(case, "system-out").text = _clean(
            said or f"{row.verdict}: {numbers}, flips {flips_text(row)}"
        )
        return case
    fault = _element(kind, {"type": row.verdict, "message": said})
    fault.text = _clean(said)
    case.append(fault)
    return case


def _element(tag: str, attributes: dict[str, str]) -> ET.Element:
    return ET.Element(tag, {key: _clean(value) for key, value in attributes.items()})


def _clean(text: str) -> str:
    return _NOT_XML.sub("�", text)
