"""Square."""

from robustgen.attacks.attack import Attack


def build_square(*, queries: int, p_init: float = 0.8) -> Attack:
    raise NotImplementedError
