"""One utterance from file to tokens: what is refused and in which order, and how it ends."""

import json
import math
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import soundfile

from producer.errors import (
    EmptyInput,
    InvalidOptions,
    LengthMismatch,
    NonFinite,
    OutOfRange,
    RankMismatch,
    SourceNotFound,
)
from tests.stage.toy_model import BOS, EOS, NUM_VOCAB, ScriptedModel, ToyModel, toy_audio
from worker.device.decode_request import RowRules
from worker.device.decoder import Decoder
from worker.device.row import Row
from worker.device.sampling_params import SamplingParams
from worker.generate import (
    DEFAULT_MAX_AUDIO_SECONDS,
    SttGenConfig,
    encode_audio_file,
    stt_generate,
)
from worker.models.whisper.log_mel import LogMel, log_mel_frames

# Whoever looks at it says that it does not exist.
ABSENT = Path("/nowhere/recording.wav")


def write_tone(path, num_samples=16_000, rate_hz=16_000):
    tone = 0.1 * np.sin(np.arange(num_samples, dtype=np.float32) / 10)
    soundfile.write(path, tone, rate_hz, subtype="FLOAT")
    return path


@pytest.fixture
def tone(tmp_path):
    return write_tone(tmp_path / "tone.wav")


def spoken(model, config=None):
    """Return the steps of a window, without a file."""
    return stt_generate(model, None, config, states=toy_audio(5))


def test_the_configuration_is_a_value_with_the_contracts_defaults():
    """Greedy, resampling, 30 s; other values make another configuration."""
    config = SttGenConfig()
    assert config.auto_resample
    assert config.max_audio_seconds == DEFAULT_MAX_AUDIO_SECONDS == 30.0
    assert config.sampling == SamplingParams()
    assert config.sampling.is_greedy
    other = replace(config, auto_resample=False, max_audio_seconds=1.5)
    assert (config.auto_resample, other.auto_resample) == (True, False)
    assert replace(other, auto_resample=True, max_audio_seconds=30.0) == config
    with pytest.raises(FrozenInstanceError):
        config.max_tokens = 5


# The order of refusal


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": 0},
        {"eos": frozenset([-1])},
        {"prompt": ()},
        {"prompt": (-5,)},
        *(
            {"sampling": params}
            for params in (
                {"temperature": -0.1},
                {"temperature": math.nan},
                {"temperature": math.inf},
                {"top_p": 1.01},
                {"min_p": -0.1},
                {"min_tokens_to_keep": 0},
                {"top_k": -1},
                {"xtc_probability": 2.0},
                {"xtc_threshold": 0.6},
                {"seed": -1},
                {"logit_bias": {1: math.inf}},
                {"repetition_penalty": -1.0},
                {"repetition_context_size": 0},
                {"presence_penalty": math.nan},
                {"presence_context_size": 0},
                {"frequency_penalty": math.inf},
                {"frequency_context_size": 0},
            )
        ),
    ],
    ids=str,
)
def test_a_bound_of_the_configuration_is_checked_when_it_is_made(wrong):
    """No model and no file are there yet."""
    with pytest.raises((OutOfRange, EmptyInput)):
        SttGenConfig(
            **{
                key: SamplingParams(**value) if key == "sampling" else value
                for key, value in wrong.items()
            }
        )


@pytest.mark.parametrize(
    "wrong",
    [
        {"sampling": SamplingParams(top_k=NUM_VOCAB)},
        {"sampling": SamplingParams(min_tokens_to_keep=NUM_VOCAB + 1)},
        {"sampling": SamplingParams(logit_bias={NUM_VOCAB: 1.0})},
        {"sampling": SamplingParams(xtc_special_tokens=(NUM_VOCAB,))},
        {"eos": frozenset([NUM_VOCAB])},
        {"prompt": (BOS, NUM_VOCAB)},
        {"prompt": (BOS,) * 449},
        {"rules": RowRules(suppress=(NUM_VOCAB,))},
        {"rules": RowRules(suppress_first=(NUM_VOCAB,))},
    ],
    ids=str,
)
def test_what_only_the_model_can_tell_fails_before_the_file_is_touched(wrong):
    """Neither the file nor the network is used."""
    model = ToyModel()
    with pytest.raises((OutOfRange, LengthMismatch)):
        stt_generate(model, ABSENT, SttGenConfig(**wrong))
    assert model.calls == []


@pytest.mark.parametrize("cap", [math.nan, math.inf, -math.inf, 0.0, -1.0])
@pytest.mark.parametrize("start", [stt_generate, encode_audio_file])
def test_a_senseless_cap_fails_before_the_file_is_touched(start, cap):
    """NaN, infinite, zero and negative caps name themselves."""
    model = ToyModel()
    with pytest.raises(OutOfRange, match="max_seconds") as caught:
        start(model, ABSENT, SttGenConfig(max_audio_seconds=cap))
    assert caught.value.value is cap
    assert model.calls == []


def test_an_unknown_resampler_fails_before_the_file_is_touched():
    """A misspelt name is no reason to read anything."""
    with pytest.raises(InvalidOptions, match="resampler"):
        stt_generate(ToyModel(), ABSENT, SttGenConfig(resampler="cubic"))


def test_everything_wrong_at_once_is_refused_in_the_order_of_its_price(tmp_path):
    """Configuration, cap, file, header, samples, frames; as each is mended the next one shows."""
    samples = np.zeros(32_000, np.float32)
    samples[20_000] = np.nan
    soundfile.write(tmp_path / "nan.wav", samples, 16_000, subtype="FLOAT")
    write_tone(tmp_path / "short.wav", 159)
    config = SttGenConfig(sampling=SamplingParams(top_k=NUM_VOCAB), max_audio_seconds=math.nan)
    mended = replace(config, sampling=SamplingParams())
    model = ToyModel()
    for path, asked, error, said in [
        (ABSENT, config, OutOfRange, "top_k"),
        (ABSENT, mended, OutOfRange, "max_seconds"),
        (tmp_path / "absent.wav", replace(mended, max_audio_seconds=1.0), SourceNotFound, "exist"),
        (tmp_path / "nan.wav", replace(mended, max_audio_seconds=1.0), OutOfRange, "duration"),
        (tmp_path / "nan.wav", replace(mended, max_audio_seconds=2.0), NonFinite, "20000"),
        (tmp_path / "short.wav", replace(mended, max_audio_seconds=2.0), EmptyInput, "mel frame"),
    ]:
        with pytest.raises(error, match=said):
            stt_generate(model, path, asked)
    assert model.calls == []


# The audio


def test_the_default_cap_is_whispers_window(tmp_path):
    """Exactly 30 s pass, one sample more does not."""
    assert SttGenConfig().max_audio_seconds == DEFAULT_MAX_AUDIO_SECONDS == 30.0
    encode_audio_file(ToyModel(), write_tone(tmp_path / "30.wav", 480_000))
    with pytest.raises(OutOfRange, match="duration") as caught:
        encode_audio_file(ToyModel(), write_tone(tmp_path / "more.wav", 480_001))
    assert caught.value.value == 480_001 / 16_000


def test_a_second_of_44100_hz_passes_a_cap_of_a_second(tmp_path):
    """The cap counts at the source's rate: 44,100 samples are not 2.8 s."""
    path = write_tone(tmp_path / "a.wav", 44_100, 44_100)
    model = ToyModel()
    assert next(stt_generate(model, path, SttGenConfig(max_audio_seconds=1.0))).step_index == 0
    assert model.calls == ["encode_audio", "prefill"]


def test_another_rate_is_out_of_range_unless_resampling_is_on(tmp_path):
    """The model is never fed spectrograms of another rate."""
    path = write_tone(tmp_path / "a.wav", 44_100, 44_100)
    with pytest.raises(OutOfRange, match="rate") as caught:
        encode_audio_file(ToyModel(), path, SttGenConfig(auto_resample=False))
    assert caught.value.value == 44_100
    for resampler in ("soxr_hq", "linear"):
        encode_audio_file(ToyModel(), path, SttGenConfig(resampler=resampler))


def test_equal_rates_reach_the_spectrogram_untouched(tone):
    """What the encoder sees is the log-mel of the file's own samples, to the bit."""

    class Seeing(ToyModel):
        def encode_audio(self, mel):
            self.seen = mel
            return super().encode_audio(mel)

    model = Seeing()
    encode_audio_file(model, tone)
    expected = LogMel(model.log_mel_frames, 80)
    expected.push(soundfile.read(tone, dtype="float32")[0])
    expected.finish()
    assert mx.array_equal(expected.window(0)[None], model.seen)


def test_the_models_features_are_asked_for_once(tone):
    """Two answers could differ."""

    class Counting(ToyModel):
        num_asked = 0

        @property
        def n_mels(self):
            self.num_asked += 1
            return 80

        def log_mel_frames(self, samples):
            return log_mel_frames(samples, 80)

    model = Counting()
    encode_audio_file(model, tone)
    assert model.num_asked == 1


@pytest.mark.parametrize(
    ("num_samples", "rate_hz", "said"),
    [(0, 16_000, "decoding"), (2, 384_000, "resampling"), (159, 16_000, "frame")],
)
def test_no_audio_is_empty_input_and_says_where_it_ran_out(tmp_path, num_samples, rate_hz, said):
    """Nothing decoded, nothing left after resampling, or less than one mel frame."""
    path = write_tone(tmp_path / "a.wav", num_samples, rate_hz)
    model = ToyModel()
    with pytest.raises(EmptyInput, match=said):
        stt_generate(model, path)
    assert model.calls == []


def test_one_hop_is_enough_to_frame(tmp_path):
    """160 samples make the shortest utterance."""
    steps = stt_generate(ToyModel(), write_tone(tmp_path / "a.wav", 160))
    assert next(steps).step_index == 0


# The steps


def test_the_file_is_read_and_encoded_before_the_first_step(tone):
    """Errors of the audio come from the call, not from the first `next`; decoding is lazy."""
    model = ToyModel()
    stt_generate(model, tone)
    assert model.calls == ["encode_audio"]


def test_the_first_token_follows_the_models_start_token():
    """Another prompt gives another text, and the default is the model's own."""

    class Reading(ScriptedModel):
        def prefill(self, states, prompts, at):
            self.read = prompts.tolist()[0][: at.tolist()[0][1] + 1]
            return super().prefill(states, prompts, at)

    model = Reading([EOS])
    list(spoken(model))
    assert model.read == [BOS]
    model = Reading([EOS])
    list(spoken(model, SttGenConfig(prompt=(7, 8, 9))))
    assert model.read == [7, 8, 9]


def test_the_ending_token_is_yielded_with_its_reason_and_then_nothing():
    """`stop` on the last step only; the model is not called again, however often one asks."""
    model = ScriptedModel([5, 6, EOS, 7])
    steps = spoken(model)
    assert [(s.token, s.finish_reason) for s in steps] == [(5, None), (6, None), (EOS, "stop")]
    assert [next(steps, "end") for _ in range(3)] == ["end"] * 3
    assert model.num_decoder_calls == 3


def test_exactly_max_tokens_are_sampled_with_one_model_call_each():
    """The last one says `length`."""
    model = ScriptedModel([5] * 50)
    steps = spoken(model, SttGenConfig(max_tokens=4))
    reasons = [step.finish_reason for step in steps]
    assert reasons == [None, None, None, "length"]
    assert next(steps, None) is None
    assert model.num_decoder_calls == 4


def test_an_ending_token_in_the_last_place_is_a_stop():
    """The text ended; it was not cut."""
    *_, last = spoken(ScriptedModel([5, EOS]), SttGenConfig(max_tokens=2))
    assert last.finish_reason == "stop"


def test_a_row_ends_where_the_models_context_does():
    """A prompt of the whole context leaves room for one token."""
    model = ScriptedModel([5] * 50)
    steps = list(spoken(model, SttGenConfig(prompt=(BOS,) * 448, max_tokens=10)))
    assert [(step.finish_reason, step.token) for step in steps] == [("length", 5)]


@pytest.mark.parametrize("ending", [9, EOS])
def test_the_callers_endings_come_on_top_of_the_models(ending):
    """Both end the text, and the model's own cannot be switched off."""
    steps = list(spoken(ScriptedModel([5, ending, 6]), SttGenConfig(eos=frozenset([9]))))
    assert [5, ending] == [step.token for step in steps]
    assert steps[-1].finish_reason == "stop"


def shaped(*shape):
    return lambda: mx.zeros(shape)


@pytest.mark.parametrize(
    ("logits", "error"),
    [
        (shaped(1, 1, NUM_VOCAB), RankMismatch),
        (shaped(NUM_VOCAB), RankMismatch),
        (shaped(2, NUM_VOCAB), LengthMismatch),
        (shaped(1, 0), EmptyInput),
        (shaped(1, 1), LengthMismatch),
        (shaped(1, NUM_VOCAB + 1), LengthMismatch),
        (lambda: mx.full((1, NUM_VOCAB), mx.nan), NonFinite),
        (lambda: mx.full((1, NUM_VOCAB), mx.inf), NonFinite),
        (lambda: mx.where(mx.arange(NUM_VOCAB)[None] == 3, mx.nan, 1.0), NonFinite),
        (lambda: mx.where(mx.arange(NUM_VOCAB)[None] == 3, mx.inf, 1.0), NonFinite),
        (lambda: mx.full((1, NUM_VOCAB), -mx.inf), NonFinite),
    ],
    ids=[
        "rank3",
        "rank1",
        "two-rows",
        "no-vocabulary",
        "narrow",
        "wide",
        "NaN",
        "inf",
        "a-NaN",
        "an-inf",
        "-inf",
    ],
)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_defective_logits_are_a_typed_error_once_and_then_the_end(logits, error, temperature):
    """What was sampled before stays good; nothing re-enters the model; NaN never becomes text."""
    model = ScriptedModel([5, 6, logits, 7])
    steps = spoken(model, SttGenConfig(sampling=SamplingParams(temperature=temperature / 100)))
    assert [next(steps).token, next(steps).token] == [5, 6]
    with pytest.raises(error, match="logits") as caught:
        next(steps)
    if error is not NonFinite:
        assert logits().shape == caught.value.value
    assert [next(steps, "end") for _ in range(3)] == ["end"] * 3
    assert model.num_decoder_calls == 3


@pytest.mark.parametrize(
    ("logits", "error"),
    [
        (shaped(1, NUM_VOCAB), RankMismatch),
        (shaped(2, 2, NUM_VOCAB), LengthMismatch),
        (shaped(1, 1, NUM_VOCAB), LengthMismatch),
        (shaped(1, 2, 0), EmptyInput),
        (shaped(1, 2, 1), LengthMismatch),
    ],
    ids=["rank", "rows", "positions", "no vocabulary", "narrow"],
)
def test_defective_logits_of_the_prompt_are_typed_too(logits, error):
    """The first step reads the prompt; its logits have one more axis."""

    class Defective(ToyModel):
        def prefill(self, states, prompts, at):
            return logits(), super().prefill(states, prompts, at)[1]

    model = Defective()
    steps = spoken(model)
    with pytest.raises(error, match="logits"):
        next(steps)
    assert next(steps, None) is None
    assert model.num_decoder_calls == 1


def test_an_error_of_the_model_itself_ends_the_steps_too():
    """Whatever it raises comes out once."""

    def explode():
        raise RuntimeError("no such kernel")

    model = ScriptedModel([5, explode, 6])
    steps = spoken(model)
    next(steps)
    with pytest.raises(RuntimeError, match="kernel"):
        next(steps)
    assert next(steps, None) is None
    assert model.num_decoder_calls == 2


def test_log_probabilities_come_only_if_asked_and_belong_to_their_step():
    """They are kept over the vocabulary, normalised, and outlive the steps after them."""
    assert all(s.logprobs is None for s in spoken(ToyModel(), SttGenConfig(max_tokens=3)))
    steps = list(spoken(ToyModel(), SttGenConfig(max_tokens=5, collect_logprobs=True)))
    assert len(steps) == 5
    for step in steps:
        assert step.logprobs.shape == (NUM_VOCAB,)
        assert mx.logsumexp(step.logprobs).item() == pytest.approx(0, abs=1e-5)
        assert step.logprob == step.logprobs[step.token].item() == step.logprobs.max().item()


def test_steps_are_numbered_and_the_last_one_tells_what_it_cost(tone):
    """Tokens, seconds and rates; the time of audio and encoder is in the total."""
    steps = list(stt_generate(ToyModel(), tone, SttGenConfig(prompt=(BOS, 5, 6), max_tokens=4)))
    assert list(range(len(steps))) == [step.step_index for step in steps]
    assert all(step.stats is None for step in steps[:-1])
    stats = steps[-1].stats
    assert (3, len(steps)) == (stats.prompt_tokens, stats.generated_tokens)
    assert stats.prompt_s > 0
    assert stats.generation_s >= 0
    assert stats.prompt_s + stats.generation_s <= stats.total_s
    assert stats.prompt_tokens_per_s == pytest.approx(3 / stats.prompt_s)
    rate = stats.generated_tokens / (stats.prompt_s + stats.generation_s)
    assert stats.generated_tokens_per_s == pytest.approx(rate)
    assert stats.peak_memory_bytes > 0


def test_penalties_see_the_whole_history_prompt_included():
    """A strong frequency penalty makes a constant model run through its vocabulary."""
    model = ScriptedModel([lambda: mx.zeros((1, NUM_VOCAB))] * 40)
    model.prefill = lambda states, prompts, at: (
        mx.zeros((1, 2, NUM_VOCAB)),
        {"tokens": prompts, "audio": states},
    )
    sampling = SamplingParams(frequency_penalty=1.0, frequency_context_size=100)
    config = SttGenConfig(sampling=sampling, prompt=(0, 1, EOS), max_tokens=6)
    tokens = [step.token for step in spoken(model, config)]
    assert tokens == [3, 4, 5, 6, 7, 8]


def test_the_same_seed_gives_the_same_tokens_and_another_seed_others():
    """Nothing but the seed decides."""

    def drawn(seed):
        sampling = SamplingParams(temperature=4.0, top_p=0.95, min_p=0.001, top_k=40, seed=seed)
        config = SttGenConfig(sampling=sampling, max_tokens=30)
        return [step.token for step in spoken(ToyModel(), config)]

    assert drawn(1) == drawn(1)
    assert len({tuple(drawn(seed)) for seed in range(4)}) == 4


def test_states_are_reused_for_any_number_of_decodes(tone):
    """One encode; each decode starts afresh and gives what reading the file would."""
    model = ToyModel()
    config = SttGenConfig(max_tokens=8)
    states = encode_audio_file(model, tone, config)
    runs = [
        [step.token for step in stt_generate(model, None, config, states=states)] for _ in range(3)
    ]
    assert runs[0] == runs[1] == runs[2]
    assert model.calls.count("encode_audio") == 1
    assert runs[0] == [step.token for step in stt_generate(model, tone, config)]


def test_neither_file_nor_states_is_empty_input():
    """There is nothing to work on."""
    with pytest.raises(EmptyInput, match="needs a file"):
        stt_generate(ToyModel(), None)


# The real model


@pytest.fixture(scope="module")
def jfk():
    """Return the path of the speech and the reference's tokens."""
    data = Path(__file__).resolve().parents[2] / "shared" / "data"
    with (data / "golden.jsonl").open() as lines:
        golden = next(
            line for line in map(json.loads, lines) if line["path"] == "audio/english/jfk.flac"
        )
    tokens = [token for segment in golden["segments"] for token in segment["tokens"]]
    return data / golden["path"], tokens


@pytest.mark.archive
@pytest.mark.weights
def test_jfk_gives_the_references_tokens_alone_and_in_a_full_batch(jfk, tiny_en):
    """The seed's call on a real file; then the same row among seven others of all kinds."""
    path, expected = jfk
    states = encode_audio_file(tiny_en, path)
    *said, last = stt_generate(tiny_en, None, states=states)
    assert expected == [step.token for step in said]
    assert (tiny_en.eos_token, "stop") == (last.token, last.finish_reason)

    def row(**changes):
        asked = {
            "prompt": tiny_en.default_prompt,
            "encoder_states": states,
            "eos": frozenset([tiny_en.eos_token]),
            "max_tokens": 40,
            "rules": tiny_en.default_rules,
        }
        return Row(**asked | changes)

    decoder = Decoder(tiny_en, 8)
    same = row()
    others = [
        row(sampling=SamplingParams(temperature=1.0, top_p=0.9, seed=seed)) for seed in range(4)
    ]
    prompted = row(prompt=(50_360, *range(500, 560), tiny_en.bos_token))
    silent = row(encoder_states=mx.zeros_like(states), rules=RowRules(), max_tokens=5)
    biased = row(sampling=SamplingParams(repetition_penalty=1.5, logit_bias={843: -20.0}))
    decoder.insert([*others, same, prompted, silent, biased])
    while decoder.num_active:
        decoder.step()
    assert [*expected, tiny_en.eos_token] == same.tokens
    assert [step.logprob for step in (*said, last)] == pytest.approx(same.logprobs, abs=1e-4)
