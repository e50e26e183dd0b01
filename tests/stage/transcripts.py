"""Transcripts made by hand, and by hypothesis out of odd text and odd times."""

from hypothesis import strategies as st

from producer.result import Audio, Model, Segment, Timing, Transcript, Word


def transcript(segments, text="", language="en", source="/archive/talk.wav"):
    """Return a transcript of 9 s of audio."""
    return Transcript(
        job_id="a",
        source=source,
        text=text,
        language=language,
        segments=segments,
        audio=Audio(duration_s=9, sample_rate_hz=16000, channels=1, format="WAV"),
        model=Model(name="tiny.en", revision="1", dtype="float32"),
        timing=Timing(),
    )


def segment(number, start, end, text, words=None, *, flags=("low_confidence",)):
    return Segment(
        id=number,
        seek=0,
        start=start,
        end=end,
        text=text,
        tokens=[50363],
        temperature=0.0,
        avg_logprob=-0.25,
        compression_ratio=1.5,
        no_speech_prob=0.01,
        flags=list(flags),
        words=words,
    )


def words(*timed):
    return [Word(word=word, start=start, end=end, probability=0.5) for word, start, end in timed]


# Letters, marks, scripts without spaces, and all that means something to some format.
PIECES = [
    *"aB é,.!?-+=@'\"",
    *("\u0301", "\u4f60", "\u597d", "\u3002", "\u0e01\u0e33", "\U0001f600", "\u202e", "\u200b"),
    *("\n", "\t", "\0", "\x1b[31m", "\ufffe", "\u2028", "\x85"),
    *("<b>", "</p>", "&amp;", "]]>", "<!--", "-->", "{\\b1}", "\\N", "[00:01.00]", "<00:01.00>"),
    *("=1+1", "@SUM(A1)", "# x", "- x", "1. x", "[x](http://x)", "`", "|", '"', "''"),
]
ODD_TEXT = st.lists(st.sampled_from(PIECES), min_size=1, max_size=12).map("".join)


@st.composite
def timed_transcripts(draw, texts=ODD_TEXT, max_segments=4, *, with_words=None):
    """Return a transcript whose times grow, with pauses and words of no length at all."""
    has_words = draw(st.booleans()) if with_words is None else with_words
    now, segments = 0.0, []
    for number in range(draw(st.integers(0, max_segments))):
        parts = draw(st.lists(texts, min_size=1, max_size=5))
        spoken = []
        for part in parts:
            start = now + draw(st.sampled_from([0, 0, 0, 0.1, 0.6, 4]))
            now = start + draw(st.sampled_from([0, 0.05, 0.3, 0.9, 8]))
            spoken.append((f" {part}", start, now))
        text = "".join(word for word, _, _ in spoken)
        timed = words(*spoken) if has_words else None
        segments.append(segment(number, spoken[0][1], now, text, timed))
    return transcript(segments)
