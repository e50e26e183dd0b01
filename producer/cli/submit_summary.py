"""What `submit` prints: a line for each file as it comes, and a summary."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from producer.archive.prepare import Entry
from producer.batches.summary import ignored_words
from producer.cli.session import Session
from producer.console import emit

_REASONS = {
    "first_time": "for the first time",
    "audio_changed": "since their audio changed",
    "request_changed": "since model or options changed",
    "again": "once more",
}


@dataclass
class SubmitSummary:
    """Counts what became of the files; prints job ids, problems or JSON lines as they come."""

    session: Session
    batch: str
    with_ids: bool
    as_json: bool
    verdicts: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)
    failed_before: int = 0

    @property
    def num_files(self) -> int:
        """Files that were looked at: all but those that were ignored for their names."""
        return self.verdicts.total() - self.verdicts["ignored"]

    def add(self, entry: Entry) -> None:
        """Count a file; problems go to stderr as they come."""
        self.verdicts[entry.verdict] += 1
        self.failed_before += entry.verdict == "known" and entry.state == "failed"
        if entry.reason:
            self.reasons[entry.reason] += 1
        if entry.kind:
            self.ignored[entry.kind] += 1
        if self.as_json:
            emit(json.dumps(_entry_fields(entry)))
        if entry.error:
            self.session.problem(entry.error, entry.name)
        elif entry.job_id and self.with_ids:
            emit(entry.job_id)

    def lines(self, what_happened: str) -> Iterator[str]:
        """Yield the summary for people."""
        yield f"batch {self.batch}: {self.num_files} files"
        yield f"  {self.verdicts['new']} {what_happened}"
        for reason, text in _REASONS.items():
            if self.reasons[reason] and self.reasons[reason] < self.verdicts["new"]:
                yield f"    {self.reasons[reason]} {text}"
            elif self.reasons[reason] and reason != "first_time":
                yield f"    all {text}"
        for verdict, text in (
            ("known", "known already"),
            ("duplicate", "copies of others, or listed twice: each is done once"),
            ("problem", "with a problem, left out"),
        ):
            if self.verdicts[verdict]:
                yield f"  {self.verdicts[verdict]} {text}"
            if verdict == "known" and self.failed_before:
                yield f"    {self.failed_before} of them failed for good: --retry-failed tries again"
        if self.ignored:
            number, _, kinds = ignored_words(self.ignored).partition(": ")
            yield f"  {number} ignored: {kinds}"

    def fields(self) -> dict[str, object]:
        """Return the summary for programs."""
        return {
            "type": "summary",
            "batch": self.batch,
            "files": self.num_files,
            **{name: self.verdicts[name] for name in ("new", "known", "duplicate", "problem")},
            "ignored": dict(self.ignored),
            "reasons": {name: self.reasons[name] for name in _REASONS},
        }


def _entry_fields(entry: Entry) -> dict[str, object]:
    return {
        "type": "file",
        "path": entry.path,
        "name": entry.name,
        "verdict": entry.verdict,
        "job_id": entry.job_id or None,
        "state": entry.state or None,
        "reason": entry.reason,
        "same_as": entry.same_as or None,
        "kind": entry.kind or None,
        "error": entry.error and entry.error.to_dict(),
    }
