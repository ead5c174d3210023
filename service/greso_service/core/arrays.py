"""Arrays that grow: amortised appending to numpy arrays, the memory behind the folded state."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def grown(array: NDArray[Any], size: int) -> NDArray[Any]:
    """`array` itself when it has room for `size` rows, else a copy of twice the room, zero-filled behind the old rows.

    New rows come from `np.zeros`, so room not yet used costs address space, not memory.
    """
    if size <= len(array):
        return array
    wider = np.zeros((max(size, 2 * len(array), 64), *array.shape[1:]), dtype=array.dtype)
    wider[: len(array)] = array
    return wider
