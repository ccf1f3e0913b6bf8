"""Attacks, and the one place that runs them.

`run_attack` is trusted, an attack is not: whatever an attack returns is brought back
into the threat set, checked and measured there. An attack of your own is any function
of the type `Attack`.
"""

from robustgen.attacks.apgd import build_apgd as build_apgd
from robustgen.attacks.attack import Attack as Attack
from robustgen.attacks.attack import AttackOutcome as AttackOutcome
from robustgen.attacks.attack import run_attack as run_attack
from robustgen.attacks.autoattack import build_autoattack as build_autoattack
from robustgen.attacks.clean import build_clean as build_clean
from robustgen.attacks.corruptions import build_corruption as build_corruption
from robustgen.attacks.corruptions import build_gaussian_blur as build_gaussian_blur
from robustgen.attacks.corruptions import build_gaussian_noise as build_gaussian_noise
from robustgen.attacks.corruptions import build_jpeg as build_jpeg
from robustgen.attacks.cw import build_cw as build_cw
from robustgen.attacks.deepfool import build_deepfool as build_deepfool
from robustgen.attacks.eotpgd import build_eotpgd as build_eotpgd
from robustgen.attacks.fab import build_fab as build_fab
from robustgen.attacks.fgsm import build_fgsm as build_fgsm
from robustgen.attacks.mifgsm import build_mifgsm as build_mifgsm
from robustgen.attacks.pgd import build_pgd as build_pgd
from robustgen.attacks.rand_fgsm import build_rand_fgsm as build_rand_fgsm
from robustgen.attacks.square import build_square as build_square
