"""Token times from cross-attention, as openai-whisper computes them, in NumPy.

A window's text is aligned to its audio by the attention of a few decoder heads: softmax over the
frames, standardised over the tokens, smoothed by a median filter and averaged over the heads. The
cheapest monotone path through the result is found by dynamic time warping (Sakoe and Chiba 1978)
in float64. `word_timing` turns token times into words.

`cross_qk` is openai-whisper's name for the scores of cross-attention before the softmax.

If all tokens attend equally to a frame, the reference divides zero by zero and loses all times
after it; here such a frame counts as no evidence.
"""

import numpy as np
from numpy.typing import NDArray

from producer.errors import LengthMismatch, OutOfRange, RankMismatch

FRAMES_PER_POSITION = 2  # mel frames (10 ms) in one position of the encoder's output
POSITIONS_PER_SECOND = 50
MEDIAN_FILTER_WIDTH = 7

# Compare-and-swap pairs after which place 3 holds the median of seven values. A test runs them on
# all 128 inputs of zeros and ones, which proves it for all (Knuth, TAOCP 5.3.4, theorem Z).
_MEDIAN_OF_7 = (
    (0, 5), (0, 3), (1, 6), (2, 4), (0, 1), (3, 5), (2, 6),
    (2, 3), (3, 6), (4, 5), (1, 4), (1, 3), (3, 4),
)  # fmt: skip

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


def token_times(cross_qk: Float32, num_frames: int, num_sot_tokens: int) -> Float64:
    """Return when each text token starts, and when the last one ends.

    Args:
        cross_qk: Attention scores before the softmax, of the alignment heads, for the tokens
            `sot sequence, no_timestamps, text, eot`: (heads, tokens, positions).
        num_frames: Mel frames of the window that are not padding.
        num_sot_tokens: Length of the sot sequence.

    Returns:
        Seconds from the start of the window, (text tokens + 1,): token i spans [i] to [i + 1].

    Raises:
        RankMismatch: `cross_qk` of another rank.
        LengthMismatch: fewer tokens than the sequence around the text has.
        OutOfRange: a negative number of frames.
    """
    return path_times(alignment_matrix(cross_qk, num_frames, num_sot_tokens))


def alignment_matrix(cross_qk: Float32, num_frames: int, num_sot_tokens: int) -> Float32:
    """Return the evidence for each text token at each position: (text tokens + 1, positions).

    Row 0 is that of `no_timestamps`, which predicts the first text token. Arguments and errors are
    those of `token_times`.
    """
    if cross_qk.ndim != 3:  # noqa: PLR2004 - heads, tokens, positions
        raise RankMismatch("alignment: cross_qk", "(heads, tokens, positions)", cross_qk.shape)
    if cross_qk.shape[1] < num_sot_tokens + 2 or not len(cross_qk):
        expected = f"one head and at least {num_sot_tokens + 2} tokens"
        raise LengthMismatch("alignment: cross_qk", expected, cross_qk.shape)
    if num_frames < 0:
        raise OutOfRange("alignment: num_frames", "at least 0", num_frames)
    num_positions = num_frames // FRAMES_PER_POSITION
    # Head by head: temporaries of one head instead of all.
    total = np.zeros((cross_qk.shape[1] - num_sot_tokens - 1, num_positions), np.float32)
    for head in cross_qk if num_positions else ():
        evidence = _standardise(_softmax(head[:, :num_positions]))[num_sot_tokens:-1]
        total += median_filter(evidence)
    total /= np.float32(len(cross_qk))
    return total


def path_times(matrix: Float32) -> Float64:
    """Return the seconds at which the best path through `alignment_matrix` enters each row."""
    text_indices, time_indices = dtw(-matrix.astype(np.float64))
    enters = np.diff(text_indices, prepend=-1) > 0
    # In a window without a whole position the path is at -1; times are never before the window.
    return np.maximum(time_indices[enters], 0) / POSITIONS_PER_SECOND


def dtw(cost: Float64) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the cheapest monotone path through a cost matrix (N, M), as row and column indices.

    On ties the step is taken from the left, as in openai-whisper's dtw: diagonal and upward steps
    must be strictly cheaper than both others. Whole anti-diagonals are computed at once, in
    N + M NumPy steps.
    """
    totals = _accumulate(cost)
    row, column = cost.shape
    path = []
    while row > 0 or column > 0:
        path.append((row - 1, column - 1))
        is_up, is_left = _move(totals, row, column)
        row -= is_up
        column -= is_left
    rows, columns = np.array(path[::-1], np.intp).T
    return rows, columns


def _accumulate(cost: Float64) -> Float64:
    """Return the cost of the path to each cell, by anti-diagonal and row: (N + M + 1, N + 1).

    Row and column 0 lie before the matrix; they cost infinity, except for the corner.
    """
    num_rows, num_columns = cost.shape
    totals = np.full((num_rows + num_columns + 1, num_rows + 1), np.inf)
    totals[0, 0] = 0.0
    # With the border's column, the next cell of an anti-diagonal is `num_columns` away.
    flat_cost = np.pad(cost, ((1, 0), (1, 0))).reshape(-1)
    for diagonal in range(2, num_rows + num_columns + 1) if num_columns else ():
        first = max(1, diagonal - num_columns)
        end = min(num_rows, diagonal - 1) + 1
        start = first * num_columns + diagonal
        cells = slice(start, start + (end - first - 1) * num_columns + 1, num_columns)
        before = totals[diagonal - 2, first - 1 : end - 1]
        above = totals[diagonal - 1, first - 1 : end - 1]
        left = totals[diagonal - 1, first:end]
        nearest = np.minimum(before, above)
        is_cheaper = (nearest < left) & (before != above)
        np.add(
            np.where(is_cheaper, nearest, left), flat_cost[cells], out=totals[diagonal, first:end]
        )
    return totals


def _move(totals: Float64, row: int, column: int) -> tuple[bool, bool]:
    """Return whether the path's last step to a cell changed the row, and the column."""
    if row == 0 or column == 0:
        return row > 0, column > 0
    before = totals[row + column - 2, row - 1]
    above, left = totals[row + column - 1, row - 1 : row + 1]
    if before < above and before < left:
        return True, True
    is_up = above < before and above < left
    return is_up, not is_up


def median_filter(values: Float32) -> Float32:
    """Return the running median of width 7 along the last axis, mirrored at both ends.

    Rows of three values or fewer are too short to mirror and are returned unchanged.
    """
    half = MEDIAN_FILTER_WIDTH // 2
    if values.shape[-1] <= half:
        return values
    padded = np.pad(values, ((0, 0),) * (values.ndim - 1) + ((half, half),), mode="reflect")
    length = values.shape[-1]
    lanes = [padded[..., shift : shift + length] for shift in range(MEDIAN_FILTER_WIDTH)]
    for low, high in _MEDIAN_OF_7:
        lanes[low], lanes[high] = (
            np.minimum(lanes[low], lanes[high]),
            np.maximum(lanes[low], lanes[high]),
        )
    return lanes[half]


def _softmax(cross_qk: Float32) -> Float32:
    weights: Float32 = np.exp(cross_qk - cross_qk.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return weights


def _standardise(weights: Float32) -> Float32:
    """Subtract each column's mean over the tokens and divide by its population deviation."""
    mean = weights.mean(axis=0, dtype=np.float64)
    std = weights.std(axis=0, dtype=np.float64).astype(np.float32)
    standardised: Float32 = weights - mean.astype(np.float32)
    standardised[:, std == 0] = 0
    np.divide(standardised, std, out=standardised, where=std > 0)
    return standardised
