"""A report that has one text in all places where names, messages and transcripts can stand."""

from datetime import UTC, datetime

from producer.batches.folders import FolderSums
from producer.batches.report import Report, Run, SlowFile, Submitted
from producer.batches.review import (
    EmptyFile,
    FailedFile,
    FailureGroup,
    FlaggedFile,
    FlaggedSegment,
)
from producer.batches.submission import LeftOut
from producer.batches.views import BatchCounts

NOW = datetime(2026, 11, 24, 7, 0, tzinfo=UTC)


def made_report(text, num_files=1):
    """Return a report that has the text in all places, and lists of `num_files`."""
    source = f"/archive/{text}"
    failed = FailedFile(name=text, job_id="1", reason=text, source=source)
    segment = FlaggedSegment(start=2.5, end=3, text=text, flags=[text])
    flagged = FlaggedFile(name=text, job_id="1", flags=[text], segments=[segment], source=source)
    return Report(
        batch=text,
        created_at=NOW,
        counts=BatchCounts(total=2, failed=1, succeeded=1),
        run=Run(),
        submission=Submitted(
            began_at=NOW,
            problem=num_files,
            problems=[LeftOut(path=text, code="x", message=text)] * num_files,
            ignored={text: 1},
        ),
        files_by_worker={text: 1},
        files_by_model={text: 1},
        files_by_language={text: 1},
        folders=[FolderSums(path=text, files=1), FolderSums(path=f"{text}/{text}", files=1)],
        taken_over={text: 2},
        failures=[
            FailureGroup(code=text, count=num_files, advice="Do it.", files=[failed] * num_files)
        ],
        num_flagged_files=num_files,
        flagged=[flagged] * num_files,
        num_empty=num_files,
        empty=[EmptyFile(name=text, job_id="1", source=source)] * num_files,
        slowest=[SlowFile(name=text, took_s=1, audio_s=1)],
    )
