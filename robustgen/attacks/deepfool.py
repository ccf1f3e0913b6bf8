"""DeepFool."""

from robustgen.attacks.attack import Attack


def build_deepfool(*, steps: int, overshoot: float = 0.02, classes: int = 10) -> Attack:
    raise NotImplementedError
