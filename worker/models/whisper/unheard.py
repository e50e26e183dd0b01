"""Text where nobody speaks, as far as a listener for voices and the model can tell."""

from producer.result import Segment
from worker.engine.speech import Speech
from worker.models.whisper.word_timing import FRAMES_PER_SECOND

# Of the time of some text that somebody speaks in. Over speech (tiny.en, 177 segments of the shared
# archive) 0.22 and more; over music and noise at most 0.16. See tests/benchmarks/bench_vad.py.
LEAST_SPEECH_SHARE = 0.2
# A mean log-probability lower than that of any speech of the shared archive (-2.4, overlapping voices
# of a meeting): base and tiny.en end there over a laugh (-5.3, -4.3), when every temperature failed.
NEVER_LOGPROB = -3.0
# A window with more speech than this keeps even such text: what was said there may not get lost.
SHORT_SPEECH_S = 2.0


def is_unheard(segment: Segment, speech: Speech, content_frames: int) -> bool:
    """Return whether (nearly) nobody speaks while a segment's text is said to be spoken.

    Args:
        segment: With its text's times.
        speech: Where somebody speaks.
        content_frames: The recording's length in mel frames (10 ms).
    """
    end = min(segment.end, content_frames / FRAMES_PER_SECOND)
    end = max(end, segment.start + 1 / FRAMES_PER_SECOND)  # text may be timed behind the end
    speech_s = speech.seconds_within(segment.start, end)
    return speech_s < LEAST_SPEECH_SHARE * (end - segment.start)


def is_no_speech(avg_logprob: float, speech_s: float) -> bool:
    """Return whether a window's text is no speech although a voice was heard: a laugh, a cough.

    Args:
        avg_logprob: Of the text, after the last temperature that was tried.
        speech_s: Seconds of voice in the window.
    """
    return avg_logprob < NEVER_LOGPROB and speech_s < SHORT_SPEECH_S
