"""EOT-PGD."""

from robustgen.attacks.attack import Attack


def build_eotpgd(
    *, steps: int, step_size: float, draws: int, random_start: bool = True
) -> Attack:
    raise NotImplementedError
