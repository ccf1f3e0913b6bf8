"""MI-FGSM."""

from robustgen.attacks.attack import Attack


def build_mifgsm(*, steps: int, step_size: float, decay: float = 1.0) -> Attack:
    raise NotImplementedError
