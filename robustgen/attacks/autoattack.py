"""AutoAttack."""

from robustgen.attacks.attack import Attack


def build_autoattack(
    *, steps: int = 100, queries: int = 5000, targets: int = 9
) -> Attack:
    raise NotImplementedError
