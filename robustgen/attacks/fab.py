"""FAB."""

from robustgen.attacks.attack import Attack


def build_fab(*, steps: int, targets: int = 0) -> Attack:
    raise NotImplementedError
