"""Write progress and endings of held jobs; each write counts only while its lease is ours."""

import time

import redis
import structlog

from worker.farm.commit import commit
from worker.farm.endings import Outcome
from worker.farm.held_jobs import HeldJobs
from worker.farm.in_flight import InFlight
from worker.farm.job_log import log_outcome, log_release
from worker.farm.outage import OUTAGES
from worker.farm.scripts import MAX_JOBS_A_CALL, FarmScripts, Release

PROGRESS_EVERY_S = 1.0
# A checkpoint holds the whole text up to now: at this pace a night's recording writes it 100 times.
CHECKPOINT_EVERY_S = 10.0
# After this many commits refused by the server (not by an outage), the job is left to lease expiry.
MAX_COMMIT_TRIES = 5

_log = structlog.get_logger()


class FencedWrites:
    """Writes what `HeldJobs` has for the server; every write may be repeated."""

    def __init__(
        self, connection: redis.Redis, scripts: FarmScripts, held: HeldJobs, worker: str
    ) -> None:
        self._connection, self._scripts = connection, scripts
        self._held, self._worker = held, worker

    def write_endings(self) -> None:
        """Commit outcomes one by one, return releases to their queues together.

        Raises:
            redis.RedisError: the server did not answer, or refused a commit; call again.
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
                self._store(flight)

    def _store(self, flight: InFlight) -> None:
        progress = flight.progress
        since_checkpoint_s = time.monotonic() - progress.checkpointed_at
        with_checkpoint = flight.is_suspect or since_checkpoint_s >= CHECKPOINT_EVERY_S
        checkpoint = progress.checkpoint() if with_checkpoint else ""
        if self._scripts.progress(flight.claim, progress.fields(self._worker), checkpoint):
            flight.mark_stored(with_checkpoint=with_checkpoint)
        else:
            self._held.lose(flight.claim.execution_id)

    def _commit(self, outcome: Outcome) -> None:
        execution_id = outcome.claim.execution_id
        try:
            verdict = commit(self._connection, outcome)
        except OUTAGES:
            raise
        except redis.RedisError as error:
            # One job's damaged keys must not keep the others from being written.
            if self._held.note_refusal(execution_id) < MAX_COMMIT_TRIES:
                raise
            _log.exception("commit_refused", job_id=outcome.claim.job_id, error=str(error))
            self._held.forget(execution_id)
            return
        self._held.forget(execution_id)
        log_outcome(outcome, verdict)

    def _release(self, releases: list[Release]) -> None:
        ours = set(self._scripts.release(releases))
        for each in releases:
            self._held.forget(each.execution_id)
            log_release(each, is_ours=each.execution_id in ours)
