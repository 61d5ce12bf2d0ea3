"""The dense layer at every place of a feature map: class activation maps.

Zhou et al. 2016 (arXiv 1512.04150), section 2: M_c(x, y) = sum over k of w_ck f_k(x, y). Here the bias, and what age,
sex and view add, stand at every place too, so that with average pooling the mean of a label's map is its logit.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d


def dense_at_every_place(fc: nn.Linear, x_BCHW: Tensor, meta_BM: Tensor | None = None) -> Tensor:
    """Return (B, L, h, w) float32: what `fc` says of each place's features, and of the metadata behind them."""
    channels = x_BCHW.shape[1]
    with torch.autocast(x_BCHW.device.type, enabled=False):
        maps = conv2d(x_BCHW.float(), fc.weight[:, :channels, None, None], fc.bias)
        if meta_BM is not None:
            maps = maps + (meta_BM.float() @ fc.weight[:, channels:].T)[:, :, None, None]
    return maps
