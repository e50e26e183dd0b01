"""The farm worker: claims jobs, feeds the engine, keeps leases alive, commits results.

One thread does all of it, beside the engine's own threads and RQ's pubsub thread, which both only
leave messages for it. No process is forked: a pinned model does not survive a fork.

```
        poll     the engine's progress and endings, RQ's stop commands
loop:   sync     endings, progress: written through the fence, safe to repeat
                 heartbeat:         leases renewed; what is lost, cancelled, adopted
                 reap:              jobs of dead workers, delayed jobs that are due
                 claim:             up to the engine's capacity, highest queue first
        submit   recordings whose paths are checked
```

Where RQ's own steps are safe they are used: the job hash, the registries, results, dependents,
commands. The steps in which RQ loses or repeats jobs are scripts and a fenced transaction here
(tests/farm/test_hazards.py).
"""

import contextlib
import socket
import time
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import redis
import structlog
from redis.backoff import NoBackoff
from redis.retry import Retry
from rq.serializers import JSONSerializer

from producer.active_hours import is_active
from producer.errors import ScribefarmError
from producer.keys import checkpoint_key
from producer.models_served import farm_queues
from producer.settings import Settings
from producer.worker_records import WorkerFacts
from worker.engine.messages import Engine
from worker.farm.awake import Awake
from worker.farm.drainable_worker import DrainableWorker, ForcedExit
from worker.farm.fenced_writes import FencedWrites
from worker.farm.health import Health
from worker.farm.held_jobs import HeldJobs
from worker.farm.hours import Hours
from worker.farm.job_log import log_taken_over
from worker.farm.outage import Outage
from worker.farm.rq_cleanup import clean_registries
from worker.farm.scripts import Claim, FarmScripts, queue_levels, served_models
from worker.farm.self_report import SelfReport

POLL_BUSY_S = 0.05
POLL_IDLE_S = 0.25
# Pause after a claim that found nothing; a job that comes meanwhile waits half of it on average.
CLAIM_IDLE_S = 0.25
DUE_EVERY_S = 1.0
DEADLINES_EVERY_S = 0.25
TIDY_EVERY_S = 60.0

EXIT_OK = 0
EXIT_ENGINE_BROKEN = 1
EXIT_FORCED = 130

_log = structlog.get_logger()


class FarmWorker(DrainableWorker):
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
        models = served_models(engine.model, settings.model)
        super().__init__(
            [queue for level in queue_levels(settings.worker.queues, models) for queue in level],
            name=f"{name or socket.gethostname()}-{uuid4().hex[:8]}",
            connection=connection,
            serializer=JSONSerializer,
            default_result_ttl=settings.queue.result_ttl_s,
            worker_ttl=int(max(60.0, 2 * settings.worker.lease_s)),
        )
        self._engine, self._settings = engine, settings
        self._scripts = FarmScripts(connection, settings, self.name, models)
        self._held = HeldJobs(engine, settings, self.name)
        self._report = SelfReport(engine, settings, self.queue_names())
        self._writes = FencedWrites(
            connection, self._scripts, self._held, self.name, settings.queue, report=self._report
        )
        self._awake = Awake()
        self._outage = Outage(max_wait_s=settings.worker.lease_s / 3)
        self._due: dict[str, float] = {}  # monotonic time from which a task may run again
        # Peers that lived through an outage, or a start of the whole farm, renew first.
        self._reap_from = time.monotonic() + settings.worker.lease_s
        self._found_nothing = False
        self._hours = Hours()
        self._is_blocked = False  # as the log was told: the engine takes no more recordings
        self._drain_from: float | None = None
        self._is_paused = False
        self._turned_at = time.monotonic()
        # What the last heartbeat said, and when (monotonic).
        self.facts, self.facts_at = WorkerFacts(), 0.0

    @property
    def health(self) -> Health:
        """How the worker is; may be asked from any thread."""
        return Health(
            loop_age_s=time.monotonic() - self._turned_at,
            is_registered=self.facts_at > 0,
            is_draining=self.drain_asked,
            is_blocked=self._is_blocked,
            is_asleep=self._hours.sleeps_until_s is not None,
            is_paused=self._is_paused,
            has_server=not self._outage.is_active,
        )

    def run(self, *, burst: bool = False) -> int:
        """Work until drained, or with `burst` until the queues are empty; return an exit code.

        The first SIGTERM or SIGINT drains: no more claims, `worker.grace_s` to finish, the rest
        goes back to the front of its queue with its progress. A second one ends the worker at once.
        """
        with self.registered(capacity=self._engine.capacity):
            try:
                while not self._is_over(burst=burst):
                    self._step()
                return self._shut_down(EXIT_OK)
            except ForcedExit:
                # The signal may have cut a command in two: its connection is of no more use.
                self.connection.connection_pool.disconnect()
                return self._shut_down(EXIT_FORCED)
            except ScribefarmError as error:
                _log.critical("engine_broken", **error.to_dict())
                self._held.break_down(error)
                return self._shut_down(EXIT_ENGINE_BROKEN, broken_by=error.code)
            finally:
                self._awake.let_sleep()

    def _step(self) -> None:
        can_read = self._engine.can_read  # before the events: those that led to it are among them
        self._turned_at = time.monotonic()
        flights = self._held.flights
        for event in self._engine.poll(POLL_BUSY_S if flights else POLL_IDLE_S):
            self._report.take(event, flights)
            self._held.handle(event)
        self._report.turn(has_work=bool(flights))
        for job_or_execution_id in self.stop_requests():
            self._held.cancel(job_or_execution_id, "was stopped")
        self._note_reading_threads(can_read=can_read)
        if self._outage.may_retry:
            self._sync_with_server()
        self._held.submit_checked()
        if self._is_due("deadlines", DEADLINES_EVERY_S):
            self._held.enforce_deadlines()
        self._awake.note(has_work=bool(self._held))

    def _note_reading_threads(self, *, can_read: bool) -> None:
        """While too many hang in a share: claim nothing, and give back what was not begun."""
        if can_read is self._is_blocked:
            self._is_blocked = not can_read
            self._due.pop("heartbeat", None)  # the farm's status shows it at once
            message = "claims_resumed" if can_read else "claims_stopped"
            _log.warning(message, lost_reading_threads=self._engine.num_lost_threads)
        if self._is_blocked:
            self._held.hand_back_unopened()

    def _sync_with_server(self) -> None:
        """Do all that needs the server; during an outage the engine goes on."""
        try:
            self._writes.write_endings()
            self._writes.store_progress()
            self._send_heartbeat()
            self._look_after_others()
            self._claim()
        except redis.RedisError as error:
            self._outage.record(error)
            return
        if self._outage.clear():
            self._due.clear()
            self._reap_from = time.monotonic() + self._settings.worker.lease_s

    def _is_over(self, *, burst: bool) -> bool:
        if self.drain_asked:
            grace_s = self._settings.worker.grace_s
            if self._drain_from is None:
                self._drain_from = time.monotonic()
                _log.info("draining", in_flight=len(self._held.flights), grace_s=grace_s)
                self._due.pop("heartbeat", None)  # the farm hears of it at once
            return not self._held or time.monotonic() > self._drain_from + grace_s
        return burst and self._found_nothing and not self._held

    def _shut_down(self, exit_code: int, *, broken_by: str | None = None) -> int:
        """Hand back what is at work and write all endings; in an outage the leases run out."""
        self._held.hand_back()
        if self._held and not self._outage.is_active:
            with contextlib.suppress(redis.RedisError):
                self._writes.write_endings()
        if self._held:
            _log.warning("left_to_leases", jobs=len(self._held))
        if not self._outage.is_active:
            with contextlib.suppress(redis.RedisError):
                self._scripts.leave(was_asked=self.drain_asked, broken_by=broken_by)
        return exit_code

    @property
    def _may_start(self) -> bool:
        """Return whether this worker begins recordings."""
        return not self.drain_asked and not self._is_blocked

    def _is_due(self, task: str, every_s: float) -> bool:
        now = time.monotonic()
        if now < self._due.get(task, 0.0):
            return False
        self._due[task] = now + every_s
        return True

    def _send_heartbeat(self) -> None:
        """Renew all leases and this worker's record; act on what the server says about jobs."""
        if not self._is_due("heartbeat", self._settings.worker.heartbeat_s):
            return
        hours = Hours.now(self._settings.worker)
        hours.log_change(self._hours)
        self._hours = hours
        flights = self._held.flights
        facts = self._report.facts(flights, hours, is_draining=self.drain_asked)
        record = {key: str(value) for key, value in self.serialize().items()}
        record["state"] = "busy" if flights else "idle"
        del record["last_heartbeat"]  # the server's clock writes it
        answer = self._scripts.heartbeat(
            self._held.claims, record, self.worker_ttl, facts.to_json()
        )
        self.facts, self.facts_at = facts, time.monotonic()
        if answer.is_paused is not self._is_paused:
            self._is_paused = answer.is_paused
            _log.info("paused" if answer.is_paused else "resumed")
        for execution_id in answer.lost:
            self._held.lose(execution_id)
        for execution_id in answer.cancelled:
            self._held.cancel(execution_id, "was cancelled")
        if answer.adopted:
            _log.info("adopted", jobs=len(answer.adopted))
            self._start_claimed(answer.adopted)

    def _look_after_others(self) -> None:
        """Take over jobs of dead workers, queue delayed jobs that are due, tidy RQ's registries."""
        # During an outage, and for a lease after it, our leases and the peers' are renewed first.
        may_reap = not self._outage.is_active and time.monotonic() >= self._reap_from
        if may_reap and self._is_due("reap", self._settings.worker.reap_s):
            while taken := self._scripts.reap():
                log_taken_over(taken)
                self._start_claimed(taken)
                self._writes.write_endings()
        if self._is_due("due", DUE_EVERY_S):
            self._scripts.due()
        if self._is_due("tidy", TIDY_EVERY_S):
            queues = farm_queues(self.connection, self._settings.worker.queues)
            clean_registries(self.connection, queues)
            self._scripts.sweep()

    def _claim(self) -> None:
        flights = self._held.flights
        num_free = self._engine.capacity - len(flights)
        self._found_nothing |= self._is_blocked
        if num_free <= 0 or not self._may_start or not self._is_due("claim", 0.0):
            return
        section = self._settings.worker
        claims: list[Claim] = []
        if is_active(section.active_hours, section.timezone, datetime.now(UTC)):
            # One suspect at a time, so that another death tells which recording is at fault.
            num_suspects = sum(flight.is_suspect for flight in flights)
            claims = self._scripts.claim(num_free, suspects=max(0, 1 - num_suspects))
        if not claims:
            self._due["claim"] = time.monotonic() + CLAIM_IDLE_S
        self._found_nothing = not claims
        self._start_claimed(claims)

    def _start_claimed(self, claims: list[Claim]) -> None:
        if not claims:
            return
        checkpoints: list[Any] = self.connection.mget(
            [checkpoint_key(claim.job_id) for claim in claims]
        )
        for claim, checkpoint in zip(claims, checkpoints, strict=True):
            self._held.start(claim, checkpoint, draining=not self._may_start)
