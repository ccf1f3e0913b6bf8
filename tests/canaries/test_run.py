"""Running canaries: what counts as a failure, and what is printed."""

from robustgen.canaries import CanaryResult, canaries_text, run_canaries
from robustgen.canaries.result import Canary, Found
from robustgen.canaries.run import all_canaries


def broken() -> Found:
    raise ZeroDivisionError("no images")


FINE = Canary("fine", "1", lambda: Found("1", passed=True))
WRONG = Canary("wrong", "1", lambda: Found("2", passed=False))
BROKEN = Canary("broken", "1", broken)


class Told:
    """Progress that counts."""

    def __init__(self) -> None:
        self.total = self.done = 0

    def start(self, stage: str, total: int) -> None:
        assert stage == "canaries"
        self.total = total

    def advance(self, count: int = 1) -> None:
        self.done += count


def test_a_canary_that_raises_has_failed_and_the_others_still_run():
    told = Told()
    results = run_canaries(canaries=[BROKEN, FINE, WRONG], progress=told)
    assert [result.passed for result in results] == [False, True, False]
    assert results[0].found == "ZeroDivisionError: no images"
    assert (told.total, told.done) == (3, 3)
    assert all(result.seconds >= 0 for result in results)


def test_the_text_names_what_failed_and_says_what_follows():
    good = CanaryResult("coin", "0.90", "0.91", passed=True, seconds=1.0)
    bad = CanaryResult("linear", "0.50", "0.60", passed=False, seconds=2.0)
    assert canaries_text([good]) == (
        "ok   coin (1.0 s)\n"
        "       expected: 0.90\n"
        "       found:    0.91\n"
        "1 canaries as they must be (1 s)"
    )
    text = canaries_text([good, bad])
    assert "FAIL linear (2.0 s)" in text
    assert "1 of 2 canaries failed: no number of this installation" in text


def test_canaries_have_different_names():
    names = [canary.name for canary in all_canaries()]
    assert len(set(names)) == len(names) >= 14
