"""What comes into the engine: recordings that are to be transcribed, and the audio that is read of them.

All of it runs in the engine's thread, but what the readers call.
"""

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from producer.errors import DeviceLost, ScribefarmError, SourceForbidden
from producer.job import Job
from producer.settings import Settings
from producer.source import is_fetched, shown_source
from worker.audio.read_ahead import End, Piece, Reading, Start
from worker.engine.checkpoints import usable
from worker.engine.family import Family
from worker.engine.lanes import LaneFeatures, LaneTranscription
from worker.engine.messages import Event, Failed, Opened, Ticket
from worker.engine.schedule import Schedule
from worker.engine.track import Track

Fetch: TypeAlias = Callable[[Job, Callable[[], None]], int]
"""Returns a descriptor of the bytes of a job's source; called with the job and a sign of life."""


class Intake:
    """Checks what is asked, has it read, and gives the audio to the recording it is of.

    Args:
        settings: Caps and roots.
        family: Pinned.
        schedule: Holds the recordings.
        read: Has a recording read as soon as a reading thread is free.
        emit: Takes each recording's events.
        post: Lets the engine's thread do something; called in reading threads.
        fetch: Of jobs whose source is no file here, which are refused without it.
    """

    def __init__(
        self,
        settings: Settings,
        family: Family,
        schedule: Schedule,
        *,
        read: Callable[[Reading], None],
        emit: Callable[[Event], None],
        post: Callable[[Callable[[], None]], None],
        fetch: Fetch | None = None,
    ) -> None:
        self._settings, self._family, self._schedule = settings, family, schedule
        self._read, self._emit, self._post = read, emit, post
        self._fetch = fetch

    def admit(self, ticket: Ticket) -> None:
        """Check what is asked and start reading; a wrong job fails before its file is touched."""
        try:
            track = self._track(ticket)
        except ScribefarmError as error:
            self._emit(Failed(ticket.execution_id, error))
            return
        self._schedule.add(track)
        self._read(track.reading)

    def _track(self, ticket: Ticket) -> Track:
        family, job = self._family, ticket.job
        family.check(job.options)
        checkpoint = usable(ticket.checkpoint, family)
        asked = job.read_as
        reading = Reading(
            shown_source(job.source),
            self._settings.audio,
            partial(self._deliver, ticket.execution_id),
            job.audio_sha256,
            asked=asked,
            fetch=self._fetching(job),
        )
        make = partial(family.transcription, job.options)
        if "split" not in (asked.channels, asked.tracks):
            return Track(ticket, make(checkpoint), family.features(), reading)
        lanes = LaneTranscription(
            make, "channel" if asked.channels == "split" else "track", checkpoint
        )
        return Track(ticket, lanes, LaneFeatures(family.features), reading)

    def _fetching(self, job: Job) -> Callable[[Callable[[], None]], int] | None:
        """Return what fetches a job's source; None if it is a file to open."""
        if not is_fetched(job.source):
            return None
        if self._fetch is None:
            limit = "must be a path: this worker fetches nothing"
            raise SourceForbidden("source", limit, shown_source(job.source))
        return partial(self._fetch, job)

    def _deliver(self, execution_id: str, piece: Piece) -> None:
        """Pass on what a reading thread has; runs in that thread."""
        self._post(partial(self._take_audio, execution_id, piece))

    def _take_audio(self, execution_id: str, piece: Piece) -> None:
        track = self._schedule.tracks.get(execution_id)
        if track is None:
            return
        try:
            self._give_audio(track, piece)
        except DeviceLost:
            raise
        except ScribefarmError as error:
            self._schedule.fail(track, error)

    def _give_audio(self, track: Track, piece: Piece) -> None:
        """Pass a piece on; raises what ends this recording and no other."""
        match piece:
            case ScribefarmError():
                raise piece
            case Start():
                self._emit(Opened(track.key, piece.duration_s))
            case End():
                track.begin(piece)
                self._schedule.advance(track)
            case _:
                track.features.push(piece)
                track.reading.take()
