"""Counter-based random numbers: Philox 4x32-10, vectorised.

A counter-based generator has no state to carry: the numbers of image 7 in epoch 3 are a function of (seed, 7, 3),
whoever asks and in whatever order. Algorithm: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as
1, 2, 3" (SC 2011), section 3.3; `tests/test_plan.py` holds its published known answers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

ROUNDS = 10
_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL_0, _WEYL_1 = 0x9E3779B9, 0xBB67AE85
_LOW, _HALF = np.uint64(0xFFFFFFFF), np.uint64(32)


def philox4x32(counter: tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike], key: int) -> NDArray[np.uint32]:
    """Return four random words per counter: (4, ...) uint32.

    counter: four arrays of integers in [0, 2^32) that broadcast to a common shape; key: an integer, of which the
    lower 64 bits count.
    """
    # 32-bit words held in 64-bit lanes: a product then needs no second multiplication for its upper half.
    c0, c1, c2, c3 = np.broadcast_arrays(*(np.asarray(word, dtype=np.uint64) for word in counter))
    k0, k1 = key & 0xFFFFFFFF, (key >> 32) & 0xFFFFFFFF
    for _ in range(ROUNDS):
        p0, p1 = c0 * _MULTIPLIER_0, c2 * _MULTIPLIER_1
        c0, c1, c2, c3 = (p1 >> _HALF) ^ c1 ^ np.uint64(k0), p1 & _LOW, (p0 >> _HALF) ^ c3 ^ np.uint64(k1), p0 & _LOW
        k0, k1 = (k0 + _WEYL_0) & 0xFFFFFFFF, (k1 + _WEYL_1) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3]).astype(np.uint32)


def uniform(words: NDArray[np.uint32]) -> NDArray[np.float64]:
    """Return `words` as numbers in [0, 1), in steps of 2^-32."""
    return words.astype(np.float64) * 2.0**-32


def join(high: NDArray[np.uint32], low: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """Return the 64-bit integers made of two words each."""
    return (high.astype(np.uint64) << _HALF) | low.astype(np.uint64)
