"""The farm worker: claims jobs, feeds the engine, keeps leases alive, commits results.

One thread does all of it, next to the engine's own threads and RQ's pubsub thread, which both
only leave messages. Work is never forked: a pinned model does not survive a fork.

```
        claim  -> engine.submit          up to the engine's capacity, highest queue first
loop:   poll   -> progress, endings      written through the fence, safe to repeat
        beat   -> lost, cancelled, adopted
        reap   -> jobs of dead workers, delayed jobs that are due
```

What RQ does safely stays RQ's: the job hash, the registries, results, dependents, commands. The
steps where it loses or repeats jobs are scripts and a fenced transaction (tests/farm/test_hazards.py).
"""

import contextlib
import queue
import socket
import time
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry
from rq.registry import FailedJobRegistry, FinishedJobRegistry, ReadyJobRegistry
from rq.serializers import JSONSerializer
from rq.worker_registration import clean_worker_registry

from producer.active_hours import is_active
from producer.errors import (
    Cancelled,
    Internal,
    JobTimeout,
    ScribefarmError,
    SourceUnreachable,
    WorkerLost,
)
from producer.keys import checkpoint_key
from producer.settings import Settings
from worker.engine.messages import Done, Engine, Event, Progress
from worker.farm.commit import Outcome, commit
from worker.farm.in_flight import (
    InFlight,
    after_attempt,
    after_breakdown,
    hand_back,
    read_flight,
    success,
)
from worker.farm.job_log import log_outcome, log_release
from worker.farm.lifecycle import CommandedWorker, ForcedExit
from worker.farm.outage import OUTAGES, Outage
from worker.farm.scripts import MAX_JOBS_A_CALL, Claim, FarmScripts, Release
from worker.sources.file import SourceCheck

POLL_BUSY_S = 0.05
POLL_IDLE_S = 0.25
# An empty queue is not asked again sooner; jobs wait half of this on average.
CLAIM_IDLE_S = 0.25
PROGRESS_EVERY_S = 1.0
# A checkpoint holds the whole text so far: at this pace a night's recording writes it 100 times.
CHECKPOINT_EVERY_S = 10.0
DUE_EVERY_S = 1.0
TIDY_EVERY_S = 60.0
# An engine that does not let go of a job for so long is stuck, and only a restart helps.
CANCEL_ANSWER_S = 60.0
# A share that has not said by then whether a path is there is taken for unreachable.
SOURCE_CHECK_S = 30.0
# A job whose end the server refuses so often for reasons of its own is left to its lease.
MAX_COMMIT_TRIES = 5

EXIT_OK = 0
EXIT_ENGINE_BROKEN = 1
EXIT_FORCED = 130

_log = structlog.get_logger()


class FarmWorker(CommandedWorker):
    """Runs RQ jobs that name `worker.tasks.transcribe` on one engine, many at a time."""

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        connection: redis.Redis,
        name: str | None = None,
    ) -> None:
        """Take a running engine and a connection.

        Args:
            engine: Loaded and warm: jobs are claimed from the first loop on.
            settings: Queues, leases, deadlines, retries, roots.
            connection: Its retries are switched off: a repeated command is not always harmless,
                and a lost reply is repaired by the next heartbeat.
            name: Name to be known by; a suffix makes it unique to this start.

        Raises:
            redis.RedisError: the server does not answer.
        """
        connection.set_retry(Retry(NoBackoff(), 0))
        super().__init__(
            list(settings.worker.queues),
            name=f"{name or socket.gethostname()}-{uuid4().hex[:8]}",
            connection=connection,
            serializer=JSONSerializer,
            default_result_ttl=settings.queue.result_ttl_s,
            worker_ttl=int(max(60.0, 2 * settings.worker.lease_s)),
        )
        self._engine, self._settings = engine, settings
        self._scripts = FarmScripts(connection, settings, self.name)
        # Every lease we hold; what the engine has; what is to be written once the server answers.
        self._claims: dict[str, Claim] = {}
        self._flights: dict[str, InFlight] = {}
        self._endings: dict[str, Outcome | Release] = {}
        self._refusals: dict[str, int] = {}
        self._sources = SourceCheck(settings.audio.roots)
        self._outage = Outage(max_wait_s=settings.worker.lease_s / 3)
        self._due: dict[str, float] = {}
        # Peers that lived through an outage, or a start of the whole farm, renew first.
        self._reap_from = time.monotonic() + settings.worker.lease_s
        self._found_nothing = False
        self._drain_from: float | None = None

    def run(self, *, burst: bool = False) -> int:
        """Work until drained, or with `burst` until the queues are empty; return an exit code.

        The first SIGTERM or SIGINT drains: no more claims, `worker.grace_s` to finish, the rest
        goes back to the front of its queue with its progress. A second one leaves at once.
        """
        with self.on_duty(capacity=self._engine.capacity):
            try:
                while not self._is_over(burst=burst):
                    self._step()
                return self._leave({key: hand_back(each) for key, each in self._flights.items()})
            except ForcedExit:
                # The signal may have cut a command in two: its connection is of no more use.
                self.connection.connection_pool.disconnect()
                self._leave({key: hand_back(each) for key, each in self._flights.items()})
                return EXIT_FORCED
            except ScribefarmError as error:
                _log.critical("engine_broken", **error.to_dict())
                self._leave(
                    {
                        key: after_breakdown(each, error, self.name, self._settings)
                        for key, each in self._flights.items()
                    }
                )
                return EXIT_ENGINE_BROKEN

    # The loop

    def _step(self) -> None:
        for event in self._engine.poll(POLL_BUSY_S if self._flights else POLL_IDLE_S):
            self._take(event)
        self._submit_checked()
        self._stop_asked()
        self._enforce_deadlines()
        if self._outage.is_time:
            self._talk()

    def _talk(self) -> None:
        """Do all that needs the server; an outage is waited out while the engine goes on."""
        try:
            self._settle()
            self._store_progress()
            self._beat()
            self._look_after_others()
            self._claim()
        except redis.RedisError as error:
            self._outage.note(error)
            return
        if self._outage.end():
            self._due.clear()
            self._reap_from = time.monotonic() + self._settings.worker.lease_s

    def _is_over(self, *, burst: bool) -> bool:
        if self.drain_asked:
            grace_s = self._settings.worker.grace_s
            if self._drain_from is None:
                self._drain_from = time.monotonic()
                _log.info("draining", in_flight=len(self._flights), grace_s=grace_s)
            return not self._claims or time.monotonic() > self._drain_from + grace_s
        return burst and self._found_nothing and not self._claims

    def _leave(self, endings: dict[str, Outcome | Release]) -> int:
        """Write what is left; a server that is away leaves it to the leases."""
        self._flights.clear()
        self._endings |= endings
        if self._endings and not self._outage.is_on:
            with contextlib.suppress(redis.RedisError):
                self._settle()
        if self._endings:
            _log.warning("left_to_leases", jobs=len(self._endings))
        return EXIT_OK

    def _is_due(self, task: str, every_s: float) -> bool:
        now = time.monotonic()
        if now < self._due.get(task, 0.0):
            return False
        self._due[task] = now + every_s
        return True

    # From the engine

    def _take(self, event: Event) -> None:
        flight = self._flights.get(event.execution_id)
        if flight is None:
            return  # fenced off, cancelled or given back meanwhile
        if isinstance(event, Progress):
            flight.note(event)
            return
        if isinstance(event, Done):
            del self._flights[event.execution_id]
            ending = success(flight, event.transcript, self.name, self._settings)
            self._endings[event.execution_id] = ending
        else:
            self._fail(flight, event.error)

    def _fail(self, flight: InFlight, error: ScribefarmError) -> None:
        execution_id = flight.claim.execution_id
        del self._flights[execution_id]
        ending = after_attempt(flight, error, self.name, self._settings)
        self._endings[execution_id] = ending

    def _submit_checked(self) -> None:
        """Give the engine the recordings whose paths were found to be allowed."""
        for execution_id, verdict in self._sources.poll():
            flight = self._flights.get(execution_id)
            if flight is None:
                continue  # cancelled, lost or given back meanwhile
            if isinstance(verdict, ScribefarmError):
                self._fail(flight, verdict)
            else:
                flight.is_in_engine = True
                self._engine.submit(flight.ticket(verdict))

    def _enforce_deadlines(self) -> None:
        for flight in list(self._flights.values()):
            limit_s = flight.limit_s(self._settings)
            if not flight.is_in_engine and flight.busy_s > SOURCE_CHECK_S:
                constraint = f"must be found within {SOURCE_CHECK_S:.0f} s"
                self._fail(flight, SourceUnreachable("source", constraint, flight.job.source))
            elif flight.cancelled is not None:
                if time.monotonic() - flight.cancelled > CANCEL_ANSWER_S:
                    raise Internal("engine", f"must drop a job within {CANCEL_ANSWER_S:.0f} s")
            elif limit_s is not None and flight.busy_s > limit_s:
                error = JobTimeout(
                    "job", f"must be done within {limit_s:.0f} s", flight.claim.job_id
                )
                self._cancel(flight, error)

    def _cancel(self, flight: InFlight, error: ScribefarmError) -> None:
        if not flight.is_in_engine:
            self._fail(flight, error)
        elif flight.cancelled is None:
            flight.cancelled = time.monotonic()
            self._engine.cancel(flight.claim.execution_id, error)

    def _stop_asked(self) -> None:
        """Cancel the jobs or executions that RQ's stop commands named."""
        with contextlib.suppress(queue.Empty):
            while True:
                asked = self._stop_requests.get_nowait()
                for flight in list(self._flights.values()):
                    if asked in {flight.claim.job_id, flight.claim.execution_id}:
                        self._cancel(flight, Cancelled("job", "was stopped", flight.claim.job_id))

    # To and from the server

    def _settle(self) -> None:
        """Write the endings: commits one by one, returns to the queues together."""
        for execution_id, ending in list(self._endings.items()):
            if isinstance(ending, Outcome):
                self._commit(execution_id, ending)
        # Pushed to the front one by one: the last one pushed was the first one claimed.
        releases = [each for each in self._endings.values() if isinstance(each, Release)][::-1]
        while releases:
            some, releases = releases[:MAX_JOBS_A_CALL], releases[MAX_JOBS_A_CALL:]
            ours = set(self._scripts.release(some))
            for each in some:
                self._drop(each.execution_id)
                log_release(each, is_ours=each.execution_id in ours)

    def _commit(self, execution_id: str, outcome: Outcome) -> None:
        try:
            verdict = commit(self.connection, outcome)
        except OUTAGES:
            raise
        except redis.RedisError as error:
            # One job's damaged keys must not stand in the way of the others.
            self._endings[execution_id] = self._endings.pop(execution_id)
            self._refusals[execution_id] = self._refusals.get(execution_id, 0) + 1
            if self._refusals[execution_id] < MAX_COMMIT_TRIES:
                raise
            _log.exception("commit_refused", job_id=outcome.claim.job_id, error=str(error))
            self._drop(execution_id)
            return
        self._drop(execution_id)
        log_outcome(outcome, verdict)

    def _store_progress(self) -> None:
        now = time.monotonic()
        for flight in list(self._flights.values()):
            is_due = now - flight.stored >= PROGRESS_EVERY_S or flight.is_suspect
            if not flight.is_dirty or not is_due:
                continue
            full = flight.is_suspect or now - flight.checkpointed >= CHECKPOINT_EVERY_S
            checkpoint = flight.checkpoint() if full else ""
            fields = flight.progress_fields(self.name)
            if self._scripts.progress(flight.claim, fields, checkpoint):
                flight.note_stored(with_checkpoint=full)
            else:
                self._lose(flight.claim.execution_id)

    def _beat(self) -> None:
        if not self._is_due("heartbeat", self._settings.worker.heartbeat_s):
            return
        state = "busy" if self._flights else "idle"
        record = {key: str(value) for key, value in self.serialize().items()} | {
            "state": state,
            "capacity": str(self._engine.capacity),
            "in_flight": str(len(self._flights)),
        }
        del record["last_heartbeat"]  # the server's clock writes it
        answer = self._scripts.heartbeat(self._claims.values(), record, self.worker_ttl)
        for execution_id in answer.lost:
            self._lose(execution_id)
        for flight in [self._flights[key] for key in answer.cancelled if key in self._flights]:
            self._cancel(flight, Cancelled("job", "was cancelled", flight.claim.job_id))
        if answer.adopted:
            _log.info("adopted", jobs=len(answer.adopted))
            self._receive(answer.adopted)

    def _look_after_others(self) -> None:
        # On the way out of an outage our leases come first, and the peers' as well.
        may_reap = not self._outage.is_on and time.monotonic() >= self._reap_from
        if may_reap and self._is_due("reap", self._settings.worker.reap_s):
            while taken := self._scripts.reap():
                self._receive(taken)
                self._settle()
        if self._is_due("due", DUE_EVERY_S):
            self._scripts.due()
        if self._is_due("tidy", TIDY_EVERY_S):
            self._tidy()

    def _tidy(self) -> None:
        """Drop what RQ lists for ever: expired results, dead workers, half-freed dependents."""
        for each in self.queues:
            clean_worker_registry(each)
            FinishedJobRegistry(queue=each).cleanup()
            FailedJobRegistry(queue=each).cleanup()
            try:
                ReadyJobRegistry(queue=each).cleanup()
            except redis.RedisError:
                raise
            except Exception:  # noqa: BLE001 - it reads whole job hashes; a damaged one must not end us
                _log.exception("dependents_unreadable", queue=each.name)

    def _claim(self) -> None:
        free = self._engine.capacity - len(self._flights)
        if free <= 0 or self.drain_asked or not self._is_due("claim", 0.0):
            return
        section = self._settings.worker
        claims: list[Claim] = []
        if is_active(section.active_hours, section.timezone, datetime.now(UTC)):
            suspects = sum(flight.is_suspect for flight in self._flights.values())
            claims = self._scripts.claim(free, suspects=max(0, 1 - suspects))
        if not claims:
            self._due["claim"] = time.monotonic() + CLAIM_IDLE_S
        self._found_nothing = not claims
        self._receive(claims)
        self._submit_checked()

    # Jobs that came to us

    def _receive(self, claims: list[Claim]) -> None:
        """Start claimed jobs; decide about those whose worker died."""
        if not claims:
            return
        checkpoints: list[Any] = self.connection.mget(
            [checkpoint_key(claim.job_id) for claim in claims]
        )
        for claim, checkpoint in zip(claims, checkpoints, strict=True):
            self._claims[claim.execution_id] = claim
            flight = read_flight(claim, checkpoint, self.name, self._settings)
            if isinstance(flight, Outcome):
                self._endings[claim.execution_id] = flight
            elif dead_worker := claim.fields["lost_worker"].decode(errors="replace"):
                lost = WorkerLost("worker", "must live until its jobs are done", dead_worker)
                ending = after_attempt(flight, lost, self.name, self._settings)
                self._endings[claim.execution_id] = ending
            elif self.drain_asked:
                self._endings[claim.execution_id] = hand_back(flight)
            else:
                self._flights[claim.execution_id] = flight
                self._sources.submit(claim.execution_id, str(flight.job.path))

    def _lose(self, execution_id: str) -> None:
        """Give up a job that belongs to another execution now."""
        flight = self._flights.get(execution_id)
        if flight is not None:
            _log.warning("lease_lost", job_id=flight.claim.job_id, busy_s=round(flight.busy_s, 1))
            if flight.is_in_engine:
                lost = WorkerLost("lease", "ran out", flight.claim.job_id)
                self._engine.cancel(execution_id, lost)
        self._drop(execution_id)

    def _drop(self, execution_id: str) -> None:
        for held in (self._claims, self._flights, self._endings, self._refusals):
            held.pop(execution_id, None)
