"""Array types and arithmetic shared by several layers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def divide_or_nan(a: Floats | float, b: Floats | float) -> Floats:
    """Elementwise a / b with broadcasting; NaN where b is 0."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    undefined: Floats = np.full(np.broadcast(a, b).shape, np.nan)
    return np.divide(a, b, out=undefined, where=b != 0)
