"""A recording whose text is in another language goes to a Whisper worker: once, whoever dies."""

import pytest

from producer.batches.html import to_html
from producer.batches.markdown import to_markdown
from producer.batches.plain import to_text
from producer.batches.report import make_report
from producer.batches.tables import to_csv
from producer.batches.watching import batch_status
from producer.errors import InvalidOptions
from producer.job import Job
from producer.keys import checkpoint_key
from producer.queue import job_id_of
from producer.result import LANGUAGE_DRIFT, Model, Segment
from tests.stage.claims import make_claim, make_transcript
from tests.stage.fake_engine import FakeEngine, expected_text, job
from tests.stage.farm import wait_until
from worker.farm.endings import is_handed_on
from worker.farm.in_flight import read_flight
from worker.farm.scripts import FarmScripts, Release

PARAKEET = "moondream/parakeet-ultra"
TASK = "worker.tasks.transcribe"


def engine_of(name, capacity=4):
    return FakeEngine(capacity, Model(name=name, revision="1", dtype="float32"))


def drifting(number=0, *, on_drift="whisper", drift_model="tiny.en", batch=None, **options):
    """Return a job for Parakeet whose text will be in another language."""
    asked = {"language": "en", "on_drift": on_drift, "drift_model": drift_model}
    fake = job(f"drifts-{number}", drift=PARAKEET, **options)
    return Job.from_kwargs(
        fake.to_kwargs() | {"model": "parakeet", "options": asked, "batch": batch, "name": "a.wav"}
    )


def scripts(farm, worker, model):
    return FarmScripts(farm.connection, farm.settings, worker, [(model, None)])


def test_a_drifted_recording_is_transcribed_anew_by_the_model_for_that(farm):
    """Same id, same key: the text, the model and the flags are the second model's."""
    asked = drifting(batch="night")
    (job_id,) = farm.submit(asked)
    parakeet, whisper = engine_of(PARAKEET), engine_of("tiny.en")
    farm.start(parakeet, burst=True).wait()
    assert farm.state(job_id) == "queued"
    assert farm.field(job_id, "origin") == "default@tiny.en"
    assert farm.field(job_id, "tries") is None
    # Nobody has that model yet, and the batch says so.
    status = batch_status(farm.connection, farm.settings, "night")
    assert status.unserved == {"tiny.en": 1}
    farm.start(parakeet := engine_of(PARAKEET))
    farm.start(whisper)
    result = farm.result(job_id)
    assert (result.model.name, result.flags) == ("tiny.en", [])
    assert result.text == expected_text(asked.source)
    (ticket,) = whisper.seen
    assert ticket.checkpoint is None
    assert parakeet.seen == []
    assert farm.commits() == {job_id: 1}
    assert farm.field(job_id, "drifted") is None
    assert farm.leftovers() == []


def test_without_being_asked_it_is_flagged(farm):
    """The text stays: somebody may want it."""
    (job_id,) = farm.submit(drifting(on_drift="flag", drift_model=None))
    farm.start(engine_of(PARAKEET))
    result = farm.result(job_id)
    assert (result.model.name, result.flags) == (PARAKEET, [LANGUAGE_DRIFT])


def test_a_report_lists_what_drifted_in_every_form(farm):
    """Its figures are null, and nothing asks for them."""
    farm.submit(drifting(on_drift="flag", drift_model=None, batch="night"))
    farm.start(engine_of(PARAKEET), burst=True).wait()
    report = make_report(farm.connection, "night")
    (file,) = report.flagged
    assert (file.name, file.flags) == ("a.wav", [LANGUAGE_DRIFT])
    assert len(file.segments) == report.run.num_flagged == 3
    for write in (to_text, to_markdown, to_html, to_csv):
        assert LANGUAGE_DRIFT in write(report)


def test_what_the_second_model_writes_counts(farm):
    """It is handed on once: no recording goes back and forth."""
    asked = job("drifts", drift="tiny.en").model_copy(update={"model": "tiny.en"})
    options = {"language": "en", "on_drift": "whisper", "drift_model": "tiny.en"}
    (job_id,) = farm.submit(Job.from_kwargs(asked.to_kwargs() | {"options": options}))
    whisper = engine_of("tiny.en")
    farm.start(whisper)
    assert farm.result(job_id).flags == [LANGUAGE_DRIFT]
    assert len(whisper.seen) == 2


def test_a_reply_that_is_lost_hands_on_once(farm):
    """The script is called again; by then the job is no longer ours."""
    (job_id,) = farm.submit(drifting())
    ours = scripts(farm, "w", PARAKEET)
    (claim,) = ours.claim(1, suspects=1)
    farm.connection.set(checkpoint_key(job_id), "{}")
    release = Release(
        job_id, claim.execution_id, claim.queue, to_queue="default@tiny.en", drifted=True
    )
    assert ours.release([release]) == [claim.execution_id]
    assert ours.release([release]) == []
    assert farm.own_queue(model="tiny.en").get_job_ids() == [job_id]
    assert not farm.connection.exists(checkpoint_key(job_id))


@pytest.mark.parametrize("dead", [PARAKEET, "tiny.en"])
def test_a_worker_that_dies_before_or_after_costs_nothing_but_time(farm, dead):
    """Before, the first model hears it again; after, the second has it and keeps it."""
    farm.configure(lease_s=0.5, heartbeat_s=0.1, reap_s=0.1)
    (job_id,) = farm.submit(drifting())
    if dead == "tiny.en":
        farm.start(engine_of(PARAKEET), burst=True).wait()
    (claim,) = scripts(farm, "dead", dead).claim(1, suspects=1)
    assert claim.job_id == job_id
    farm.start(engine_of(PARAKEET))
    farm.start(engine_of("tiny.en"))
    assert farm.result(job_id).model.name == "tiny.en"
    assert farm.commits() == {job_id: 1}
    wait_until(lambda: farm.leftovers() == [])


def test_a_retried_job_begins_with_its_own_model(farm):
    """Its end took the mark off."""
    (job_id,) = farm.submit(drifting(error="corrupt_audio", error_at=2))
    farm.start(engine_of(PARAKEET))
    assert farm.result(job_id).error.code == "corrupt_audio"
    assert farm.field(job_id, "drifted") is None


def test_a_mark_without_the_option_is_nobodys(farm):
    """Any program may write a job's hash; the job itself says where it may go."""
    fields = {"source": "/archive/a.wav", "model": "parakeet"}
    farm.queue().enqueue(TASK, kwargs=fields, job_id="forged")
    farm.connection.hset("rq:job:forged", "drifted", "1")
    (claim,) = scripts(farm, "w", PARAKEET).claim(1, suspects=1)
    assert read_flight(claim, None).wanted_model == (PARAKEET, None)


def test_a_tenth_of_the_text_is_no_drift():
    """A quotation, a name: the recording is flagged, and stays."""
    asked = {"language": "de", "on_drift": "whisper", "drift_model": "turbo"}
    kwargs = {"source": "/archive/a.wav", "model": "parakeet", "options": asked}
    flight = read_flight(make_claim("a", kwargs=kwargs), None)
    own = {"avg_logprob": -0.1, "compression_ratio": 1.0, "seek": 0, "start": 0, "end": 1}

    def text(length, *flags):
        return Segment(id=0, text="x" * length, tokens=[], flags=list(flags), **own)

    def transcript(*segments):
        return make_transcript().model_copy(update={"segments": list(segments)})

    assert not is_handed_on(flight, transcript(text(90), text(10, LANGUAGE_DRIFT)))
    assert is_handed_on(flight, transcript(text(88), text(12, LANGUAGE_DRIFT)))
    assert not is_handed_on(flight, transcript())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"on_drift": "whisper"}, "is needed for on_drift"),
        ({"on_drift": "whisper", "drift_model": "parakeet"}, "must be a Whisper"),
        ({"on_drift": "whisper", "drift_model": "turbi"}, "did you mean"),
        ({"on_drift": "maybe"}, "'flag' or 'whisper'"),
    ],
)
def test_where_it_goes_is_checked_before_anything_is_queued(options, named):
    """Without a Whisper model there is nowhere to go."""
    with pytest.raises(InvalidOptions, match=named):
        Job.from_kwargs({"source": "a.wav", "options": options})


def test_ids_of_jobs_that_do_not_ask_for_it_stay_what_they_were(settings):
    """Work that is done stays done."""
    plain, asking = drifting(on_drift="flag", drift_model=None), drifting()
    explicit = plain.model_copy(
        update={"options": plain.options.model_copy(update={"on_drift": "flag"})}
    )
    assert job_id_of(plain, settings) == job_id_of(explicit, settings)
    assert job_id_of(plain, settings) != job_id_of(asking, settings)
