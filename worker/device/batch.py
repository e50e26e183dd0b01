"""The rows of a batch, and everything that has a row for each of them."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
from mlx.utils import tree_map

from worker.device.row import Row
from worker.device.rules import BatchedRules, State
from worker.device.sampling import BatchedSampling
from worker.device.speech_model import SpeechModel

# Caches are as long as their longest row needs, in these steps: attention reads all of it.
LENGTH_STEP = 128


class Batch:
    """Rows that are stepped together; they join into places that others have left.

    The number of rows grows when rows join and shrinks when half have left, so that no step pays
    for many empty rows.

    Args:
        model: Resizes its caches.
        max_rows: Most rows.
        pad_rows: Hold a power of two of rows, so that few shapes are ever seen.

    Attributes:
        rows: What each place holds; None where a row has left.
        cache: The model's, any tree of arrays with rows on their first axis.
        state: What rows remember of themselves; see `rules.start_state`.
        rules, sampling: Each place's own.
        length: Tokens that the cache has room for in each row.
    """

    rules: BatchedRules
    sampling: BatchedSampling

    def __init__(self, model: SpeechModel, max_rows: int, *, pad_rows: bool) -> None:
        self._model = model
        self._max_rows = max_rows
        self._pad_rows = pad_rows
        self.rows: list[Row | None] = []
        self.cache: Any = None
        self.state: State = {}
        self.length = 0

    @property
    def num_active(self) -> int:
        """Rows that have not left."""
        return len(self.rows) - self.rows.count(None)

    @property
    def arrays(self) -> tuple[Any, ...]:
        """All that a step reads."""
        return self.cache, self.state, self.rules.arrays, self.sampling.arrays

    def join(self, rows: Sequence[Row], cache: Any, state: State) -> None:
        """Give rows a place; `cache` and `state` are theirs alone, from their prefill."""
        length = self._length_for(rows)
        cache = self._model.resize_cache(cache, length)
        if self.num_active == 0:
            self.rows, self.cache, self.state, self.length = list(rows), cache, state, length
            self._resize(len(rows))
            return
        if length != self.length:
            self.cache, self.length = self._model.resize_cache(self.cache, length), length
        wanted = self.num_active + len(rows)
        if wanted > len(self.rows):
            self._resize(wanted)
        self._write(rows, cache, state)

    def leave(self, row: Row) -> bool:
        """Empty a row's place; False if it has none."""
        if row not in self.rows:
            return False
        place = self.rows.index(row)
        self.rows[place] = None
        self.sampling.clear_row(place)
        return True

    def fit_rows(self) -> bool:
        """Move the rows together if half have left; return whether anything was moved."""
        if 2 * self.num_active > len(self.rows):
            return False
        self._resize(self.num_active)
        return True

    def fit_length(self) -> bool:
        """Make room for one more token in the longest row; return whether the cache has grown."""
        length = self._length_for([])
        if length <= self.length:
            return False
        self.cache, self.length = self._model.resize_cache(self.cache, length), length
        return True

    def _length_for(self, joining: Sequence[Row]) -> int:
        """Return the cache length for the active rows and these."""
        rows = [row for row in self.rows if row is not None]
        longest = max(row.length for row in (*rows, *joining)) + 1
        return min(self._model.context_length, -(-longest // LENGTH_STEP) * LENGTH_STEP)

    def _write(self, rows: Sequence[Row], cache: Any, state: State) -> None:
        """Write rows that join into the first empty places."""
        places = [place for place, row in enumerate(self.rows) if row is None][: len(rows)]
        first = places[0]
        is_run = places == list(range(first, first + len(places)))
        # MLX scatters one element at a time on a CPU; most often a single row joins.
        index = slice(first, first + len(places)) if is_run else mx.array(places)

        def write(held: mx.array, joining: mx.array) -> mx.array:
            held[index] = joining
            return held

        self.cache, self.state = tree_map(write, (self.cache, self.state), (cache, state))
        for place, row in zip(places, rows, strict=True):
            self.rows[place] = row
            self.sampling.set_row(place, row.sampling)
        self.rules.set_rows(dict(zip(places, (row.rules for row in rows), strict=True)))

    def _resize(self, wanted: int) -> None:
        """Move the active rows into places for `wanted`; empty ones repeat a row, unread."""
        size = min(self._max_rows, 1 << (wanted - 1).bit_length()) if self._pad_rows else wanted
        active = [place for place, row in enumerate(self.rows) if row is not None]
        empty = size - len(active)
        if active != list(range(size)) or size != len(self.rows):
            index = mx.array(active + active[:1] * empty)
            self.cache, self.state = tree_map(lambda held: held[index], (self.cache, self.state))
        held = [row for row in self.rows if row is not None]
        self.rows = [*held, *[None] * empty]
        vocabulary = self._model.num_vocab
        repeated = [*held, *held[:1] * empty]
        self.rules = BatchedRules([row.rules for row in repeated], vocabulary)
        self.sampling = BatchedSampling([row.sampling for row in held], vocabulary, num_rows=size)
