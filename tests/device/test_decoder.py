"""Rows that join and leave at any step: each gives what it gives alone."""

import math
from dataclasses import dataclass, field, replace

import mlx.core as mx
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.errors import EmptyInput, LengthMismatch, NonFinite, OutOfRange, RankMismatch
from tests.stage.tiny_models import tiny_random_whisper
from tests.stage.toy_model import EOS, NUM_VOCAB, ScriptedModel, ToyModel, toy_audio
from worker.device.batch import SHRINK_AFTER
from worker.device.decode_request import RowRules, TimestampRules
from worker.device.decoder import Decoder
from worker.device.row import Row
from worker.device.sampling_params import SamplingParams
from worker.device.speech_model import check_logits, check_prefill_logits
from worker.models.whisper.log_mel import LogMel
from worker.models.whisper.network import Whisper
from worker.models.whisper.numpy_network import NumpyWhisper

SOT_PREV, SOT, NO_TIMESTAMPS, EOT = 50_360, 50_257, 50_362, 50_256


@dataclass(frozen=True)
class Asked:
    """What one row is asked; rows are made of it as often as needed."""

    audio: int = 0
    nan_from: int = 10**9
    prompt: tuple[int, ...] = (1,)
    max_tokens: int = 20
    eos: frozenset[int] = frozenset([EOS])
    sampling: SamplingParams = field(default_factory=SamplingParams)
    rules: RowRules = field(default_factory=RowRules)

    def row(self):
        return Row(
            prompt=self.prompt,
            encoder_states=toy_audio(self.audio, self.nan_from),
            eos=self.eos,
            max_tokens=self.max_tokens,
            sampling=self.sampling,
            rules=self.rules,
            no_speech_token=self.audio % NUM_VOCAB,
        )


def run(decoder, *rows):
    """Decode rows that all fit, to their ends."""
    decoder.insert(list(rows))
    while decoder.num_active:
        decoder.step()
    return rows


def run_queue(decoder, rows):
    """Decode any number of rows: the next one joins as soon as there is a place."""
    waiting = list(rows)
    while waiting or decoder.num_active:
        joining, waiting = waiting[: decoder.num_free], waiting[decoder.num_free :]
        if joining:
            decoder.insert(joining)
        decoder.step()
    return rows


def outcome(row):
    """Return all that a row ended with; toy models are exact, so all of it is compared exactly."""
    reason = row.error.code if row.error else row.finish_reason
    return row.tokens, row.logprobs, reason, row.no_speech_prob


token_ids = st.integers(0, NUM_VOCAB - 1)
timestamp_rules = st.none() | st.builds(
    TimestampRules, eot=st.just(30), begin=st.just(40), max_initial_index=st.sampled_from([None, 3])
)
samplings = st.builds(
    SamplingParams,
    temperature=st.sampled_from([0.0, 0.0, 0.5, 2.0]),
    top_p=st.sampled_from([0.0, 0.8]),
    min_p=st.sampled_from([0.0, 0.05]),
    top_k=st.sampled_from([0, 5]),
    xtc_probability=st.sampled_from([0.0, 0.5]),
    xtc_special_tokens=st.just((EOS,)),
    seed=st.integers(0, 2**64 - 1),
    logit_bias=st.dictionaries(token_ids, st.sampled_from([-4.0, 2.0]), max_size=2),
    repetition_penalty=st.sampled_from([None, 1.5]),
    presence_penalty=st.sampled_from([None, 0.5]),
    frequency_penalty=st.sampled_from([None, 0.25]),
)
asked_rows = st.builds(
    Asked,
    audio=st.integers(0, 1000),
    nan_from=st.sampled_from([10**9, 10**9, 10**9, 4, 12]),
    prompt=st.lists(token_ids, min_size=1, max_size=40).map(tuple)
    | st.lists(token_ids, min_size=120, max_size=140).map(tuple),
    max_tokens=st.integers(1, 30),
    eos=st.sampled_from([frozenset([EOS]), frozenset([EOS, 7]), frozenset()]),
    sampling=samplings,
    rules=st.builds(
        RowRules,
        suppress=st.lists(st.integers(20, 29), max_size=3, unique=True).map(tuple),
        suppress_first=st.lists(st.integers(3, 9), max_size=3, unique=True).map(tuple),
        timestamps=timestamp_rules,
    ),
)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    st.lists(asked_rows, min_size=1, max_size=9),
    st.sampled_from([1, 2, 3, 4, 8]),
    st.sampled_from([1, 2, 4]),
    st.booleans(),
    st.data(),
)
def test_rows_of_any_kind_give_what_each_gives_alone(asked, max_rows, steps_ahead, pad_rows, data):
    """Joining at any step, more rows than places, any options: nothing of a neighbour is seen."""
    decoder = Decoder(ToyModel(), max_rows, steps_ahead=steps_ahead, pad_rows=pad_rows)
    rows = [each.row() for each in asked]
    waiting = list(rows)
    while waiting or decoder.num_active:
        most = min(decoder.num_free, len(waiting))
        joining = data.draw(st.integers(0 if decoder.num_active else 1, most)) if most else 0
        if joining:
            decoder.insert([waiting.pop(0) for _ in range(joining)])
        decoder.step()
    for each, row in zip(asked, rows, strict=True):
        (alone,) = run(Decoder(ToyModel(), 1), each.row())
        assert outcome(alone) == outcome(row)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    st.lists(asked_rows, min_size=2, max_size=8),
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 7)), max_size=4),
    st.booleans(),
)
def test_rows_that_are_removed_leave_the_others_alone(asked, removals, pad_rows):
    """A removed row keeps what it had; the batch may shrink around it."""
    decoder = Decoder(ToyModel(), 8, pad_rows=pad_rows)
    rows = [each.row() for each in asked]
    decoder.insert(rows)
    step, removed = 0, set()
    while decoder.num_active:
        for at, index in removals:
            row = rows[index % len(rows)]
            if at == step and row.finish_reason is None:
                decoder.remove(row)
                removed.add(index % len(rows))
        decoder.step()
        step += 1
    for index, (each, row) in enumerate(zip(asked, rows, strict=True)):
        (alone,) = run(Decoder(ToyModel(), 1), each.row())
        if index in removed:
            assert row.finish_reason == "removed"
            assert alone.tokens[: len(row.tokens)] == row.tokens
        else:
            assert outcome(alone) == outcome(row)


def test_a_step_is_dispatched_before_the_one_before_it_is_read():
    """After the first step a row has one token known and one more on its way."""
    model = ToyModel()
    decoder, row = Decoder(model, 2), Asked().row()
    decoder.insert([row])
    assert (len(row.tokens), model.num_decoder_calls) == (0, 1)
    decoder.step()
    assert (len(row.tokens), model.num_decoder_calls) == (1, 2)
    decoder.step()
    assert (len(row.tokens), model.num_decoder_calls) == (2, 3)


def test_the_batch_has_few_sizes_and_follows_the_rows():
    """It doubles while rows join and halves as they leave; it is never larger than asked."""
    decoder = Decoder(ToyModel(), 6)
    lengths = [4, 4, 4, 8, 8, 40]
    rows = [Asked(audio=n, max_tokens=n, eos=frozenset()).row() for n in lengths]
    sizes = []
    for row in rows:
        decoder.insert([row])
        sizes.append(decoder.num_rows)
    assert sizes == [1, 2, 4, 4, 6, 6]
    assert decoder.num_free == 0
    while decoder.num_active:
        decoder.step()
        sizes.append(decoder.num_rows)
    assert sizes[6:] == sorted(sizes[6:], reverse=True)
    assert sizes[-1] == 1
    assert lengths == [len(row.tokens) for row in rows]


def test_windows_that_come_and_go_by_turns_are_not_moved_each_time():
    """Half of the places may be empty for some steps; then the rest moves together."""
    decoder, stays = Decoder(ToyModel(), 8), Asked(max_tokens=100, eos=frozenset())
    decoder.insert([stays.row() for _ in range(4)])
    for _ in range(3):
        decoder.insert([Asked(max_tokens=3, eos=frozenset()).row() for _ in range(4)])
        for _ in range(SHRINK_AFTER):
            decoder.step()
            assert decoder.num_rows == 8
        assert decoder.num_active == 4
    while decoder.num_rows == 8:
        decoder.step()
    assert (decoder.num_rows, decoder.num_active) == (4, 4)


def test_more_rows_than_places_are_refused():
    """Nothing of them joins."""
    decoder = Decoder(ToyModel(), 2)
    decoder.insert([Asked().row()])
    with pytest.raises(LengthMismatch, match="at most 1 may join"):
        decoder.insert([Asked().row(), Asked().row()])
    assert decoder.num_active == 1


def test_a_row_may_fill_the_whole_context():
    """Its cache grows in steps up to the context; the last token is sampled from a full one."""
    model = ToyModel(context_length=300)
    long = replace(Asked(eos=frozenset()), prompt=(5,) * 100, max_tokens=201)
    (row, neighbour) = run(Decoder(model, 2), long.row(), Asked(audio=9, max_tokens=3).row())
    assert (len(row.tokens), row.finish_reason) == (201, "length")
    (alone,) = run(Decoder(ToyModel(context_length=300), 1), long.row())
    assert outcome(alone) == outcome(row)
    assert len(neighbour.tokens) <= 3


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_a_row_of_nan_fails_and_its_neighbours_do_not_notice(temperature):
    """NaN never becomes text, at the prompt or in the middle."""
    sampling = SamplingParams(temperature=temperature, seed=3)
    good = [Asked(audio=n, sampling=sampling, max_tokens=15) for n in range(3)]
    at_prompt, later = replace(good[0], nan_from=0), replace(good[1], nan_from=5)
    rows = run(Decoder(ToyModel(), 8), *(each.row() for each in (*good, at_prompt, later)))
    for each, row in zip(good, rows, strict=False):
        assert outcome(run(Decoder(ToyModel(), 1), each.row())[0]) == outcome(row)
        assert row.error is None
    assert isinstance(rows[3].error, NonFinite)
    assert (rows[3].tokens, rows[3].finish_reason) == ([], "error")
    assert isinstance(rows[4].error, NonFinite)
    assert rows[1].tokens[:5] == rows[4].tokens
    assert math.isnan(rows[4].error.value)


def test_no_speech_is_weighed_at_its_own_place_before_any_rule():
    """The probability is of the raw logits after the start token, not after the whole prompt."""
    prompt = (5, 6, 1, 8)
    model = ToyModel()
    row = replace(Asked(audio=3), prompt=prompt, rules=RowRules(suppress=(3,))).row()
    row.sot_index, row.no_speech_token = 2, 3
    run(Decoder(model, 1), row)
    logits = np.array(
        model.prefill(toy_audio(3)[None], mx.array([prompt]), mx.array([[2]]))[0][0, 0]
    ).astype(np.float64)
    expected = np.exp(logits[3]) / np.exp(logits).sum()
    assert row.no_speech_prob == pytest.approx(expected, rel=1e-5)


def test_suppressed_ids_that_the_vocabulary_lacks_are_out_of_range():
    """The rule is refused, not ignored."""
    row = replace(Asked(), rules=RowRules(suppress=(NUM_VOCAB,))).row()
    with pytest.raises(OutOfRange, match="suppress_tokens"):
        Decoder(ToyModel(), 1).insert([row])


@pytest.mark.parametrize(
    ("shape", "error"),
    [
        ((4,), RankMismatch),
        ((2, 1, 4), RankMismatch),
        ((1, 4), LengthMismatch),
        ((3, 4), LengthMismatch),
        ((2, 0), EmptyInput),
        ((2, 1), LengthMismatch),
        ((2, 5), LengthMismatch),
    ],
)
def test_logits_of_a_wrong_shape_are_typed_and_told(shape, error):
    """Rank, rows and vocabulary each have their own error, with the shape that came."""
    with pytest.raises(error, match="logits") as caught:
        check_logits(mx.zeros(shape), 2, 4)
    assert shape == caught.value.value
    with pytest.raises((RankMismatch, LengthMismatch, EmptyInput), match="logits"):
        check_prefill_logits(mx.zeros((shape[0], 2, *shape[1:])), 2, 4)


def test_logits_that_are_right_pass():
    """Two rows of a vocabulary, at a step and at two positions of a prompt."""
    check_logits(mx.zeros((2, 4)), 2, 4)
    check_prefill_logits(mx.zeros((2, 2, 4)), 2, 4)
    with pytest.raises(LengthMismatch, match="2 positions"):
        check_prefill_logits(mx.zeros((2, 1, 4)), 2, 4)


def test_defective_logits_in_a_batch_are_raised_not_decoded():
    """A model that forgets rows is broken for every row."""
    model = ScriptedModel([5, lambda: mx.zeros((3, NUM_VOCAB))])
    decoder = Decoder(model, 2)
    decoder.insert([Asked(audio=n).row() for n in range(2)])
    with pytest.raises(LengthMismatch, match="must have 2 rows"):
        decoder.step()


@pytest.mark.slow
def test_a_compiled_step_gives_the_same():
    """Also while rows join and leave."""
    drawn = SamplingParams(temperature=1.0, top_k=9, seed=5)
    asked = [Asked(audio=n, max_tokens=4 + n, sampling=drawn) for n in range(3)]
    decoder = Decoder(ToyModel(), 2, compile_step=True)
    for each, row in zip(asked, run_queue(decoder, [a.row() for a in asked]), strict=True):
        assert outcome(run(Decoder(ToyModel(), 1), each.row())[0]) == outcome(row)


def test_log_probabilities_of_a_step_belong_to_their_rows():
    """With `keep_logprobs` each row sees its own, over the vocabulary."""
    decoder = Decoder(ToyModel(), 2, keep_logprobs=True)
    rows = [Asked(audio=n).row() for n in range(2)]
    decoder.insert(rows)
    decoder.collect()
    for row in rows:
        assert row.all_logprobs[row.tokens[-1]].item() == row.logprobs[-1]


# Real networks


def whisper_rows(states, num_audio):
    """Return rows of all kinds over the first windows: prompts, rules, samplers, lengths."""
    timestamps = TimestampRules(eot=EOT, begin=50_363)
    rules = RowRules(
        suppress=(SOT, SOT_PREV, 50_358, 50_359, 50_361, NO_TIMESTAMPS),
        suppress_first=(220, EOT),
        timestamps=timestamps,
    )
    free = RowRules(suppress=tuple(range(50_257, 51_864)))

    def row(audio, prompt=(SOT,), *, rules=rules, max_tokens=16, **sampling):
        return lambda: Row(
            prompt=prompt,
            encoder_states=states[audio % num_audio],
            eos=frozenset([EOT]),
            max_tokens=max_tokens,
            sampling=SamplingParams(**sampling),
            rules=rules,
            sot_index=prompt.index(SOT),
            no_speech_token=50_361,
        )

    history = tuple(range(1000, 1040))
    return [
        row(0, max_tokens=30),
        row(1),
        row(2, temperature=0.8, seed=7),
        row(1, (SOT_PREV, *history, SOT)),
        row(0, (SOT, NO_TIMESTAMPS), rules=free),
        row(2, temperature=0.8, seed=2**63, top_p=0.9, min_p=0.02),
        row(0, (SOT_PREV, *(history * 3), SOT), max_tokens=12),
        row(1, repetition_penalty=1.3, frequency_penalty=0.2, logit_bias={400: 3.0}),
        row(2, max_tokens=1),
        row(1, temperature=1.0, top_k=20, xtc_probability=0.5, seed=1, max_tokens=7),
    ]


def assert_like_alone(model, makers, rows):
    """Tokens are equal; log-probabilities differ by rounding, since other kernels add up."""
    for make, row in zip(makers, rows, strict=True):
        (alone,) = run(Decoder(model, 1), make())
        assert alone.tokens == row.tokens
        assert alone.finish_reason == row.finish_reason
        assert alone.logprobs == pytest.approx(row.logprobs, abs=1e-4)
        assert alone.no_speech_prob == pytest.approx(row.no_speech_prob, abs=1e-5)


@pytest.fixture(scope="module")
def speech(shared_data, tiny_en):
    """Return encoder states of three windows of LibriSpeech."""
    samples, _ = soundfile.read(
        shared_data / "audio/english/librispeech-test-other-1688.flac", dtype="float32"
    )
    mel = LogMel(tiny_en.log_mel_frames, 80)
    mel.push(samples)
    mel.finish()
    return tiny_en.encode_audio(mx.stack([mel.window(seek) for seek in (0, 2500, 5000)]))


@pytest.mark.archive
@pytest.mark.weights
@pytest.mark.timeout(300)
def test_real_speech_in_a_batch_gives_the_tokens_of_each_window_alone(speech, tiny_en):
    """More windows than rows, unequal lengths, mixed prompts, rules, temperatures, penalties."""
    makers = whisper_rows(speech, 3)
    rows = run_queue(Decoder(tiny_en, 4), [make() for make in makers])
    assert_like_alone(tiny_en, makers, rows)
    assert len({len(row.tokens) for row in rows}) > 3


@pytest.mark.archive
@pytest.mark.weights
@pytest.mark.timeout(300)
def test_real_speech_that_arrives_late_or_leaves_early_disturbs_nobody(speech, tiny_en):
    """Two rows, then two more; one is removed in the middle; then two more."""
    makers = whisper_rows(speech, 3)
    decoder = Decoder(tiny_en, 4)
    rows = [make() for make in makers[:6]]
    decoder.insert(rows[:2])
    for _ in range(3):
        decoder.step()
    decoder.insert(rows[2:4])
    for _ in range(4):
        decoder.step()
    decoder.remove(rows[2])
    while decoder.num_free < 2:
        decoder.step()
    decoder.insert(rows[4:])
    while decoder.num_active:
        decoder.step()
    stayed = [0, 1, 3, 4, 5]
    assert_like_alone(tiny_en, [makers[n] for n in stayed], [rows[n] for n in stayed])
    (alone,) = run(Decoder(tiny_en, 1), makers[2]())
    assert alone.tokens[: len(rows[2].tokens)] == rows[2].tokens
    assert 4 <= len(rows[2].tokens) < len(alone.tokens)


@pytest.mark.parametrize("network", [NumpyWhisper, Whisper])
def test_a_random_whisper_in_a_batch_gives_what_it_gives_alone(network):
    """The same rows over a network of another shape, with eight places and with two."""
    model = network(tiny_random_whisper(width=32, layers=1))
    states = mx.random.normal((3, 1500, 32), key=mx.random.key(1))
    makers = whisper_rows(states, 3)
    for max_rows in (8, 2):
        decoder = Decoder(model, max_rows)
        assert_like_alone(model, makers, run_queue(decoder, [make() for make in makers]))


@pytest.mark.parametrize("network", [NumpyWhisper, Whisper])
def test_a_whisper_whose_audio_is_nan_fails_alone(network):
    """One damaged window among good ones, through the real network."""
    model = network(tiny_random_whisper(width=32, layers=1))
    states = mx.random.normal((3, 1500, 32), key=mx.random.key(1))
    makers = whisper_rows(states, 3)[:3]
    damaged = makers[1]()
    damaged.encoder_states = mx.full(damaged.encoder_states.shape, mx.nan)
    good = [makers[0](), makers[2]()]
    run(Decoder(model, 4), good[0], damaged, good[1])
    assert isinstance(damaged.error, NonFinite)
    assert damaged.tokens == []
    assert_like_alone(model, [makers[0], makers[2]], good)
