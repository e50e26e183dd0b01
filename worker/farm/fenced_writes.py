"""Write progress and endings of held jobs; each write counts only while its lease is ours.

What the server says to one job's data stops no other write: an ending that cannot be stored is
stored more plainly, and a job that cannot be ended at all is set aside. Only replies that mean "not
now" (`producer.server_replies`) come out; what is not written by then waits, however long.
"""

import time

import redis
import structlog

from producer.result import ErrorRecord
from producer.server_replies import is_not_now
from producer.settings import QueueSettings
from worker.farm.commit import CommitVerdict, commit
from worker.farm.endings import Outcome, plainer
from worker.farm.held_jobs import HeldJobs
from worker.farm.in_flight import InFlight
from worker.farm.job_log import log_outcome, log_release, traced
from worker.farm.job_spans import record_job
from worker.farm.scripts import MAX_JOBS_A_CALL, Claim, FarmScripts, Release
from worker.farm.self_report import SelfReport

PROGRESS_EVERY_S = 1.0
# A checkpoint holds the whole text up to now: at this pace a night's recording writes it 100 times.
CHECKPOINT_EVERY_S = 10.0

_log = structlog.get_logger()


class FencedWrites:
    """Writes what `HeldJobs` has for the server; every write may be repeated."""

    def __init__(
        self,
        connection: redis.Redis,
        scripts: FarmScripts,
        held: HeldJobs,
        worker: str,
        settings: QueueSettings,
        *,
        report: SelfReport,
    ) -> None:
        self._connection, self._scripts, self._settings = connection, scripts, settings
        self._held, self._worker, self._report = held, worker, report

    def write_endings(self) -> None:
        """Commit outcomes one by one, return releases to their queues together.

        Raises:
            redis.RedisError: the server takes nothing now; call again.
        """
        for ending in self._held.endings:
            if isinstance(ending, Outcome):
                self._commit(ending)
        # Each is pushed to the front of its queue: reversed, the oldest claim ends up first. What
        # goes to its model's queue lines up there in the order of the claims.
        given_up = [each for each in self._held.endings if isinstance(each, Release)]
        releases = [each for each in given_up if not each.to_queue][::-1]
        releases += [each for each in given_up if each.to_queue]
        for start in range(0, len(releases), MAX_JOBS_A_CALL):
            self._release(releases[start : start + MAX_JOBS_A_CALL])

    def store_progress(self) -> None:
        """Store reports that are new and due; give up jobs that turn out to be no longer ours.

        Raises:
            redis.RedisError: the server did not answer.
        """
        for flight in self._held.flights:
            # A suspect may kill this worker with its next window: all of it is stored at once.
            since_write_s = time.monotonic() - flight.progress.stored_at
            is_due = flight.is_suspect or since_write_s >= PROGRESS_EVERY_S
            if is_due and not flight.progress.is_stored:
                with traced(flight.claim):
                    self._store(flight)

    def _store(self, flight: InFlight) -> None:
        progress = flight.progress
        since_checkpoint_s = time.monotonic() - progress.checkpointed_at
        with_checkpoint = flight.is_suspect or since_checkpoint_s >= CHECKPOINT_EVERY_S
        try:
            checkpoint = progress.checkpoint() if with_checkpoint else ""
            fields = progress.fields(self._worker)
            is_ours = self._scripts.progress(flight.claim, fields, checkpoint)
        except Exception as error:
            if is_not_now(error):
                raise
            # The work goes on without: its result matters more.
            _log.exception("progress_refused", job_id=flight.claim.job_id)
            progress.mark_stored(with_checkpoint=False)
            return
        if is_ours:
            flight.mark_stored(with_checkpoint=with_checkpoint)
        else:
            self._held.lose(flight.claim.execution_id)

    def _commit(self, outcome: Outcome) -> None:
        with traced(outcome.claim):
            try:
                self._commit_once(outcome)
            except Exception as error:
                if _is_passing(error):
                    raise
                _log.exception("commit_refused", job_id=outcome.claim.job_id)
                self._commit_plainer(outcome, error)

    def _commit_plainer(self, outcome: Outcome, error: Exception) -> None:
        for attempt in plainer(outcome, error, self._settings):
            try:
                self._commit_once(attempt)
            except Exception as again:
                if _is_passing(again):
                    raise
                _log.exception("commit_refused", job_id=outcome.claim.job_id)
            else:
                return
        self._set_aside(outcome.claim)

    def _commit_once(self, outcome: Outcome) -> None:
        begun = time.perf_counter()
        verdict = commit(self._connection, outcome)
        commit_s = time.perf_counter() - begun
        self._held.forget(outcome.claim.execution_id)
        log_outcome(outcome, verdict)
        if verdict is CommitVerdict.DONE:
            record_job(outcome, commit_s)
            self._report.take_end(outcome)

    def _release(self, releases: list[Release]) -> None:
        try:
            ours = set(self._scripts.release(releases))
        except Exception as error:
            if _is_passing(error):
                raise
            _log.exception("release_refused", job_ids=[each.job_id for each in releases])
            self._release_singly(releases)
            return
        for each in releases:
            with self._held.traced(each.execution_id):
                log_release(each, is_ours=each.execution_id in ours)
            self._held.forget(each.execution_id)
            if each.record:
                self._report.take_error(ErrorRecord.model_validate_json(each.record))

    def _release_singly(self, releases: list[Release]) -> None:
        """Find which of them the server does not take, and set that one aside."""
        if len(releases) == 1:
            self._set_aside(releases[0])
            return
        for each in releases:
            self._release([each])

    def _set_aside(self, job: Claim | Release) -> None:
        """Take a job that cannot be ended out of queues and leases, so that nobody claims it."""
        try:
            is_ours = self._scripts.set_aside(job)
            _log.error("set_aside", job_id=job.job_id, is_ours=is_ours)
        except Exception as error:
            if _is_passing(error):
                raise
            _log.exception("left_to_lease", job_id=job.job_id)
        self._held.forget(job.execution_id)


def _is_passing(error: Exception) -> bool:
    """Return whether the same write may succeed later: an outage, or a race for the dependents."""
    return is_not_now(error) or isinstance(error, redis.WatchError)
