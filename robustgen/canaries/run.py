"""All canaries, one after the other."""

import time
from collections.abc import Iterable, Sequence

from robustgen.canaries import digits, linear, planted, suites
from robustgen.canaries.coin import Coin, coin_canary
from robustgen.canaries.result import Canary, CanaryResult, Found
from robustgen.catalog import build_attack
from robustgen.classifiers.load import load_classifier
from robustgen.data.digits import load_digits
from robustgen.gan.load import load_gan
from robustgen.library import load_attack
from robustgen.progress import Progress, Silent

COUNT = 30
"""Images of digits in each canary that runs no suite."""

SUITE_COUNT = 20
"""Test images of each planted defense."""


def run_canaries(
    *, progress: Progress | None = None, canaries: Iterable[Canary] | None = None
) -> tuple[CanaryResult, ...]:
    """Evaluates subjects whose robustness is known, and compares.

    A canary that raises has failed; the others are evaluated all the same.

    Args:
        progress: Told of every canary.
        canaries: Which; by default all of `all_canaries`.
    """
    told = Silent() if progress is None else progress
    chosen = all_canaries() if canaries is None else tuple(canaries)
    told.start("canaries", len(chosen))
    results: list[CanaryResult] = []
    for canary in chosen:
        began = time.monotonic()
        try:
            found = canary.check()
        except Exception as error:  # whatever it is, the other canaries still count
            found = Found(f"{type(error).__name__}: {error}", passed=False)
        seconds = time.monotonic() - began
        results.append(
            CanaryResult(
                canary.name, canary.expected, found.text, found.passed, seconds
            )
        )
        told.advance()
    return tuple(results)


def canaries_text(results: Sequence[CanaryResult]) -> str:
    """One block of lines for each canary, and the sum of them."""
    lines: list[str] = []
    for result in results:
        mark = "ok  " if result.passed else "FAIL"
        lines += [
            f"{mark} {result.name} ({result.seconds:.1f} s)",
            f"       expected: {result.expected}",
            f"       found:    {result.found}",
        ]
    failed = sum(not result.passed for result in results)
    seconds = sum(result.seconds for result in results)
    verdict = (
        f"{failed} of {len(results)} canaries failed: no number of this installation "
        "can be believed before the reason is known."
        if failed
        else f"{len(results)} canaries as they must be"
    )
    return "\n".join([*lines, f"{verdict} ({seconds:.0f} s)"])


def all_canaries() -> tuple[Canary, ...]:
    """The canaries of `robustgen doctor --canaries`."""
    return (
        Canary(
            "linear classifier, linf",
            "every attack breaks exactly the images of the closed form",
            lambda: linear.linf_canary(
                linear.linf_problem(), linear.shipped_attacks("linf", linear.LINF_EPS)
            ),
        ),
        Canary(
            "linear classifier, l2",
            "every attack breaks exactly the images near enough to the plane",
            lambda: linear.l2_canary(
                linear.l2_problem(), linear.shipped_attacks("l2", linear.L2_EPS)
            ),
        ),
        Canary(
            "coin, right with probability 0.9",
            "0.90 within the interval of every tier",
            lambda: coin_canary(Coin()),
        ),
        Canary(
            "undefended classifier under CW",
            "99% of correctly classified images turned, whatever the logits' sign",
            _cw,
        ),
        Canary(
            "input quantized to 8 levels",
            "all gradients 0, so its own are of no use; bpda_identity breaks it",
            _quantized,
        ),
        Canary(
            "identity as projection",
            "every tier leaves each image as it leaves the undefended classifier",
            _identity,
        ),
        Canary(
            "constant defense",
            "the share of its class under every tier",
            _constant,
        ),
        Canary(
            "constant defense, through a suite",
            "INVALID in every row, with the share of its class",
            _constant_suite,
        ),
        *(_planted(name) for name in suites.PLANTED),
        Canary(
            "control trained on attacked images",
            "TRUSTED, and no tier leaves less than PGD beyond chance",
            lambda: suites.judge_control(
                suites.accuracy_of(suites.CONTROL, count=SUITE_COUNT)
            ),
        ),
    )


def _cw() -> Found:
    classifier = load_classifier("digits")
    attack, _ = build_attack(load_attack("cw"), ())
    sample = digits.correct_digits(classifier, COUNT)
    return digits.cw_canary(classifier, attack, sample)


def _quantized() -> Found:
    classifier = load_classifier("digits")
    sample = digits.correct_digits(classifier, COUNT)
    return digits.masked_canary(planted.rounding(8), classifier, sample)


def _identity() -> Found:
    classifier = load_classifier("digits")
    projector = digits.IdentityProjector(load_gan("digits"))
    sample = digits.correct_digits(classifier, COUNT)
    return digits.identity_canary(projector, classifier, sample)


def _constant() -> Found:
    classifier = load_classifier("digits")
    sample = digits.correct_digits(classifier, COUNT)
    return digits.constant_canary(planted.constant(), classifier, sample)


def _constant_suite() -> Found:
    labels = load_digits().part("test", SUITE_COUNT).labels
    prior = float((labels == planted.CONSTANT).mean())
    rows = suites.accuracy_of("constant", count=SUITE_COUNT)
    return suites.judge_constant(rows, prior)


def _planted(name: str) -> Canary:
    return Canary(
        f"planted defense: {name}",
        "flagged, or broken by some tier to within 0.05 of the undefended accuracy",
        lambda: suites.judge_planted(suites.accuracy_of(name, count=SUITE_COUNT)),
    )
