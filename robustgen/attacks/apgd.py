"""APGD."""

from robustgen.attacks.attack import Attack


def build_apgd(
    *, steps: int, restarts: int = 1, loss: str = "ce", targets: int = 0, draws: int = 1
) -> Attack:
    raise NotImplementedError
