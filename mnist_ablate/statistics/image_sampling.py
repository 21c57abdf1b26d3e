"""What it adds to the spread of a difference that the test images are a sample. Decides no claim.

A paired difference of one seed is a mean over the test images. With the difference d of each seed s and image i,

    d(s, i) = mean + seed(s) + image(i) + rest(s, i)

the variance over seeds has what seeds and rest add to the mean. It lacks what images add, which every seed shares. That
is estimated as in an analysis of variance with seeds and images crossed, both random (Cornfield and Tukey, Ann. Math.
Statist. 27, 1956). A paired bootstrap over images has, as its number of draws grows, the variance of the image means
alone, in which the rest is counted a second time; here it is taken off.

The interval of the mean is as wide as the root of the summed squares of both widths, that of t over the seeds and that
of the normal distribution over the images. It holds at the level of both or more, whatever their variances (Banerjee,
Sankhya 22, 1960). With Satterthwaite's degrees of freedom in their place, up to 18% of sweeps miss.
"""

import math
from collections.abc import Sequence

import numpy as np
import scipy

from mnist_ablate.image_results import decoded
from mnist_ablate.statistics.paired_tests import Floats

Weighted = Sequence[tuple[float, str]]  # the results of each trial of one seed, with its weight in the difference


def image_differences(seeds: Sequence[Weighted]) -> Floats:
    """The difference of each seed and image (seeds, images). Raises ValueError if trials have other images."""
    return np.array([sum(weight * decoded(text) for weight, text in seed) for seed in seeds])


def image_variance(differences: Floats) -> float:
    """The variance that the images add to the mean of differences (seeds, images), at least 2 of each; 0 or more."""
    seeds, images = differences.shape
    of_images = differences.mean(axis=0)
    rest = differences - of_images - differences.mean(axis=1, keepdims=True) + differences.mean()
    rest_variance = (rest**2).sum() / ((seeds - 1) * (images - 1))
    return max(0.0, float(of_images.var(ddof=1) - rest_variance / seeds)) / int(images)


def half_width(variance: float, alpha: float) -> float:
    """Half the width of the normal interval at level 1 - alpha that the images alone would give."""
    return -float(scipy.special.ndtri(alpha / 2.0)) * math.sqrt(variance)
