"""The regression gate: a run against a baseline, sample by sample.

What it tests, how to read it, and how to sign a change off: docs/gate.md.
"""

from robustgen.gate.baseline import Baseline, load_baseline, save_baseline
from robustgen.gate.comparable import refusals, request_refusals
from robustgen.gate.judging import ALPHA, MARGIN, Judgment, judge
from robustgen.gate.report import GateReport, check_run, write_baseline
from robustgen.gate.snapshot import take_snapshot, trusted_part

__all__ = [
    "ALPHA",
    "MARGIN",
    "Baseline",
    "GateReport",
    "Judgment",
    "check_run",
    "judge",
    "load_baseline",
    "refusals",
    "request_refusals",
    "save_baseline",
    "take_snapshot",
    "trusted_part",
    "write_baseline",
]
