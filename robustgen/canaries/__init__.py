"""Subjects whose robustness is known: does the evaluation find it?

A number of this harness is worth what it says of these. Closed forms, classifiers that
fool weak evaluations, and weak defenses planted as a user would bring them.
"""

from robustgen.canaries.result import CanaryResult
from robustgen.canaries.run import canaries_text, run_canaries

__all__ = ["CanaryResult", "canaries_text", "run_canaries"]
