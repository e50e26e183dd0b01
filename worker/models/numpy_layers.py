"""Layers of networks in NumPy, and how their weights lie in memory. N outputs, D width."""

from dataclasses import dataclass

import numpy as np

from worker.models.numpy_math import FloatArray, Threads, product

NORM_EPS = np.float32(1e-5)


@dataclass(frozen=True)
class Norm:
    """Layer normalisation over the last axis; weight and bias are (D,)."""

    weight: FloatArray
    bias: FloatArray

    def __call__(self, x: FloatArray) -> FloatArray:
        """Return x (..., D) with mean 0 and variance 1, times the weight, and the bias added."""
        share = np.float32(1 / x.shape[-1])
        total: FloatArray = np.add.reduce(x, axis=-1, keepdims=True)
        normalized = x - total * share
        squared = np.vecdot(normalized, normalized)[..., None]
        normalized /= np.sqrt(squared * share + NORM_EPS)
        normalized *= self.weight
        normalized += self.bias
        return normalized


@dataclass(frozen=True)
class Linear:
    """A linear layer: a weight (N, D), laid out in any way, and a bias (N,)."""

    weight: FloatArray
    bias: FloatArray

    def __call__(self, x: FloatArray, threads: Threads) -> FloatArray:
        """Return x weight' + bias, (..., N), of x (..., D)."""
        result = product(x.reshape(-1, x.shape[-1]), self.weight, threads)
        result += self.bias
        return result.reshape(*x.shape[:-1], -1)

    def alone(self, x: FloatArray) -> FloatArray:
        """Return the same of many rows x (B, D), in this thread."""
        result: FloatArray = x @ self.weight.T
        result += self.bias
        return result


def by_columns(weight: FloatArray) -> FloatArray:
    """Return a weight (N, D) laid out column by column, as the BLAS reads it fastest."""
    return np.asfortranarray(weight)


def for_few_rows(weight: FloatArray) -> FloatArray:
    """Return a weight (N, D) laid out row by row, as `product` reads it fastest for few rows."""
    return np.ascontiguousarray(weight)
