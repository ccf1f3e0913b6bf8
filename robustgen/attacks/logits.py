"""What attacks ask of logits: a margin, and a module that torchattacks accepts."""

from typing import final

import torch
from torch import nn

from robustgen.types import Images, Labels, Logits, LogitsFn, PerSample


def margin(logits: Logits, labels: Labels) -> PerSample:
    """Lead of the best wrong class over the true one; above 0, the image is broken.

    Another class is found by masking the true one with minus infinity, so that logits
    that are all negative, such as log-probabilities, work like any others.

    >>> margin(torch.tensor([[2.0, -1.0], [-9.0, -8.0]]), torch.tensor([0, 0]))
    tensor([-3.,  1.])
    """
    true = labels[:, None]
    wrong = logits.scatter(1, true, -torch.inf).amax(dim=1)
    return wrong - logits.gather(1, true)[:, 0]


@final
class LogitsModule(nn.Module):
    """A function of images as the `nn.Module` that torchattacks insists on.

    torchattacks reads its device from the first parameter, so there is one. It also
    switches the modes of the module it attacks; the function is kept out of its reach,
    so that what lies behind it stays as it was. And it stops with an error where a
    classifier passes no gradient back: here that gradient is zero.
    """

    def __init__(self, logits_fn: LogitsFn, device: torch.device) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros((), device=device), requires_grad=False)
        self.hidden = (logits_fn,)  # a tuple: a module here would be registered
        self.eval()

    def forward(self, images: Images) -> Logits:
        logits = self.hidden[0](images)
        if (
            images.requires_grad
            and torch.is_grad_enabled()
            and not logits.requires_grad
        ):
            logits = logits + 0 * images.flatten(1).sum(dim=1, keepdim=True)
        return logits
