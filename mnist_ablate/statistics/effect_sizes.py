"""How large a paired difference is: standardized, and how often the treatment is the better one.

These numbers stand beside the verdicts. No verdict depends on them. Formulas and sources, of Hedges' g_z with its
noncentral t interval (Lakens; Cumming and Finch) and of the probability of improvement with Wilson's score interval
(Agarwal et al.): docs/explanation/statistics.md.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike

from mnist_ablate.statistics.claim_verdict import ClaimVerdict
from mnist_ablate.statistics.claims.kind import kind_of
from mnist_ablate.sweep.claim import Claim


@dataclass(frozen=True)
class Size:
    """An estimate with its confidence limits; nan where there is none."""

    value: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True)
class ClaimSizes:
    """How large a claim's difference is; a difference of two differences has no `improvement`."""

    name: str
    standardized: Size
    improvement: Size | None


UNKNOWN = Size(math.nan, math.nan, math.nan)
_FAR, _LARGEST_T = 150.0, 1e5
"""Noncentralities and t from which on the limit for large ones is used: there scipy is slow, or does not return, and is
wrong for small probabilities. They agree to 1e-4 for up to 1,000 values, to 2e-3 for 10,000."""


def sizes(claims: Sequence[Claim], verdicts: Sequence[ClaimVerdict], levels: Sequence[float]) -> list[ClaimSizes]:
    """The sizes of each claim; `levels` are the error rates of their intervals."""
    found = []
    for claim, verdict, level in zip(claims, verdicts, levels, strict=True):
        values = np.array([*map(verdict.logarithm, verdict.differences.values())], dtype=np.float64)
        sign = -1.0 if claim.about.better == "lower" else 1.0
        has_better = claim.versus is None and kind_of(claim).is_paired_difference
        better = None if not has_better else improvement(sign * values, level, verdict.rounding)
        found.append(ClaimSizes(claim.name, standardized(values, level, verdict.rounding), better))
    return found


def standardized(differences: ArrayLike, alpha: float, rounding: float = 0.0) -> Size:
    """Hedges' g_z of paired differences and its interval at level 1 - alpha.

    Unknown below two differences, and where they do not differ by more than `rounding`.
    """
    d = np.asarray(differences, dtype=np.float64)
    if d.size <= 1 or float(np.ptp(d)) <= rounding:
        return UNKNOWN
    d, root, freedom = d / float(np.abs(d).max()), math.sqrt(d.size), d.size - 1  # squares of the largest overflow
    t = float(d.mean() / d.std(ddof=1)) * root
    scale = correction(freedom) / root
    return Size(scale * t, *(scale * _noncentrality(t, freedom, p) for p in (1.0 - alpha / 2.0, alpha / 2.0)))


def _noncentrality(t: float, freedom: int, p: float) -> float:
    """Of the t distribution that is below `t` with probability p: scipy's answer, six digits, and secant steps.

    A large one is a quantile of t * sqrt(chi2 / freedom) - z, which the small z, of variance 1, moves by -1/2 of the
    slope of the log density.
    """
    s = math.sqrt(float(scipy.special.chdtri(freedom, p if t > 0.0 else 1.0 - p)) / freedom)
    if abs(t) * s >= _FAR or abs(t) >= _LARGEST_T:
        return t * s + (freedom * s - (freedom - 1) / s) / (2.0 * t)
    now = float(scipy.special.nctdtrinc(freedom, p, t))
    last = now * (1.0 + 1e-6) + 1e-6
    for _ in range(3):
        missed, before = (float(scipy.special.nctdtr(freedom, at, t)) - p for at in (now, last))
        if missed == before or not math.isfinite(missed - before):
            break
        last, now = now, now - missed * (now - last) / (missed - before)
    return now


def correction(freedom: int) -> float:
    """Hedges' J, which takes the bias from a standardized mean whose spread has so many degrees of freedom."""
    half = freedom / 2.0
    if half <= 0.5:  # noqa: PLR2004 - the mean of t with one degree of freedom does not exist
        return math.nan
    return math.exp(scipy.special.gammaln(half) - scipy.special.gammaln(half - 0.5)) / math.sqrt(half)


def improvement(differences: ArrayLike, alpha: float, rounding: float = 0.0) -> Size:
    """The share of pairs in which the treatment is larger, those within `rounding` counted half, and its interval."""
    d = np.asarray(differences, dtype=np.float64)
    if not d.size:
        return UNKNOWN
    share = float((d > rounding).sum() + 0.5 * (np.abs(d) <= rounding).sum()) / d.size
    z = -float(scipy.special.ndtri(alpha / 2.0))
    spread = z * math.sqrt(share * (1.0 - share) / d.size + (z / (2.0 * d.size)) ** 2)
    center, scale = share + z**2 / (2.0 * d.size), 1.0 + z**2 / d.size
    return Size(share, max(0.0, (center - spread) / scale), min(1.0, (center + spread) / scale))
