"""Measures, truthfully, how much a generative defense protects an image classifier.

`import robustgen as rg` is cheap: each name below loads its module, and torch if that
needs it, when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robustgen.classifiers.load import load_classifier
    from robustgen.domain import Domain, load_domain
    from robustgen.errors import RequestError, RobustgenError
    from robustgen.gan.latents import load_latents, save_latents
    from robustgen.gan.load import load_encoder, load_gan
    from robustgen.perceptual import load_perceptual
    from robustgen.projectors.loss import ProjectionLoss
    from robustgen.projectors.method import Projection
    from robustgen.projectors.projector import Projector
    from robustgen.report import load_report
    from robustgen.report_schema import Report
    from robustgen.runner import run
    from robustgen.score import score_predictions
    from robustgen.suite import Suite, load_suite, resolve_cases
    from robustgen.threat import Threat

__all__ = [
    "Domain",
    "Projection",
    "ProjectionLoss",
    "Projector",
    "Report",
    "RequestError",
    "RobustgenError",
    "Suite",
    "Threat",
    "__version__",
    "load_classifier",
    "load_domain",
    "load_encoder",
    "load_gan",
    "load_latents",
    "load_perceptual",
    "load_report",
    "load_suite",
    "resolve_cases",
    "run",
    "save_latents",
    "score_predictions",
]

__version__ = "0.1.0"

_HOMES = {
    "Domain": "robustgen.domain",
    "Projection": "robustgen.projectors.method",
    "ProjectionLoss": "robustgen.projectors.loss",
    "Projector": "robustgen.projectors.projector",
    "Report": "robustgen.report_schema",
    "RequestError": "robustgen.errors",
    "RobustgenError": "robustgen.errors",
    "Suite": "robustgen.suite",
    "Threat": "robustgen.threat",
    "load_classifier": "robustgen.classifiers.load",
    "load_domain": "robustgen.domain",
    "load_encoder": "robustgen.gan.load",
    "load_gan": "robustgen.gan.load",
    "load_latents": "robustgen.gan.latents",
    "load_perceptual": "robustgen.perceptual",
    "load_report": "robustgen.report",
    "load_suite": "robustgen.suite",
    "resolve_cases": "robustgen.suite",
    "run": "robustgen.runner",
    "save_latents": "robustgen.gan.latents",
    "score_predictions": "robustgen.score",
}


def __getattr__(name: str) -> Any:
    """Loads a public name from its module on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module 'robustgen' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
