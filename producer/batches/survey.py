"""What a batch's files amount to: sums, and what reports list by name."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import compress
from typing import NamedTuple, Self

from producer.batches.folders import FolderTally
from producer.batches.views import BatchCounts, FileView
from producer.batches.worked_time import Bounds, WorkedTime

_NUM_SLOWEST = 10
_NUM_COLUMNS = 6


class Named(NamedTuple):
    """A file that a report lists: `detail` is an error code, or flags."""

    name: str
    job_id: str
    detail: str = ""


class Listing:
    """The first of many files by name, and how many there are."""

    def __init__(self, limit: int | None) -> None:
        self._limit, self._items, self.num_files = limit, list[Named](), 0

    def add(self, item: Named) -> None:
        """Count a file; keep it if it may be one of the first."""
        self.num_files += 1
        self._items.append(item)
        if self._limit is not None and len(self._items) > 2 * self._limit:
            self._items = sorted(self._items)[: self._limit]

    def first(self) -> list[Named]:
        """Return the first `limit` files in the order of their names."""
        return sorted(self._items)[: self._limit]


class Label(NamedTuple):
    """What files that ended have in common: the first line of a record of `lua/ended.lua`."""

    state: str
    code: str = ""
    worker: str = ""
    model: str = ""
    language: str = ""
    flags: str = ""

    @classmethod
    def parse(cls, line: str) -> Self:
        """Read the line.

        Raises:
            ValueError: it is no such line.
        """
        parts = line.split("\t")
        if len(parts) != len(cls._fields) or parts[0] not in {"succeeded", "failed"}:
            raise ValueError(line)
        return cls(*parts)


# Name, job id, and the second line of the record.
Recorded = tuple[str, str, str]


class EndedFiles(NamedTuple):
    """Files of one label, a list a column; times in seconds since the epoch, -1 for none.

    Attributes:
        num_names: For how many files of the batch each one's job stands; 0 is not known.
    """

    label: Label
    names: Sequence[str]
    job_ids: Sequence[str]
    starts: Sequence[float]
    ends: Sequence[float]
    audio_s: Sequence[float]
    num_flagged: Sequence[float]
    is_empty: Sequence[float]
    num_names: Sequence[float]

    @classmethod
    def parse(cls, label: str, recorded: Sequence[Recorded]) -> Self:
        """Read records with one label.

        Raises:
            ValueError: one of them is no record.
        """
        names, job_ids, lines = zip(*recorded, strict=True)
        numbers = list(map(float, " ".join(lines).split()))
        is_whole = len(numbers) == _NUM_COLUMNS * len(lines)
        if not is_whole or not math.isfinite(sum(numbers)) or min(numbers) < -1:
            raise ValueError(lines)
        columns = [numbers[column::_NUM_COLUMNS] for column in range(_NUM_COLUMNS)]
        return cls(Label.parse(label), names, job_ids, *columns)

    def only(self, is_wanted: Sequence[bool]) -> Self:
        """Return some of the files."""
        texts = [list(compress(column, is_wanted)) for column in (self.names, self.job_ids)]
        numbers = [list(compress(column, is_wanted)) for column in self[3:]]
        return type(self)(self.label, texts[0], texts[1], *numbers)


class Survey:
    """What a batch's files amount to; those that ended within the bounds also by themselves.

    Attributes:
        counts: Of the whole batch.
        run_states, run_num_flagged: Of the files that ended within the bounds.
        workers, models, languages: Files that ended within the bounds, by who did them, with which
            model, and in which language they are.
        worked: When, and how much audio.
        folders: All files of the batch.
        failed: By error code. `flagged` have flagged segments, or are flagged as a whole; `empty`
            have no text.
        slowest: (seconds from claim to result, name, seconds of audio), the slowest first.
    """

    def __init__(self, bounds: Bounds, limit: int | None) -> None:
        self._bounds, self._limit = bounds, limit
        self._states: Counter[str] = Counter()
        self._codes: Counter[str] = Counter()
        self._audio_s, self._num_flagged = 0.0, 0
        self.run_states: Counter[str] = Counter()
        self.run_num_flagged = 0
        self.workers: Counter[str] = Counter()
        self.models: Counter[str] = Counter()
        self.languages: Counter[str] = Counter()
        self.worked, self.folders = WorkedTime(), FolderTally()
        self.failed: dict[str, Listing] = {}
        self.flagged, self.empty = Listing(limit), Listing(limit)
        self.slowest: list[tuple[float, str, float]] = []

    @property
    def counts(self) -> BatchCounts:
        """The counts of the whole batch."""
        return BatchCounts(
            total=self._states.total(),
            failed_by_code=dict(self._codes.most_common()),
            audio_s=round(self._audio_s, 3),
            num_flagged=self._num_flagged,
            **self._states,
        )

    def add_unended(self, name: str, state: str) -> None:
        """Add a file that has not ended, or of which nothing is known any more."""
        self._states[state] += 1
        self.folders.add_unended(name)

    def add_ended(self, files: EndedFiles) -> None:
        """Add files of one label."""
        since, until = self._bounds.as_numbers().values()
        if min(files.ends) >= since and max(files.ends) < until:
            self._add_run(files)
            return
        is_run = [since <= end < until for end in files.ends]
        self._add_sums(files.only([not each for each in is_run]))
        if any(is_run):
            self._add_run(files.only(is_run))

    def _add_sums(self, files: EndedFiles) -> None:
        label, num_files = files.label, len(files.names)
        self._states[label.state] += num_files
        if label.state == "failed":
            self._codes[label.code] += num_files
        else:
            self._audio_s += sum(files.audio_s)
            self._num_flagged += int(sum(files.num_flagged))
        self.folders.add_ended(files.names, files.audio_s, is_failed=label.state == "failed")

    def _add_run(self, files: EndedFiles) -> None:
        self._add_sums(files)
        label, num_files = files.label, len(files.names)
        self.run_states[label.state] += num_files
        counted = [(self.workers, label.worker)]
        if label.state == "succeeded":
            self.run_num_flagged += int(sum(files.num_flagged))
            counted += [(self.models, label.model), (self.languages, label.language)]
        for counter, key in counted:
            if key:
                counter[key] += num_files
        self._list_notable(files)
        self._add_work(files)

    def _list_notable(self, files: EndedFiles) -> None:
        label = files.label
        named = zip(files.names, files.job_ids, strict=True)
        if label.state == "failed":
            listing = self.failed.setdefault(label.code, Listing(self._limit))
            for name, job_id in named:
                listing.add(Named(name, job_id, label.code))
            return
        # Few are notable: the others cost nothing here.
        is_flagged = files.num_flagged
        if label.flags or any(is_flagged):
            for (name, job_id), number in zip(named, is_flagged, strict=True):
                if label.flags or number:
                    self.flagged.add(Named(name, job_id, label.flags))
        if any(files.is_empty):
            for index, is_empty in enumerate(files.is_empty):
                if is_empty:
                    self.empty.add(Named(files.names[index], files.job_ids[index]))

    def _add_work(self, files: EndedFiles) -> None:
        if min(files.starts) < 0 or min(files.ends) < 0:
            pairs = zip(files.starts, files.ends, strict=True)
            files = files.only([start >= 0 and end >= 0 for start, end in pairs])
        if not files.names:
            return
        if min(files.num_names) == max(files.num_names) == 1:
            self.worked.add(files.starts, files.ends, sum(files.audio_s))
        else:
            for job_id, *work in zip(
                files.job_ids, files.starts, files.ends, files.audio_s, strict=True
            ):
                self.worked.add_copy(job_id, *work)
        self._add_slow(files)

    def _add_slow(self, files: EndedFiles) -> None:
        took_s = [end - start for start, end in zip(files.starts, files.ends, strict=True)]
        least_s = self.slowest[-1][0] if len(self.slowest) == _NUM_SLOWEST else -1.0
        if max(took_s) > least_s:
            found = [*self.slowest, *zip(took_s, files.names, files.audio_s, strict=True)]
            self.slowest = sorted(found, key=lambda each: (-each[0], each[1]))[:_NUM_SLOWEST]

    def add_views(self, views: Iterable[FileView]) -> None:
        """Add files whose hash did not say enough, as their results tell them."""
        for view in views:
            if view.state not in {"failed", "succeeded"}:
                self.add_unended(view.name, view.state)
                continue
            label = Label(view.state, view.code, view.worker)
            started_s, ended_s = (
                -1.0 if each is None else each for each in (view.started_at_s, view.ended_at_s)
            )
            numbers = (started_s, ended_s, view.audio_s, view.num_flagged, view.is_empty, 0)
            columns = [[float(number)] for number in numbers]
            self.add_ended(EndedFiles(label, [view.name], [view.job_id], *columns))
