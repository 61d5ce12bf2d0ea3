"""From a map to a number: how a network sums up what it sees at every place.

A pooling maps (B, K, h, w) to (B, K). Average, max and log-sum-exp may be put on features or on score maps; log-sum-exp
with learned sharpness and noisy-or are of probabilities, so they are given logits, and return the logit of what they
find. They work in float32, with the largest value subtracted before an exponential.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from cxrkit.base.labels import LabelSet


class Average(nn.Module):
    """The mean over all places."""

    def forward(self, x_BKHW: Tensor) -> Tensor:
        """Return (B, K)."""
        return x_BKHW.mean(dim=(2, 3))


class Maximum(nn.Module):
    """The largest value of all places."""

    def forward(self, x_BKHW: Tensor) -> Tensor:
        """Return (B, K)."""
        return x_BKHW.amax(dim=(2, 3))


class LogSumExp(nn.Module):
    """1/r log(1/n sum exp(r x)), between mean (r -> 0) and maximum (r -> infinity).

    Wang et al. 2017 (arXiv 1705.02315), equation 2, whose best r is 10. They subtract the largest absolute value before
    the exponential, here it is the largest value: the result is the same, and no sum can vanish.
    """

    def __init__(self, r: float = 10.0) -> None:
        super().__init__()
        self.r = r

    def forward(self, x_BKHW: Tensor) -> Tensor:
        """Return (B, K) float32."""
        x_BKN = x_BKHW.float().flatten(2)
        return (torch.logsumexp(self.r * x_BKN, dim=2) - math.log(x_BKN.shape[2])) / self.r


class AdaptiveLogSumExp(nn.Module):
    """LSE-LBA, log-sum-exp over probabilities with a sharpness that is learned and has a lower bound.

    Yao et al. 2018 (arXiv 1803.07703): p = 1/(r0 + e^beta) log(1/n sum exp((r0 + e^beta) S)), S being the sigmoid of a
    label's map; r0 >= 0 is fixed, beta is learned for each label from 0. p lies in [0, 1], and its logit is returned.
    """

    def __init__(self, labels: LabelSet, r0: float = 5.0) -> None:
        super().__init__()
        self.r0 = r0
        self.beta = nn.Parameter(torch.zeros(len(labels)))

    def forward(self, logit_BLHW: Tensor) -> Tensor:
        """Return the logit (B, L) float32 of the pooled probability."""
        probability_BLN = torch.sigmoid(logit_BLHW.float().flatten(2))
        sharpness_L1 = (self.r0 + self.beta.exp())[:, None]
        cells = math.log(probability_BLN.shape[2])
        pooled_BL = (torch.logsumexp(sharpness_L1 * probability_BLN, dim=2) - cells) / sharpness_L1[:, 0]
        return torch.logit(pooled_BL, eps=torch.finfo(torch.float32).eps)


class NoisyOr(nn.Module):
    """1 - product over all places of (1 - p): somewhere there is the finding.

    Li et al. 2018 (arXiv 1711.06373), equation 2, where 1 - p is first scaled from [0, 1] to [floor, 1], floor 0.98, so
    that the product of hundreds of factors does not vanish; 0: no scaling. It caps what a map can say: with 256 places
    p is at most 1 - 0.98^256 = 0.994. In logarithms, so that nothing rounds to 0.
    """

    def __init__(self, floor: float = 0.98) -> None:
        super().__init__()
        self.floor = floor

    def forward(self, logit_BLHW: Tensor) -> Tensor:
        """Return the logit (B, L) float32 of the probability that any place has the finding."""
        log_none_BL = log_share(-logit_BLHW.float().flatten(2), self.floor).sum(dim=2)
        return _log_any(log_none_BL) - log_none_BL

    def logit_for(self, probability: float, places: int) -> float:
        """Return the logit that all of `places` have when together they say `probability`, or half of what they can."""
        probability = min(probability, (1 - self.floor**places) / 2)
        of_one = -math.expm1(math.log1p(-probability) / places) / (1 - self.floor)
        return math.log(of_one) - math.log1p(-of_one)


def log_share(logit: Tensor, floor: float) -> Tensor:
    """Return log(floor + (1 - floor) sigmoid(logit)), elementwise and without rounding to log 0."""
    if floor == 0:
        return logsigmoid(logit)
    return torch.log(floor + (1 - floor) * torch.sigmoid(logit))


def _log_any(log_none: Tensor) -> Tensor:
    """Return log(1 - exp(log_none)), for log_none <= 0; the least of a float32 where it is 0."""
    return torch.log(-torch.expm1(log_none).clamp(max=-torch.finfo(torch.float32).tiny))
