"""A threshold with a stated error rate, whatever the scores' distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tunesmith.errors import UserError
from tunesmith.stats.clusters import group_codes


def conformal_threshold(scores: npt.ArrayLike, groups: Sequence[str], rate: float) -> float:
    """The lowest threshold that at most ``rate`` of the groups that come next are expected to reach.

    ``scores``: shape (rows,), of the rows that ought to stay below. Split conformal prediction (Vovk et al.
    2005) with groups as the unit: at most ⌊rate·(G + 1)⌋ − 1 of the G groups have a row at or above the
    threshold. Then the chance that any row of a new group has one is at most ``rate``. Raises UserError (exit
    code 3) with fewer than 1/rate − 1 groups, ValueError for a rate outside (0, 1).
    """
    if not 0 < rate < 1:
        raise ValueError(f"a rate lies between 0 and 1, got {rate}")
    codes = group_codes(groups)
    number = int(codes.max()) + 1 if len(codes) else 0
    # The small number keeps 0.05·20 from falling short of 1.
    may_reach = math.floor(rate * (number + 1) + 1e-9) - 1
    if may_reach < 0:
        least = math.ceil(1 / rate - 1e-9) - 1
        raise UserError(
            f"a false-accept rate of {rate:.1%} needs out-of-scope validation rows in at least {least} "
            f"groups, found {number}",
            "collect more rows that no label fits, or allow a higher rate",
            exit_code=3,
        )
    highest = np.full(number, -np.inf)
    np.maximum.at(highest, codes, np.asarray(scores, dtype=np.float64))
    # Just above the first group that must not reach it.
    return float(np.nextafter(np.sort(highest)[::-1][may_reach], np.inf))
