"""The engine's policy over a fake device, then the real one: many recordings, each as if alone."""

import queue
import threading
import time
import wave
from types import SimpleNamespace

import pytest
import soundfile

from producer.errors import (
    Cancelled,
    CorruptAudio,
    DeviceLost,
    EmptyInput,
    Internal,
    InvalidModel,
    InvalidOptions,
    NonFinite,
    OutOfMemory,
    OutOfRange,
    RankMismatch,
    SourceNotFound,
)
from producer.job import Job, Options
from producer.settings import AudioSettings, Settings
from tests.stage.fake_family import BEGIN, FakeFamily, words_of
from worker.audio.read_ahead import BLOCKS_AHEAD, End, Reading, Start
from worker.engine.engine import BatchEngine
from worker.engine.messages import Done, Failed, Opened, Progress, Ticket
from worker.engine.stats import EngineStats
from worker.engine.times import RECEIVE_S
from worker.models.whisper.tokenizer import Tokenizer

WINDOW_SAMPLES = 480_000
# Most seconds that real recordings may take, also in MLX's network with the reference BLAS.
REAL_S = 1800.0


@pytest.fixture
def record(tmp_path):
    """Return a function that writes a recording of a constant level, seconds long."""

    def write(level, seconds=2.0):
        path = tmp_path / f"{level}.wav"
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            file.writeframes(level.to_bytes(2, "little", signed=True) * round(seconds * 16_000))
        return path

    return write


@pytest.fixture
def start():
    """Return a function that starts an engine over a fake device; all are stopped at the end."""
    engines = []

    def run(family=None, **audio):
        family = family or FakeFamily()
        engine = BatchEngine(Settings(audio=audio), lambda _: family)
        engines.append(engine)
        return engine, family

    yield run
    for engine in engines:
        engine.stop()


def ticket(path, name=None, checkpoint=None, **options):
    job = Job(source=str(path), options=Options(**options))
    return Ticket(name or path.stem, f"job-{name or path.stem}", job, checkpoint)


def collect(engine, num_endings, timeout_s=100.0):
    """Return what the engine says until so many recordings have ended, but for `Opened`."""
    events = []
    deadline = time.monotonic() + timeout_s
    while sum(isinstance(event, Done | Failed) for event in events) < num_endings:
        assert time.monotonic() < deadline, f"only {events}"
        events += engine.poll(0.2)
    return [event for event in events if not isinstance(event, Opened)]


def endings(events):
    """Return what each recording ended with, by its execution."""
    ended = [event for event in events if isinstance(event, Done | Failed)]
    by_name = {event.execution_id: event for event in ended}
    assert len(ended) == len(by_name), "a recording ended twice"
    return by_name


def text_of(level, num_windows=1):
    tokens = [token for n in range(num_windows) for token in words_of(level, n * 3000)]
    return Tokenizer(51_864, "en", "transcribe").decode(tokens)


# The life of a recording


@pytest.mark.parametrize("error", [OutOfMemory, DeviceLost])
def test_what_the_device_says_to_features_is_typed(start, record, error):
    """Without room one recording fails; without a device the engine is broken, and nobody fails."""
    engine, family = start()
    said = error("device", "must have room")

    def fail(_samples):
        raise said

    features = family.features()
    features.push, make = fail, family.features
    family.features = lambda: features
    engine.submit(ticket(record(7)))
    if error is OutOfMemory:
        assert endings(collect(engine, 1))["7"].error is said
        family.features = make
        engine.submit(ticket(record(8)))
        assert type(endings(collect(engine, 1))["8"]) is Done
    else:
        with pytest.raises(DeviceLost):
            collect(engine, 1)


def test_a_recording_is_read_decoded_and_ends_with_its_text(start, record):
    """Three windows: progress after each but the last, a transcript with what was read."""
    engine, family = start()
    engine.submit(ticket(record(7, 65.0)))
    *progress, done = collect(engine, 1)
    assert [type(event) for event in progress] == [Progress] * 3
    assert [event.seconds_done for event in progress] == [30.0, 60.0, 65.0]
    assert all(event.duration_s == 65.0 for event in progress)
    transcript = done.transcript
    assert text_of(7, 3) == transcript.text
    assert [(s.start, s.end) for s in transcript.segments] == [(0, 30), (30, 60), (60, 65)]
    assert (
        transcript.language,
        transcript.model.name,
        transcript.audio.duration_s,
    ) == ("en", "fake", 65.0)
    assert (transcript.timing.windows, transcript.timing.generated_tokens) == (3, 12)
    assert family.batches == [1, 1, 1]


def test_only_one_thread_ever_touches_the_device(start, record):
    """It loads, encodes and steps; the caller's thread and the audio threads never do."""
    engine, family = start()
    for level in range(1, 6):
        engine.submit(ticket(record(level)))
    collect(engine, 5)
    threads = family.threads | family.stepper.threads
    assert len(threads) == 1
    assert threading.get_ident() not in threads


def test_a_recording_goes_on_from_a_checkpoint_with_the_same_transcript(start, record):
    """Handed to another engine between any two windows, it ends the same."""
    engine, _ = start()
    path = record(3, 95.0)
    engine.submit(ticket(path))
    *progress, whole = collect(engine, 1)
    for stop in progress:
        peer, family = start()
        peer.submit(ticket(path, checkpoint=stop.checkpoint))
        resumed = collect(peer, 1)[-1]
        assert whole.transcript.segments == resumed.transcript.segments
        assert whole.transcript.text == resumed.transcript.text
        assert all(seek >= stop.checkpoint.state["seek"] for _, seek in family.stepper.ended)


def test_silence_without_content_is_an_empty_transcript(start, record):
    """A recording shorter than a frame has no window to decode."""
    engine, family = start()
    engine.submit(ticket(record(4, 0.005)))
    (done,) = collect(engine, 1)
    assert (done.transcript.text, done.transcript.segments) == ("", [])
    assert family.batches == []


# Fairness and batches


def test_a_long_recording_does_not_starve_short_ones(start, record, wait_until):
    """With one slot, each short one is done after at most one more window of the long one."""
    engine, family = start(FakeFamily(slots=1, encode_batch=1))
    family.stepper.hold()
    engine.submit(ticket(record(1, 20 * 30.0)))
    wait_until(lambda: family.stepper.num_wanted == 1)
    for level in range(2, 8):
        engine.submit(ticket(record(level)))
    wait_until(lambda: family.stepper.num_wanted == 7)
    family.stepper.go()
    endings(collect(engine, 7))
    places = [family.stepper.ended.index((level, 0)) for level in range(2, 8)]
    assert max(places) <= 7
    assert len(family.stepper.ended) == 26


@pytest.mark.parametrize(
    "sizes",
    [{"slots": 2, "encode_batch": 2, "steps": 3}, {"slots": 4, "encode_batch": 1, "steps": 1}],
    ids=["decoding", "encoding"],
)
def test_recordings_of_equal_length_take_turns(start, record, wait_until, sizes):
    """No recording is far ahead of another, whichever of the two is the bottleneck."""
    engine, family = start(FakeFamily(**sizes))
    family.stepper.hold()
    for level in range(1, 5):
        engine.submit(ticket(record(level, 150.0)))
    wait_until(lambda: family.stepper.num_wanted == 4)
    family.stepper.go()
    collect(engine, 4)
    counts = dict.fromkeys(range(1, 5), 0)
    for level, _ in family.stepper.ended:
        counts[level] += 1
        assert max(counts.values()) - min(counts.values()) <= 2
    assert set(counts.values()) == {5}


def test_windows_are_encoded_in_batches_and_a_lone_one_does_not_wait_for_ever(
    start, record, wait_until
):
    """Five windows that are due together: a full batch, and one that waited for company in vain."""
    engine, family = start(FakeFamily(slots=8, encode_batch=4, steps=40))
    family.stepper.hold()
    for level in range(1, 6):
        engine.submit(ticket(record(level, 35.0)))
    wait_until(lambda: family.stepper.num_wanted == 5)
    family.stepper.go()
    collect(engine, 5)
    assert family.batches[-2:] == [4, 1]
    assert sum(family.batches) == 10


@pytest.mark.parametrize(("behind_a_batch", "taken"), [(False, 3), (True, 12)])
def test_audio_is_taken_for_longer_while_the_device_computes_a_batch(behind_a_batch, taken):
    """Between two steps a few blocks, so that the rows go on; behind a batch all that came."""
    engine = object.__new__(BatchEngine)
    engine._inbox, engine.stats = queue.SimpleQueue(), EngineStats()
    engine._schedule = SimpleNamespace(
        is_idle=False, receiving_s=(200 if behind_a_batch else 1) * RECEIVE_S
    )
    for _ in range(12):
        engine._inbox.put(lambda: time.sleep(RECEIVE_S / 2))
    engine._receive()
    assert 0 < 12 - engine._inbox.qsize() <= taken
    assert engine._inbox.empty() is behind_a_batch


def test_reading_stays_a_few_blocks_ahead(record, wait_until):
    """However slow the engine, no more blocks wait for it than agreed."""
    outstanding, most, ended = [0], [0], []
    lock = threading.Lock()

    def deliver(piece):
        if isinstance(piece, End):
            ended.append(piece)
        if isinstance(piece, Start | End):
            return
        with lock:
            outstanding[0] += 1
            most[0] = max(most[0], outstanding[0])

    reading = Reading(str(record(1, 300.0)), AudioSettings(), deliver)
    thread = threading.Thread(target=reading.run)
    thread.start()
    for _ in range(8):
        wait_until(lambda: outstanding[0] == BLOCKS_AHEAD)
        with lock:
            outstanding[0] -= 1
        reading.take()
    wait_until(lambda: ended)
    thread.join()
    assert most[0] == BLOCKS_AHEAD == 2
    assert ended[0].audio.duration_s == 300.0


def test_a_reading_that_is_stopped_ends_without_a_word(record, wait_until):
    """Its thread is free at once, also while it waits for the engine."""
    pieces = []
    reading = Reading(str(record(1, 150.0)), AudioSettings(), pieces.append)
    thread = threading.Thread(target=reading.run)
    thread.start()
    wait_until(lambda: len(pieces) == 1 + BLOCKS_AHEAD)
    reading.stop()
    thread.join(20)
    assert not thread.is_alive()
    assert len(pieces) == 1 + BLOCKS_AHEAD


# Failures stay in their row


def test_a_failed_window_takes_only_its_own_recording_along(start, record):
    """The others' transcripts are those that they have alone."""
    engine, family = start()
    family.stepper.outcome_errors[3] = NonFinite("decode: logits", "must be finite", "nan")
    for level in range(1, 6):
        engine.submit(ticket(record(level, 35.0)))
    ended = endings(collect(engine, 5))
    assert isinstance(ended["3"].error, NonFinite)
    for level in (1, 2, 4, 5):
        assert text_of(level, 2) == ended[str(level)].transcript.text


def test_bad_recordings_fail_with_their_reasons_among_good_ones(start, record, tmp_path):
    """Absent, empty, no audio, cut off, too long: each has its error; the good one its text."""
    (tmp_path / "empty.wav").touch()
    (tmp_path / "junk.wav").write_bytes(b"no audio" * 50)
    cut_off = record(6, 3.0)
    cut_off.write_bytes(cut_off.read_bytes()[:30_000])
    engine, _ = start(long_audio="reject", max_audio_seconds=30.0)
    bad = {
        tmp_path / "absent.wav": SourceNotFound,
        tmp_path / "empty.wav": EmptyInput,
        cut_off: CorruptAudio,
        record(8, 31.0): OutOfRange,
    }
    for path in bad:
        engine.submit(ticket(path))
    engine.submit(ticket(tmp_path / "junk.wav"))
    engine.submit(ticket(record(1, 30.0)))
    ended = endings(collect(engine, 6))
    for path, error in bad.items():
        assert isinstance(ended[path.stem].error, error), path
    assert ended["junk"].error.code == "unsupported_format"
    assert text_of(1) == ended["1"].transcript.text


@pytest.mark.parametrize(
    ("asked", "error"),
    [
        ({"language": "tlh"}, InvalidOptions),
        ({"task": "translate"}, InvalidOptions),
        ({"suppress_tokens": (51_864,)}, OutOfRange),
    ],
)
def test_a_wrong_job_fails_before_its_file_is_touched(start, tmp_path, asked, error):
    """The file does not exist, and yet the job is what is complained about."""
    engine, _ = start()
    engine.submit(ticket(tmp_path / "absent.wav", **asked))
    (failed,) = collect(engine, 1)
    assert isinstance(failed.error, error)


def test_an_alignment_that_breaks_fails_its_recording_only(start, record):
    """Work beside the decode has its own place for errors."""
    family = FakeFamily()
    family.is_scored = False
    engine, _ = start(family)
    engine.submit(ticket(record(1), word_timestamps=True))
    engine.submit(ticket(record(2)))
    ended = endings(collect(engine, 2))
    assert ended["1"].error.code in {"internal", "rank_mismatch", "length_mismatch"}
    assert text_of(2) == ended["2"].transcript.text


# Cancelling


def test_a_cancelled_recording_leaves_and_the_others_go_on(start, record, wait_until):
    """Whether it waits for a slot or is in the middle: it ends once, with the reason given."""
    engine, family = start(FakeFamily(slots=2))
    family.stepper.hold()
    for level in range(1, 6):
        engine.submit(ticket(record(level, 61.0)))
    wait_until(lambda: family.stepper.num_wanted == 5)
    engine.cancel("1", Cancelled("job", "was cancelled"))
    engine.cancel("5", Cancelled("job", "was cancelled"))
    wait_until(lambda: family.stepper.num_wanted == 3)
    family.stepper.go()
    ended = endings(collect(engine, 5))
    assert {"1", "5"} == {name for name, event in ended.items() if isinstance(event, Failed)}
    assert ended["1"].error.code == ended["5"].error.code == "cancelled"
    for level in (2, 3, 4):
        assert text_of(level, 3) == ended[str(level)].transcript.text
    assert {2, 3, 4} == {level for level, _ in family.stepper.ended}


def test_cancelling_what_is_done_or_unknown_says_nothing(start, record):
    """`Done` and `Failed` never both come."""
    engine, _ = start()
    engine.submit(ticket(record(1)))
    collect(engine, 1)
    engine.cancel("1", Cancelled("job", "was cancelled"))
    engine.cancel("nobody", Cancelled("job", "was cancelled"))
    engine.submit(ticket(record(2)))
    (name,) = endings(collect(engine, 1))
    assert name == "2"


# Memory


def test_out_of_memory_at_encoding_halves_the_batch_and_tries_again(start, record):
    """The same windows, fewer at once; nobody fails."""
    family = FakeFamily(slots=8, encode_batch=8)
    family.max_windows_that_fit = 2
    engine, _ = start(family)
    family.stepper.hold()
    for level in range(1, 9):
        engine.submit(ticket(record(level)))
    family.stepper.go()
    ended = endings(collect(engine, 8))
    assert all(isinstance(event, Done) for event in ended.values())
    assert max(family.batches) <= 2


def test_out_of_memory_at_a_step_halves_the_rows_and_starts_them_anew(start, record, wait_until):
    """The texts are those of a device with room."""
    family = FakeFamily(slots=8, encode_batch=8)
    family.stepper.max_rows_that_fit = 3
    engine, _ = start(family)
    family.stepper.hold()
    for level in range(1, 9):
        engine.submit(ticket(record(level, 40.0)))
    wait_until(lambda: family.stepper.num_wanted == 8)
    family.stepper.go()
    ended = endings(collect(engine, 8))
    assert family.stepper.num_slots == 2
    for level in range(1, 9):
        assert text_of(level, 2) == ended[str(level)].transcript.text


@pytest.mark.parametrize("limit", ["max_windows_that_fit", "max_rows_that_fit"])
def test_out_of_memory_that_persists_is_a_typed_error_and_the_engine_lives(start, record, limit):
    """Not even one fits: the recordings fail, retryable; the next ones find an engine."""
    family = FakeFamily(slots=4, encode_batch=4)
    engine, _ = start(family)
    limited = family if limit == "max_windows_that_fit" else family.stepper
    setattr(limited, limit, 0)
    for level in (1, 2):
        engine.submit(ticket(record(level)))
    ended = endings(collect(engine, 2))
    assert all(isinstance(event.error, OutOfMemory) for event in ended.values())
    assert all(event.error.retryable for event in ended.values())
    setattr(limited, limit, 4)
    engine.submit(ticket(record(3)))
    assert text_of(3) == collect(engine, 1)[-1].transcript.text


def test_a_model_that_breaks_for_every_row_fails_what_it_was_decoding(start, record, wait_until):
    """What had not reached the device yet goes on."""
    engine, family = start(FakeFamily(slots=4))
    family.stepper.hold()
    for level in (1, 2):
        engine.submit(ticket(record(level)))
    wait_until(lambda: family.stepper.num_wanted == 2)
    family.stepper.step_errors.append(RankMismatch("decode: logits", "must be rank 2", (1, 2, 3)))
    family.stepper.go()
    ended = endings(collect(engine, 2))
    assert all(isinstance(event.error, RankMismatch) for event in ended.values())
    engine.submit(ticket(record(3)))
    assert text_of(3) == collect(engine, 1)[-1].transcript.text


# The engine itself


def test_a_device_that_cannot_load_refuses_to_start():
    """The error is the loader's own."""

    def load(_):
        raise InvalidModel("model", "must exist", "nothing")

    with pytest.raises(InvalidModel, match="nothing"):
        BatchEngine(Settings(), load)


def test_a_broken_engine_says_so_at_every_poll(start, record):
    """A defect is not an ending of a job: the farm hears of it and gives its work back."""
    engine, family = start()
    family.stepper.step_errors.append(ZeroDivisionError("a defect"))
    engine.submit(ticket(record(1)))
    for _ in range(2):
        with pytest.raises(Internal, match="a defect"):
            collect(engine, 1)


def test_stopping_ends_all_threads_in_the_middle_of_work(start, record, wait_until):
    """No event comes afterwards; reading threads end too."""
    before = set(threading.enumerate())
    engine, family = start()
    family.stepper.hold()
    for level in range(1, 5):
        engine.submit(ticket(record(level, 200.0)))
    wait_until(lambda: family.stepper.num_wanted > 0)
    engine.stop()
    wait_until(lambda: set(threading.enumerate()) <= before)


def test_an_idle_engine_waits_without_working(start, record):
    """Between jobs the loop does not spin; a call wakes it at once."""
    engine, _ = start()
    assert engine.poll(0.3) == []
    engine.submit(ticket(record(1)))
    collect(engine, 1)
    assert engine.poll(0.3) == []
    assert engine.stats.steps < 50
    assert engine.stats.idle.total_s > 0.2


# The real device


@pytest.fixture(scope="module")
def clips(shared_data, tmp_path_factory):
    """Return speech of unequal lengths, cut from two chapters."""
    folder = tmp_path_factory.mktemp("clips")
    cuts = [("1688", 0, 34), ("1688", 34, 41), ("2033", 5, 12), ("2033", 20, 38), ("1688", 50, 53)]
    paths = []
    for number, (chapter, first_s, last_s) in enumerate(cuts):
        source = shared_data / f"audio/english/librispeech-test-other-{chapter}.flac"
        samples, rate_hz = soundfile.read(source, dtype="int16")
        path = folder / f"clip{number}.wav"
        soundfile.write(path, samples[first_s * rate_hz : last_s * rate_hz], rate_hz)
        paths.append(path)
    return paths


@pytest.mark.archive
@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.timeout(600)
def test_real_recordings_at_once_give_what_each_gives_alone(real_engine, clips, tmp_path):
    """Five recordings of all kinds of options over few slots, with bad files among them."""
    engine = real_engine()
    options = [
        {"temperatures": (0.0,), "beam_size": 5},
        {"temperatures": (0.7,), "seed": 11},
        {"temperatures": (0.0,), "initial_prompt": "Arabian Nights: Zau al-Makan."},
        {"temperatures": (0.0,), "word_timestamps": True, "beam_size": 3, "patience": 2.0},
        {"temperatures": (0.9,), "best_of": 3, "without_timestamps": True},
    ]
    alone = {}
    for path, asked in zip(clips, options, strict=True):
        engine.submit(ticket(path, **asked))
        alone |= endings(collect(engine, 1, REAL_S))
    (tmp_path / "junk.flac").write_bytes(b"fLaC" + bytes(100))
    engine.submit(ticket(tmp_path / "junk.flac"))
    for path, asked in zip(clips, options, strict=True):
        engine.submit(ticket(path, **asked))
    engine.submit(ticket(tmp_path / "absent.wav"))
    together = endings(collect(engine, 7, REAL_S))
    assert {"absent", "junk"} == {n for n, event in together.items() if isinstance(event, Failed)}
    for path in clips:
        expected, actual = alone[path.stem].transcript, together[path.stem].transcript
        assert expected.text == actual.text
        assert len(expected.text) > 20
        for left, right in zip(expected.segments, actual.segments, strict=True):
            assert (left.tokens, left.seek, left.start, left.end) == (
                right.tokens,
                right.seek,
                right.start,
                right.end,
            )
            assert left.avg_logprob == pytest.approx(right.avg_logprob, abs=1e-4)
            assert left.flags == right.flags
            assert [w.word for w in left.words or ()] == [w.word for w in right.words or ()]
    assert alone["clip3"].transcript.segments[0].words
    begin_free = [t for s in together["clip4"].transcript.segments for t in s.tokens if t >= BEGIN]
    assert begin_free == []
