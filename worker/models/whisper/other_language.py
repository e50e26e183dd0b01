"""Speech of another language, heard by a model of English alone: what its own figures say.

Such a model writes English whatever it hears, but it is sure of nothing: no temperature gives
likely text. A look with a multilingual model would tell the language too.
It is not taken: loading base only for that takes as long as tiny.en itself and 0.8 GB of memory,
and its encoder three times the work of tiny.en's for each recording.
"""

from collections.abc import Iterable
from itertools import pairwise

from producer.result import Segment
from worker.models.whisper.word_timing import FRAMES_PER_SECOND, WINDOW_FRAMES

# tiny.en on the shared recordings: of 35 in English none is taken for another language, of 64 in
# others 56 are. The mean log-probability of an English window of ten words and more is above -0.87
# (LibriSpeech's test-other, meetings from afar), of another language most often below -1.
DOUBTFUL_LOGPROB = -0.9
# Of the seconds with text, more than this must be doubtful: a noisy minute makes no language.
DOUBTFUL_PART = 0.5
# Letters and digits in a second of speech. Over music such a model writes `1.` and no more, over a
# meeting that it hardly hears 0.6 a second; over other languages seldom less than 1.5.
SPEECH_CHARS_PER_S = 1.0
# Less is a laugh or a click.
_FEWEST_CHARS = 5


def is_likely_not_english(segments: Iterable[Segment], content_frames: int) -> bool:
    """Return whether the text of a model of English alone is most likely of another language.

    It is wherever the model was sure of less than half of what it wrote, if that is as much as
    speech would give. Speech that is hardly audible looks the same.

    Args:
        segments: Of the whole recording, in order.
        content_frames: Its length in mel frames (10 ms).
    """
    windows: dict[int, list[Segment]] = {}
    for segment in segments:
        windows.setdefault(segment.seek, []).append(segment)
    heard_s = doubtful_s = 0.0
    num_chars = 0
    for seek, next_seek in pairwise((*windows, content_frames)):
        window_s = min(next_seek - seek, WINDOW_FRAMES) / FRAMES_PER_SECOND
        heard_s += window_s
        # The figure is the window's, the same in each of its segments.
        if windows[seek][0].avg_logprob < DOUBTFUL_LOGPROB:
            doubtful_s += window_s
            num_chars += sum(char.isalnum() for each in windows[seek] for char in each.text)
    is_speech = num_chars > max(_FEWEST_CHARS, SPEECH_CHARS_PER_S * doubtful_s)
    return is_speech and doubtful_s > DOUBTFUL_PART * heard_s
