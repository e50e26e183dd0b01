"""The windows of a batch, and everything that has a row for each of theirs."""

from collections.abc import Iterator, Sequence
from typing import Any

import mlx.core as mx
from mlx.utils import tree_map

from worker.device.filters import Stage
from worker.device.group import Group
from worker.device.row import Row
from worker.device.rules import BatchedRules, State
from worker.device.sampling import BatchedSampling
from worker.device.speech_model import SpeechModel

# Caches are as long as their longest row needs, in these steps: attention reads all of it.
LENGTH_STEP = 128
# Steps for which half of the places are empty before the windows are moved together, where places are
# powers of two. A move takes a GPU as long as 20 such steps would save (H200, turbo, 192 windows): were
# it made at once, windows that come and go by turns would be moved all the time.
SHRINK_AFTER = 16


class Batch:
    """Windows that are stepped together; they join into places that others have left.

    All have as many rows, which lie side by side. The number of places grows when windows join and
    shrinks when half have left, so that no step pays for many empty rows.

    Args:
        model: Resizes its caches.
        max_windows: Most windows.
        num_beams: Rows of each window.
        pad_rows: Hold a power of two of windows, so that few shapes are ever seen.

    Attributes:
        groups: What each place holds; None where a window has left.
        cache: The model's, any tree of arrays with windows on their first axis.
        state: What rows remember of themselves; see `rules.start_state`.
        rules, sampling: Each row's own.
        length: Tokens that the cache has room for in each row.
    """

    rules: BatchedRules
    sampling: BatchedSampling

    def __init__(
        self, model: SpeechModel, max_windows: int, num_beams: int = 1, *, pad_rows: bool
    ) -> None:
        self._model = model
        self._max_windows = max_windows
        self._pad_rows = pad_rows
        self.num_beams = num_beams
        self.groups: list[Group | None] = []
        self.cache: Any = None
        self.state: State = {}
        self.length = 0
        self._num_steps = 0
        self._half_empty_steps = 0
        self._longest = 0
        self._searches = False

    @property
    def num_windows(self) -> int:
        """Windows that have not left."""
        return len(self.groups) - self.groups.count(None)

    @property
    def num_rows(self) -> int:
        """Rows that a step computes, empty ones included."""
        return len(self.groups) * self.num_beams

    @property
    def arrays(self) -> tuple[Any, ...]:
        """All that a step reads."""
        return self.cache, self.state, self.rules.arrays, self.sampling.arrays

    @property
    def stages(self) -> Stage:
        """What a step has to do beside the network."""
        return self.sampling.stages | (Stage.SEARCH if self._searches else Stage.NONE)

    def dispatched(self) -> None:
        """Count a step that was started."""
        self._num_steps += 1
        self._longest += 1

    def join(self, groups: Sequence[Group], cache: Any, state: State) -> None:
        """Give windows a place; `cache` and `state` are theirs alone, from their prefill."""
        for group in groups:
            group.joined_at = self._num_steps
        length = self._length_for(groups)
        cache = self._resized(cache, length)
        if self.num_windows == 0:
            self.groups, self.cache, self.state, self.length = list(groups), cache, state, length
            self._resize(len(groups))
            return
        if length != self.length:
            self.cache, self.length = self._resized(self.cache, length), length
        wanted = self.num_windows + len(groups)
        if wanted > len(self.groups):
            self._resize(wanted)
        self._write(groups, cache, state)

    def leave(self, group: Group) -> bool:
        """Empty a window's place; False if it has none."""
        if group not in self.groups:
            return False
        place = self.groups.index(group)
        self.groups[place] = None
        self._look_for_searches()
        for row in self._rows_of(place):
            self.sampling.clear_row(row)
        return True

    def fit_rows(self) -> bool:
        """Move the windows together if half have left for good; return whether anything was moved."""
        is_half_empty = 2 * self.num_windows <= len(self.groups)
        self._half_empty_steps = self._half_empty_steps + 1 if is_half_empty else 0
        if self._half_empty_steps <= (SHRINK_AFTER if self._pad_rows else 0):
            return False
        self._half_empty_steps = 0
        self._resize(self.num_windows)
        return True

    def fit_length(self) -> bool:
        """Make room for one more token in the longest row; return whether the cache has grown."""
        # The longest that was may have left: only when it would not fit are all looked at again.
        if self._longest <= self.length:
            return False
        length = self._length_for([])
        if length <= self.length:
            return False
        self.cache, self.length = self._resized(self.cache, length), length
        return True

    def _rows_of(self, place: int) -> range:
        return range(place * self.num_beams, (place + 1) * self.num_beams)

    def _resized(self, cache: Any, length: int) -> Any:
        """Return a cache with room for tokens of all beams, which lie side by side in it."""
        return self._model.resize_cache(cache, length * self.num_beams)

    def _length_for(self, joining: Sequence[Group]) -> int:
        """Return the cache length for the active windows and these."""
        groups = [*filter(None, self.groups), *joining]
        # A prompt's first token is sampled when it is read, and written at the next step.
        self._longest = max(
            len(group.first.prompt) + 1 + self._num_steps - group.joined_at for group in groups
        )
        return min(self._model.context_length, -(-self._longest // LENGTH_STEP) * LENGTH_STEP)

    def _look_for_searches(self) -> None:
        self._searches = any(group is not None and group.hypotheses for group in self.groups)

    def _write(self, groups: Sequence[Group], cache: Any, state: State) -> None:
        """Write windows that join into the first empty places."""
        free = (place for place, group in enumerate(self.groups) if group is None)
        places = [place for place, _ in zip(free, groups, strict=False)]
        first = places[0]
        is_run = places == list(range(first, first + len(places)))

        def write(held: mx.array, joining: mx.array) -> mx.array:
            each = joining.shape[0] // len(places)
            # MLX scatters one element at a time on a CPU; most often a single window joins.
            index = slice(first * each, (first + len(places)) * each)
            held[index if is_run else _rows_at(places, each)] = joining
            return held

        self.cache, self.state = tree_map(write, (self.cache, self.state), (cache, state))
        for place, group in zip(places, groups, strict=True):
            self.groups[place] = group
        self._look_for_searches()
        joined = dict(self._rows_at_places(places))
        self.sampling.set_rows({at: row.sampling for at, row in joined.items()})
        self.rules.set_rows({at: row.rules for at, row in joined.items()})

    def _rows_at_places(self, places: Sequence[int]) -> Iterator[tuple[int, Row]]:
        for place in places:
            group = self.groups[place]
            if group is not None:
                yield from zip(self._rows_of(place), group.rows, strict=True)

    def _resize(self, wanted: int) -> None:
        """Move the active windows into places for `wanted`; empty ones repeat a window, unread."""
        is_padded = self._pad_rows
        size = min(self._max_windows, 1 << (wanted - 1).bit_length()) if is_padded else wanted
        active = [place for place, group in enumerate(self.groups) if group is not None]
        empty = size - len(active)
        if active != list(range(size)) or size != len(self.groups):
            taken, held_before = active + active[:1] * empty, len(self.groups)
            self.cache, self.state = tree_map(
                lambda held: held[_rows_at(taken, held.shape[0] // held_before)],
                (self.cache, self.state),
            )
        held = [group for group in self.groups if group is not None]
        self.groups = [*held, *[None] * empty]
        self._look_for_searches()
        vocabulary = self._model.num_vocab
        rows = [row for group in held for row in group.rows]
        repeated = [*rows, *list(held[0].rows) * empty]
        self.rules = BatchedRules([row.rules for row in repeated], vocabulary)
        num_rows = size * self.num_beams
        self.sampling = BatchedSampling([row.sampling for row in rows], vocabulary, num_rows)


def _rows_at(places: Sequence[int], each: int) -> mx.array:
    """Return the index of what lies at places with so many entries each."""
    return mx.array([place * each + entry for place in places for entry in range(each)])
