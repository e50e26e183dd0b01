"""One recording window by window, driven by scripted replies: no model, no thread, no tensor.

tests/models/whisper/test_seek_loop.py replays 160 scripts of openai-whisper's own; here each rule has a name, and
the rules that the reference does not have are tested: flags, hotwords, seeds, checkpoints.
"""

import dataclasses
import math
from types import SimpleNamespace

import pytest

from producer.errors import InvalidOptions, OutOfRange
from producer.job import Options
from worker.device.decode_request import BeamSearch, Decode, Decoded, RowRules, TimestampRules
from worker.engine.messages import Checkpoint
from worker.engine.speech import Speech
from worker.models.whisper.limits import ModelLimits, check_options
from worker.models.whisper.requests import DetectLanguage, Encode
from worker.models.whisper.resumed import Resumed
from worker.models.whisper.tokenizer import Tokenizer
from worker.models.whisper.transcription import Transcription

ENGLISH = ModelLimits(n_vocab=51_864, context_length=448)
MULTILINGUAL = ModelLimits(n_vocab=51_865, context_length=448)
TOKENIZER = Tokenizer(51_864, "en", "transcribe")
EOT, SOT, SOT_PREV, BEGIN = 50_256, 50_257, 50_360, 50_363
GREEDY = {"temperatures": (0.0,)}


def at(seconds):
    """Return the token of a timestamp."""
    return BEGIN + round(seconds * 50)


def said(*parts, avg_logprob=-0.2, no_speech_prob=0.01):
    """Return a decode's reply: numbers are timestamps in seconds, the rest is text."""
    tokens = []
    for part in parts:
        tokens += TOKENIZER.encode(part) if isinstance(part, str) else [at(part)]
    return Decoded(tuple(tokens), avg_logprob * (len(tokens) + 1), no_speech_prob)


class Script:
    """Answers a transcription's requests from a list of decodes; keeps what was asked."""

    def __init__(self, decodes=(), *, languages=None, speech=None):
        self.decodes = list(decodes)
        self.speech = speech or Speech()
        self.languages = languages
        self.windows, self.asked, self.checkpoints, self.detected = [], [], [], []

    def run(self, transcription, content_frames):
        features = SimpleNamespace(content_frames=content_frames)
        requests, reply = transcription.requests(features, self.speech), None
        try:
            while True:
                reply = self._answer(requests.send(reply))
        except StopIteration:
            return transcription

    def _answer(self, request):
        match request:
            case Encode(seek, size, for_language):
                if not for_language:
                    self.windows.append((seek, size))
                return ("states", seek, for_language)
            case DetectLanguage():
                self.detected.append(request)
                by_window = isinstance(self.languages[0], list)
                return self.languages.pop(0) if by_window else self.languages
            case Decode():
                self.asked.append(request)
                reply = self.decodes.pop(0)
                return reply if isinstance(reply, list) else [reply]
            case Checkpoint():
                self.checkpoints.append(request)
                return None
        raise AssertionError(request)


def transcribe(
    decodes, seconds, limits=ENGLISH, *, checkpoint=None, languages=None, speech=None, **options
):
    """Return the finished transcription and its script."""
    script = Script(decodes, languages=languages, speech=speech)
    transcription = Transcription(Options(**GREEDY | options), limits, checkpoint)
    return script.run(transcription, round(seconds * 100)), script


def spans(transcription):
    return [(segment.start, segment.end, segment.text) for segment in transcription.segments]


# Seeking


def test_a_pair_of_timestamps_ends_a_segment_and_the_window_ends_at_the_last_pair():
    """What was begun after it is read again by the next window."""
    decodes = [said(0.0, " One.", 4.0, 4.0, " Two.", 9.5, 9.5, " Thr"), said(0.0, " Three.", 3.0)]
    transcription, script = transcribe(decodes, 35)
    assert script.windows == [(0, 3000), (950, 2550)]
    assert spans(transcription) == [(0, 4, " One."), (4, 9.5, " Two."), (9.5, 12.5, " Three.")]
    assert transcription.text == " One. Two. Three."


def test_a_lone_timestamp_at_the_end_says_that_nothing_follows_in_the_window():
    """The next window starts where this one ends."""
    decodes = [said(0.0, " One.", 4.0, 4.0, " Two.", 9.0), said(0.0, " Three.", 1.0)]
    transcription, script = transcribe(decodes, 31)
    assert script.windows == [(0, 3000), (3000, 100)]
    assert spans(transcription) == [(0, 4, " One."), (4, 9, " Two."), (30, 31, " Three.")]


def test_text_without_timestamps_spans_the_window():
    """As far as the recording goes."""
    transcription, _ = transcribe([said(" One."), said(" Two.")], 42.5)
    assert spans(transcription) == [(0, 30, " One."), (30, 42.5, " Two.")]


def test_a_window_whose_only_timestamp_is_its_start_is_as_long_as_its_audio():
    """0.00 alone says nothing of the end."""
    transcription, _ = transcribe([said(0.0, " One.")], 12)
    assert spans(transcription) == [(0, 12, " One.")]


def test_empty_segments_keep_their_place_and_lose_their_tokens():
    """They are of no use to the history."""
    transcription, _ = transcribe([said(0.0, " One.", 2.0, 2.0, " ", 3.0, 3.0, " Two.", 3.0)], 10)
    assert [bool(s.tokens) for s in transcription.segments] == [True, False, False]
    assert [segment.id for segment in transcription.segments] == [0, 1, 2]


def test_clips_are_transcribed_and_nothing_else():
    """Start, end, start to the end; never past the recording."""
    decodes = [said(" One."), said(" Two."), said(" Three.")]
    transcription, script = transcribe(decodes, 100, clip_timestamps=(5, 12, 50, 60, 95))
    assert script.windows == [(500, 700), (5000, 1000), (9500, 500)]
    assert [segment.start for segment in transcription.segments] == [5, 50, 95]
    _, script = transcribe([], 100, clip_timestamps=(120,))
    assert script.windows == []


def test_a_clip_that_starts_before_the_last_one_ended_goes_on_behind_it():
    """Nothing is transcribed twice."""
    _, script = transcribe([said(" One."), said(" Two.")], 60, clip_timestamps=(0, 20, 10, 30))
    assert script.windows == [(0, 2000), (2000, 1000)]


# Silence


def test_a_window_without_speech_is_skipped():
    """Unlikely text and a sure no-speech: no segment, no second try."""
    decodes = [said(" Thanks.", avg_logprob=-1.5, no_speech_prob=0.9), said(0.0, " One.", 2.0)]
    transcription, script = transcribe(decodes, 33, temperatures=(0.0, 0.4))
    assert spans(transcription) == [(30, 32, " One.")]
    assert [decode.temperature for decode in script.asked] == [0.0, 0.0]


def test_likely_text_is_kept_whatever_no_speech_says():
    """It is flagged: somebody should listen."""
    transcription, _ = transcribe([said(0.0, " One.", 2.0, no_speech_prob=0.9)], 5)
    assert ["likely_silence"] == transcription.segments[0].flags == transcription.flags


@pytest.mark.parametrize("off", [{"no_speech_threshold": None}, {"logprob_threshold": -1.6}])
def test_no_threshold_no_skipping(off):
    """Without it, or with text above the other one, the window counts."""
    decodes = [said(" Thanks.", avg_logprob=-1.5, no_speech_prob=0.9)]
    assert transcribe(decodes, 5, **off)[0].text == " Thanks."


# Fallback


REPETITIVE = said(0.0, " no" * 60, 20.0)
UNLIKELY = said(0.0, " Hm.", 20.0, avg_logprob=-1.2)
GOOD = said(0.0, " One.", 20.0)


@pytest.mark.parametrize(
    ("decodes", "options", "temperature", "flags"),
    [
        ([GOOD], {}, 0.0, []),
        ([REPETITIVE, GOOD], {}, 0.2, []),
        ([UNLIKELY, UNLIKELY, GOOD], {}, 0.6, []),
        ([UNLIKELY, REPETITIVE, UNLIKELY], {}, 0.6, ["low_confidence", "fallback_exhausted"]),
        ([UNLIKELY, UNLIKELY, REPETITIVE], {}, 0.6, ["repetition", "fallback_exhausted"]),
        ([REPETITIVE], {"compression_ratio_threshold": None}, 0.0, ["repetition"]),
        ([UNLIKELY], {"logprob_threshold": None}, 0.0, []),
    ],
)
def test_temperatures_are_tried_in_order_until_the_text_looks_right(
    decodes, options, temperature, flags
):
    """The last one counts anyway, and says so."""
    tried = (0.0, 0.2, 0.6)
    transcription, script = transcribe(decodes, 20, temperatures=tried, **options)
    (segment,) = transcription.segments
    assert tried[: len(decodes)] == tuple(decode.temperature for decode in script.asked)
    assert (temperature, flags) == (segment.temperature, segment.flags)
    assert sorted(flags) == transcription.flags


def test_every_attempt_decodes_the_same_states():
    """A window is encoded once, whatever its text is like."""
    _, script = transcribe([UNLIKELY, REPETITIVE, GOOD], 20, temperatures=(0.0, 0.4, 0.8))
    assert script.windows == [(0, 2000)]
    assert {("states", 0, False)} == {decode.encoder_states for decode in script.asked}


def test_the_likeliest_of_several_samples_is_taken():
    """By mean log-probability a token, as the reference ranks; greedy needs one sample only."""
    samples = [said(0.0, f" {n}.", 5.0, avg_logprob=-p) for n, p in enumerate([0.5, 0.3, 0.9])]
    transcription, script = transcribe(
        [UNLIKELY, samples], 6, temperatures=(0.0, 0.7), best_of=3, logprob_threshold=-1.0
    )
    assert transcription.text == " 1."
    assert [len(decode.seeds) for decode in script.asked] == [1, 3]
    assert transcription.counts.prompt_tokens == 2  # one a window and attempt, for all samples


def test_beams_are_of_temperature_0_and_samples_of_higher_ones():
    """As the reference's command falls back: each drops what belongs to the other."""
    _, script = transcribe(
        [UNLIKELY, [UNLIKELY] * 3, [GOOD] * 3],
        6,
        temperatures=(0.0, 0.4, 0.8),
        beam_size=5,
        patience=2.0,
        best_of=3,
    )
    assert [decode.search for decode in script.asked] == [BeamSearch(5, 2.0), None, None]
    assert [len(decode.seeds) for decode in script.asked] == [1, 3, 3]


@pytest.mark.parametrize(
    ("options", "search"),
    [
        ({}, BeamSearch(5)),
        ({"beam_size": None}, None),
        ({"beam_size": 1}, None),
        ({"beam_size": 1, "patience": 2.0}, BeamSearch(1, 2.0)),
        ({"beam_size": 2}, BeamSearch(2)),
        ({"beam_size": 2, "patience": 0.5}, BeamSearch(2, 0.5)),
    ],
)
def test_one_beam_without_patience_is_the_greedy_choice(options, search):
    """With patience it goes on where the greedy choice ends."""
    _, script = transcribe([GOOD], 6, **options)
    assert [decode.search for decode in script.asked] == [search]


@pytest.mark.parametrize(("length_penalty", "text"), [(None, " 1 2 3 4 5 6."), (0.0, " 0.")])
def test_hypotheses_are_ranked_by_their_mean_or_with_a_penalty(length_penalty, text):
    """Without one the mean decides; a penalty of 0 compares the sums, where short ones win."""
    short, long = said(0.0, " 0.", 5.0), said(0.0, " 1 2 3 4 5 6.", 5.0)
    found = [
        dataclasses.replace(short, sum_logprob=-2.0),
        dataclasses.replace(long, sum_logprob=-2.5),
    ]
    transcription, _ = transcribe([found], 6, beam_size=2, length_penalty=length_penalty)
    assert transcription.text == text


def test_seeds_differ_by_window_attempt_and_sample_and_come_again_with_the_job():
    """Same job, same draws; no two draws of a job share a stream."""

    def seeds(seed):
        decodes = [UNLIKELY, [GOOD] * 2, UNLIKELY, [GOOD] * 2]
        options = {"temperatures": (0.4, 0.8), "best_of": 2, "seed": seed}
        doubled = [[reply] * 2 if isinstance(reply, Decoded) else reply for reply in decodes]
        _, script = transcribe(doubled, 60, **options)
        return [seed for decode in script.asked for seed in decode.seeds]

    assert seeds(1) == seeds(1)
    assert len(set(seeds(1) + seeds(2))) == 16


# Prompts


def previous(decode):
    """Return the text that a decode's prompt begins with."""
    prompt = decode.prompt
    return TOKENIZER.decode(prompt[1:-1]) if prompt[0] == SOT_PREV else ""


def test_each_window_reads_the_text_so_far():
    """Timestamps included, as they were sampled."""
    first = said(0.0, " One.", 30.0)
    _, script = transcribe([first, said(0.0, " Two.", 5.0)], 35)
    assert script.asked[0].prompt == (SOT,)
    assert (SOT_PREV, *first.tokens, SOT) == script.asked[1].prompt
    assert [0, len(first.tokens) + 1] == [decode.sot_index for decode in script.asked]


def test_the_history_is_cut_to_half_the_context():
    """The last 223 tokens are read; what may be sampled shrinks with what is read."""
    _, script = transcribe(
        [said(0.0, " word" * 300, 30.0), GOOD], 50, compression_ratio_threshold=9e9
    )
    assert len(script.asked[1].prompt) == 223 + 2
    assert [decode.max_tokens for decode in script.asked] == [224, 224]


def test_a_hot_windows_text_is_no_help_to_the_next():
    """Above 0.5 the history starts anew; at 0.5 it goes on."""
    for temperature, expected in ((0.5, " One."), (0.6, "")):
        decodes = [[said(0.0, " One.", 30.0)], [said(0.0, " Two.", 5.0)]]
        _, script = transcribe(decodes, 35, temperatures=(temperature,))
        assert expected == previous(script.asked[1])


def test_without_conditioning_each_window_starts_afresh():
    """The initial prompt counts as text before the first window, then it is gone too."""
    decodes = [said(0.0, " One.", 30.0), said(0.0, " Two.", 5.0)]
    _, script = transcribe(decodes, 35, condition_on_previous_text=False, initial_prompt="Names:")
    assert [previous(decode) for decode in script.asked] == [" Names:", ""]


def test_an_initial_prompt_can_be_carried_to_every_window():
    """Before the text so far, however long that is."""
    decodes = [said(0.0, " word" * 250, 30.0), said(0.0, " Two.", 5.0)]
    options = {"initial_prompt": "Names:", "compression_ratio_threshold": 9e9}
    _, script = transcribe(decodes, 35, carry_initial_prompt=True, **options)
    assert previous(script.asked[1]).startswith(" Names: word")
    _, script = transcribe(decodes, 35, **options)
    assert "Names" not in previous(script.asked[1])


def test_hotwords_stand_before_the_text_of_every_window():
    """Also where the history is not looked at."""
    decodes = [said(0.0, " One.", 30.0), said(0.0, " Two.", 5.0)]
    _, script = transcribe(decodes, 35, hotwords="Zau al-Makan")
    assert [previous(d) for d in script.asked] == [" Zau al-Makan", " Zau al-Makan One."]
    _, script = transcribe(decodes, 35, hotwords="Zau", condition_on_previous_text=False)
    assert [previous(decode) for decode in script.asked] == [" Zau", " Zau"]


def test_without_timestamps_the_prompt_and_the_rules_say_so():
    """No rule for timestamps; the window's text is one segment."""
    transcription, script = transcribe([said(" One.")], 5, without_timestamps=True)
    assert script.asked[0].prompt == (SOT, 50_362)
    assert script.asked[0].rules.timestamps is None
    assert spans(transcription) == [(0, 5, " One.")]


def test_rules_follow_the_options():
    """Blank, timestamps and suppressed ids are those that are asked for."""
    (decode,) = transcribe([GOOD], 20)[1].asked
    assert TimestampRules(EOT, BEGIN, 50) == decode.rules.timestamps
    assert {220, EOT} == set(decode.rules.suppress_first)
    assert {SOT, SOT_PREV, 50_361, 50_362} <= set(decode.rules.suppress)
    bare = {"suppress_tokens": (), "suppress_blank": False, "max_initial_timestamp": None}
    (decode,) = transcribe([GOOD], 20, **bare)[1].asked
    assert RowRules((50_362,), (), TimestampRules(EOT, BEGIN, None)) == decode.rules


def test_a_sample_length_bounds_every_window():
    """It is the reference's `sample_len`."""
    assert transcribe([GOOD], 20, sample_len=20)[1].asked[0].max_tokens == 20


# Languages


def probabilities(**likely):
    codes = Tokenizer(51_865, "en", "transcribe").all_language_codes
    return [likely.get(code, 0.0) for code in codes]


def test_the_likeliest_language_is_taken_and_told():
    """The prompt names it; the recording's first window was encoded already."""
    transcription, script = transcribe(
        [said(" Eins."), said(" Zwei.")],
        40,
        MULTILINGUAL,
        languages=probabilities(de=0.6, en=0.4),
    )
    german = Tokenizer(51_865, "de", "transcribe")
    assert transcription.language == "de"
    assert german.sot_sequence == script.asked[0].prompt
    assert script.windows == [(3000, 1000)]
    assert script.asked[0].encoder_states == ("states", 0, True)


def test_detection_chooses_among_the_languages_that_are_allowed():
    """By code or by name, however likely the others are."""
    given = probabilities(de=0.6, en=0.3, nl=0.1)
    for allowed, expected in ((("en", "nl"), "en"), (("Dutch",), "nl"), ((), "de")):
        decodes = [said(" One.")]
        options = {"allowed_languages": allowed, "languages": given}
        transcription, _ = transcribe(decodes, 8, MULTILINGUAL, **options)
        probability = given[Tokenizer(51_865).all_language_codes.index(expected)]
        assert (transcription.language, transcription.language_probability) == (
            expected,
            probability,
        )


def test_a_language_that_is_not_likelier_than_all_others_is_flagged_once():
    """On the first segment with text, also when another worker goes on."""
    decodes = [said(0.0, " ", 1.0, 1.0, " Eins.", 30.0), said(0.0, " Zwei.", 5.0)]
    options = {"languages": probabilities(de=0.5, nl=0.4)}
    whole, script = transcribe(decodes, 36, MULTILINGUAL, **options)
    assert [segment.flags for segment in whole.segments] == [[], ["uncertain_language"], []]
    resumed, _ = transcribe(
        decodes[1:], 36, MULTILINGUAL, checkpoint=script.checkpoints[0], **options
    )
    assert resumed.segments == whole.segments
    assert resumed.language_probability == 0.5


def test_a_short_recording_is_encoded_again_for_its_text():
    """Detection hears silence after the end where the decoder hears nothing."""
    _, script = transcribe([said(" Eins.")], 8, MULTILINGUAL, languages=probabilities(de=1.0))
    assert script.windows == [(0, 800)]
    assert len(script.detected) == 1


def test_a_named_language_is_not_detected_and_an_english_model_detects_nothing():
    """Nor is any window encoded for it."""
    for limits, options in ((MULTILINGUAL, {"language": "fr"}), (ENGLISH, {})):
        _, script = transcribe([said(" Un.")], 8, limits, **options)
        assert script.detected == []
        assert script.windows == [(0, 800)]


# Resuming


def test_resuming_at_any_checkpoint_gives_the_uninterrupted_transcript():
    """History, resets, silence, flags and language are all in the checkpoint."""
    decodes = [
        said(0.0, " Eins.", 28.0, 28.0, " Zw"),
        said(" Danke.", avg_logprob=-1.5, no_speech_prob=0.9),
        said(0.0, " Drei.", 9.0, avg_logprob=-1.3),
        said(0.0, " Vier.", 30.0),
        said(0.0, " Fünf.", 3.0),
    ]
    options = {
        "temperatures": (0.6,),
        "initial_prompt": "Zahlen.",
        "languages": probabilities(de=1.0),
    }
    whole, script = transcribe(decodes, 128, MULTILINGUAL, **options)
    assert len(script.checkpoints) == 5
    for done, checkpoint in enumerate(script.checkpoints, 1):
        resumed, rest = transcribe(
            decodes[done:], 128, MULTILINGUAL, checkpoint=checkpoint, **options
        )
        assert whole.segments == resumed.segments
        assert (whole.text, whole.language, whole.flags) == (
            resumed.text,
            resumed.language,
            resumed.flags,
        )
        asked = [dataclasses.replace(decode, encoder_states=None) for decode in script.asked[done:]]
        again = [dataclasses.replace(decode, encoder_states=None) for decode in rest.asked]
        assert asked == again
        assert rest.detected == []
        assert resumed.seconds_done == 128


def test_a_checkpoint_tells_how_far_a_recording_is():
    """`seconds_done` grows to the recording's length, and not beyond."""
    transcription = Transcription(Options(**GREEDY), ENGLISH)
    assert transcription.seconds_done == 0
    Script([GOOD, GOOD]).run(transcription, 4500)
    assert transcription.seconds_done == 45


# Refusals


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"language": "de"}, InvalidOptions),
        ({"task": "translate"}, InvalidOptions),
        ({"suppress_tokens": (51_864,)}, OutOfRange),
        ({"multilingual": True}, InvalidOptions),
    ],
)
def test_what_the_model_cannot_do_is_refused_before_any_window(options, error):
    """When the options are checked: nothing was read yet."""
    with pytest.raises(error):
        check_options(Options(**options), ENGLISH)


def test_languages_by_window_are_refused_by_a_model_that_was_trained_on_english_alone():
    """By the option's name, also where its vocabulary holds more; other models take them."""
    options = Options(multilingual=True)
    with pytest.raises(InvalidOptions, match="options: multilingual: needs a model of many"):
        check_options(options, dataclasses.replace(MULTILINGUAL, knows_english_alone=True))
    check_options(options, MULTILINGUAL)


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"family": "parakeet", "seek": 1},
        {"seek": 3000},
        *(
            dict(vars(Resumed(3000, 0, 0.0, None))) | wrong
            for wrong in (
                {"seek": -1},
                {"seek": 10**30},
                {"seek": 7501},
                {"prompt_reset_since": -1},
                {"last_speech_s": -0.5},
                {"last_speech_s": math.inf},
                {"last_speech_s": math.nan},
                {"language_probability": 2.0},
                {"more": 1},
            )
        ),
    ],
)
def test_a_checkpoint_that_is_not_ours_or_not_whole_counts_as_none(state):
    """Another family wrote it, or another version: the recording starts over."""
    stored = transcribe([GOOD, GOOD], 45)[1].checkpoints[0]
    foreign = dataclasses.replace(stored, state=state)
    resumed, script = transcribe([GOOD, GOOD], 45, checkpoint=foreign)
    assert script.windows[0] == (0, 3000)
    assert resumed.text == transcribe([GOOD, GOOD], 45)[0].text


def test_a_recording_without_a_whole_frame_has_no_window():
    """Nothing is asked of the model."""
    transcription, script = transcribe([], 0)
    assert (transcription.text, transcription.segments, script.windows) == ("", [], [])


# Silence


# Somebody speaks from 2 to 8 s and from 70 to 75 s of 120.
QUIET = Speech([2.0, 8.0, 70.0, 75.0], [(8.0, 69.6), (75.0, 120.0)])


def test_no_window_begins_in_skipped_silence():
    """A window that began before it reaches into it as ever; times stay those of the recording."""
    decodes = [said(0.0, " One.", 2.0, 2.0, " Two.", 9.0, 9.0), said(0.4, " Three.", 5.4, 5.4)]
    transcription, script = transcribe(decodes, 120, speech=QUIET)
    assert script.windows == [(0, 3000), (6960, 3000)]
    assert spans(transcription) == [(0, 2, ""), (2, 9, " Two."), (70.0, 75.0, " Three.")]
    assert transcription.seconds_done == 120


def test_a_window_that_goes_on_behind_a_silence_skips_nothing():
    """Its timestamps say where the next one starts."""
    quiet = Speech([0.0, 4.0, 12.0, 60.0], [(4.4, 11.6)])
    decodes = [said(0.0, " One.", 4.0, 4.0, " Two.", 20.0, 20.0, " Th"), said(0.0, " Three.", 9.0)]
    _, script = transcribe(decodes, 40, speech=quiet)
    assert script.windows == [(0, 3000), (2000, 2000)]


def test_silence_without_end_is_never_decoded():
    """Nothing is asked of the model, not even for the language."""
    silent = Speech([], [(0.0, 90.0)])
    transcription, script = transcribe([], 90, MULTILINGUAL, speech=silent)
    assert (script.windows, script.asked, script.detected) == ([], [], [])
    assert (transcription.segments, transcription.text, transcription.language) == ([], "", "en")
    assert transcription.language_probability is None


def test_the_language_is_that_of_the_first_speech_behind_skipped_silence():
    """The window that it was heard in is encoded once."""
    late = Speech([40.0, 80.0], [(0.0, 39.6)])
    german = probabilities(de=1.0)
    for seconds, encoded in ((70, []), (60, [(3960, 2040)])):
        transcription, script = transcribe(
            [said(0.0, " Eins.", 4.0), said(0.0, " Zwei.", 0.4)],
            seconds,
            MULTILINGUAL,
            speech=late,
            languages=german,
        )
        assert transcription.language == "de"
        assert [each.encoder_states for each in script.detected] == [("states", 3960, True)]
        assert script.windows[: len(encoded)] == encoded
        assert script.asked[0].encoder_states == ("states", 3960, not encoded)


def test_clips_and_silence_are_both_left_out():
    """A window begins where a clip is that is not silent, and ends with its clip."""
    decodes = [said(0.0, " Two.", 4.0), said(0.0, " Three.", 5.0)]
    options = {"clip_timestamps": (4.0, 8.0, 20.0, 50.0, 60.0, 72.0)}
    _, script = transcribe(decodes, 120, speech=QUIET, **options)
    assert script.windows == [(400, 400), (6960, 240)]


def test_a_resumed_recording_skips_what_the_whole_one_does():
    """A checkpoint says where it stands, not what is silent: that is heard anew."""
    decodes = [said(0.0, " One.", 2.0, 2.0, " Two.", 9.0, 9.0), said(0.4, " Three.", 5.4, 5.4)]
    whole, script = transcribe(list(decodes), 120, speech=QUIET)
    resumed, rest = transcribe(decodes[1:], 120, speech=QUIET, checkpoint=script.checkpoints[0])
    assert rest.windows == script.windows[1:]
    assert resumed.segments == whole.segments


def test_text_that_nobody_speaks_is_likely_silence():
    """Although the model is sure of it; nothing else changes where silence is not skipped."""
    decodes = [said(0.0, " One.", 2.0, 2.0, " Two.", 8.0, 8.0, " Thanks.", 29.0)]
    heard = Speech(QUIET.edges)
    transcription, _ = transcribe(list(decodes), 30, speech=heard)
    plain, _ = transcribe(decodes, 30)
    assert [each.flags for each in transcription.segments] == [
        ["likely_silence"], [], ["likely_silence"],
    ]  # fmt: skip
    assert transcription.flags == ["likely_silence"]
    assert [each.flags for each in plain.segments] == [[], [], []]
    assert transcription.text == plain.text == " One. Two. Thanks."


def test_text_behind_the_recordings_end_is_likely_silence():
    """A model may time text anywhere in its 30 s; without evidence it is not judged."""
    decodes = [said(0.0, " One.", 4.0, 4.0, " Two.", 20.0)]
    heard, _ = transcribe(list(decodes), 5, speech=Speech([0.0, 5.0]))
    assert [each.flags for each in heard.segments] == [[], []]
    late = [said(0.0, " One.", 4.0, 4.0, " ", 12.0, 12.0, " Two.", 20.0)]
    heard, _ = transcribe(list(late), 5, speech=Speech([0.0, 5.0]))
    assert heard.segments[-1].flags == ["likely_silence"]
    assert transcribe(late, 5)[0].segments[-1].flags == []


def test_where_silence_is_skipped_so_is_text_that_nobody_speaks():
    """It keeps its place as an empty segment, and is no history for later windows."""
    decodes = [said(0.0, " Two.", 8.0, 8.0, " Thanks.", 29.0), said(0.4, " Three.", 5.4)]
    transcription, script = transcribe(decodes, 120, speech=QUIET)
    assert transcription.text == " Two. Three."
    assert [bool(each.tokens) for each in transcription.segments] == [True, False, True]
    assert TOKENIZER.encode(" Thanks.")[0] not in script.asked[1].prompt


@pytest.mark.parametrize(
    ("skips", "first", "avg_logprob", "speech_s", "text"),
    [
        (True, " Thank you.", -1.6, 0.4, ""),
        (False, " Thank you.", -1.6, 0.4, " I am."),
        (True, " i am", -1.6, 0.4, " I am."),
        (True, " Thank you.", -1.4, 0.4, " I am."),
        (True, " Thank you.", -1.6, 2.1, " I am."),
    ],
)
def test_where_silence_is_skipped_so_is_a_short_voice_that_no_temperature_finds_words_in(
    skips, first, avg_logprob, speech_s, text
):
    """A laugh: not without the job's asking, nor where words stay, are likelier, or the voice longer."""
    speech = Speech((0.3, 0.3 + speech_s), (), skips)
    decodes = [
        said(0.0, first, 2.0, avg_logprob=-1.2),
        said(0.0, " I am.", 2.0, avg_logprob=avg_logprob),
    ]
    script = Script(decodes, speech=speech)
    options = Options(temperatures=(0.0, 1.0), best_of=1)
    transcription = script.run(Transcription(options, ENGLISH), 300)
    assert transcription.text == text
    assert transcription.counts.windows == 1
    assert len(script.windows) == 1
