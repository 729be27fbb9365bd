"""Differential entropy of features under a Gaussian, from running moments. Knows tensors only.

FastAdaSP (arXiv 2410.03007) chooses the layer of its one-layer reduction by such entropies of the
final features, after Lin et al. ("MLP Can Be a Good Transformer Learner", CVPR 2024), whose code
sums the log standard deviation of every channel: the entropy of a Gaussian with independent
channels, but for a constant. That is the default here. `joint` takes the whole covariance instead.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_FLOOR = 1e-12
"""Least variance, as a share of the mean square of a channel, and least eigenvalue of correlations:
about what rounding leaves of a float32 that does not vary."""


class GaussianEntropy:
    """Count, mean and spread of features in float64; no feature is kept.

    Batches are merged by Chan, Golub and LeVeque's rule ("Updating Formulae and a Pairwise
    Algorithm for Computing Sample Variances", 1979), which does not subtract large sums.

    Args:
        joint: with the covariances: channels ** 2 numbers instead of channels.

    Attributes:
        count: features seen.
    """

    def __init__(self, *, joint: bool = False) -> None:
        self.count = 0
        self._joint = joint
        self._mean = torch.zeros(0)
        self._spread = torch.zeros(0)  # summed products of deviations from the mean

    @property
    def channels(self) -> int:
        """Width of the features, 0 before the first."""
        return len(self._mean)

    def add(self, features: Tensor) -> None:
        """Take features, (count, channels), any float dtype; none is fine."""
        exact = features.cpu() if features.device.type == "mps" else features
        rows = exact.double()
        batch = GaussianEntropy(joint=self._joint)
        batch.count, batch._mean = len(rows), rows.mean(0)
        rows = rows - batch._mean
        batch._spread = rows.T @ rows if self._joint else rows.square().sum(0)
        self.merge(batch)

    def merge(self, other: GaussianEntropy) -> None:
        """Take what another one saw, which stays as it is."""
        if not other.count:
            return
        if not self.count:
            self.count = other.count
            self._mean, self._spread = other._mean.clone(), other._spread.clone()
            return
        total = self.count + other.count
        apart = other._mean - self._mean
        products = torch.outer(apart, apart) if self._joint else apart.square()
        self._spread += other._spread + products * (self.count * other.count / total)
        self._mean += apart * (other.count / total)
        self.count = total

    def nats(self) -> float:
        """Entropy in nats, with the unbiased variances: ln det(2 pi e C) / 2.

        C is the covariance, or its diagonal unless `joint`. A channel that does not vary (or, if
        joint, a direction: features of fewer dimensions than channels) counts with a least
        variance. It is not left out, as a pseudo-determinant would: both sides of a difference
        must have the same number of terms.

        Raises:
            ValueError: fewer than two features; if joint, no more features than channels.
        """
        least = self.channels + 1 if self._joint else 2
        if self.count < max(least, 2):
            raise ValueError(f"{self.count} features are too few, {max(least, 2)} are the least")
        covariance = self._spread / (self.count - 1)
        variances = covariance.diagonal() if self._joint else covariance
        floors = _FLOOR * (variances + self._mean.square())
        variances = variances.maximum(floors.clamp_min(torch.finfo(torch.float64).tiny))
        logs = variances.log()
        if self._joint:
            deviations = variances.sqrt()
            correlation = (covariance / deviations).T / deviations
            correlation.fill_diagonal_(1)
            logs = logs + torch.linalg.eigvalsh(correlation).clamp_min(_FLOOR).log()
        return 0.5 * (self.channels * math.log(2 * math.pi * math.e) + float(logs.sum()))
