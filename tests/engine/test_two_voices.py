"""A speaker a channel: with a real model each channel's text is that of its own recording."""

import numpy as np
import pytest
import soundfile

from producer.job import AudioOptions, Job, Options
from worker.audio.recording import load_audio
from worker.cli.measure import clip
from worker.engine.messages import Done, Failed, Ticket

pytestmark = pytest.mark.weights

RATE_HZ = 16_000


def transcripts(engine, jobs):
    """Return the transcript of each job; all are in flight at once."""
    for number, job in enumerate(jobs):
        engine.submit(Ticket(str(number), str(number), job))
    done = {}
    while len(done) < len(jobs):
        for event in engine.poll(1.0):
            assert not isinstance(event, Failed), event.error
            if isinstance(event, Done):
                done[event.execution_id] = event.transcript
    return [done[str(number)] for number in range(len(jobs))]


def written(path, samples):
    soundfile.write(path, samples, RATE_HZ, subtype="PCM_16")
    return path


def said(segments):
    """Return tokens, times and words; figures differ in the last digits with the batch's company."""
    return [
        (
            s.seek,
            s.start,
            s.end,
            s.text,
            s.tokens,
            [(w.word, w.start, w.end) for w in s.words or []],
        )
        for s in segments
    ]


def check_two_voices(engine, folder, left, right, **options):
    """Hold the two channels of a call against a recording of each."""
    length = max(len(left), len(right))
    voices = [np.pad(voice, (0, length - len(voice))) for voice in (left, right)]
    paths = [written(folder / f"{n}.wav", voice) for n, voice in enumerate(voices)]
    call = written(folder / "call.wav", np.stack(voices, axis=1))
    asked = Options(temperatures=(0.0,), beam_size=None, **options)
    split = Job(source=str(call), options=asked, audio=AudioOptions(channels="split"))
    alone = [Job(source=str(path), options=asked) for path in paths]
    both, *single = transcripts(engine, [split, *alone])
    for number, own in enumerate(single, start=1):
        mine = [segment for segment in both.segments if segment.channel == number]
        assert said(mine) == said(own.segments)
        assert own.text.strip()
    starts = [segment.start for segment in both.segments]
    assert starts == sorted(starts)
    assert both.audio.channels == 2


def test_a_speaker_a_channel(real_engine, tmp_path):
    """The second voice is the first one's a fourth lower, three seconds later."""
    speech = load_audio(clip(), max_seconds=60)[0]
    slower = np.interp(np.arange(0, len(speech) - 1, 0.75), np.arange(len(speech)), speech)
    later = np.concatenate([np.zeros(3 * RATE_HZ), slower])
    check_two_voices(real_engine(), tmp_path, speech, later)


@pytest.mark.parity
@pytest.mark.archive
@pytest.mark.parametrize("words", [False, True])
def test_two_speakers_of_the_archive(real_engine, shared_data, tmp_path, words):
    english = shared_data / "audio/english"
    left = load_audio(english / "jfk.flac", max_seconds=60)[0]
    right = load_audio(english / "lj001-0001-0032.flac", max_seconds=300)[0][: 50 * RATE_HZ]
    check_two_voices(real_engine(), tmp_path, left, right, word_timestamps=words)


def test_a_mono_recording_in_a_stereo_file_is_transcribed_once(real_engine, tmp_path):
    """Nothing tells it from a mono file but a flag."""
    speech = load_audio(clip(), max_seconds=60)[0]
    mono = written(tmp_path / "mono.wav", speech)
    stereo = written(tmp_path / "stereo.wav", np.stack([speech, speech], axis=1))
    asked = Options(temperatures=(0.0,), beam_size=None)
    split = AudioOptions(channels="split")
    one, two = transcripts(
        real_engine(),
        [
            Job(source=str(mono), options=asked),
            Job(source=str(stereo), options=asked, audio=split),
        ],
    )
    assert said(two.segments) == said(one.segments)
    assert two.text.strip() == one.text.strip()
    assert two.flags == ["channels_alike", *one.flags]
