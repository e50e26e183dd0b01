"""Text where nobody speaks, as far as a listener for voices and the model can tell."""

from producer.result import Segment
from worker.engine.speech import Speech
from worker.models.whisper.fallback import Attempt
from worker.models.whisper.word_timing import FRAMES_PER_SECOND

# Of the time of some text that somebody speaks in. Over speech (tiny.en, 177 segments of the shared
# archive) 0.22 and more; over music and noise at most 0.16. See tests/benchmarks/bench_vad.py.
LEAST_SPEECH_SHARE = 0.2
# A mean log-probability that no text of a little speech comes near whose words are other ones at each
# temperature. Of the shared archive (tiny.en and base, the default options) music and a laugh end
# between -2.7 and -1.8. A word or two of a meeting end at -1.9 and more, but stay the same.
LEAST_LOGPROB = -1.5
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


def is_no_speech(attempt: Attempt, speech_s: float) -> bool:
    """Return whether a window's text is no speech although a voice was heard: a laugh, a cough.

    Args:
        attempt: The last that was made.
        speech_s: Seconds of voice in the window.
    """
    is_made_up = attempt.has_other_words and attempt.decoded.avg_logprob < LEAST_LOGPROB
    return is_made_up and speech_s < SHORT_SPEECH_S
