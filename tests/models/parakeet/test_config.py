"""What a configuration says is taken as it stands; what we do not compute with is refused by name."""

import copy

import pytest

from producer.errors import InvalidModel
from tests.stage.parakeet_configs import feature_extractor, nemo_config, transformers_config
from tests.stage.tiny_parakeets import large_config, random_parakeet, tiny_config
from worker.models.parakeet.weights import nemo_config as nemo
from worker.models.parakeet.weights import transformers_config as transformers

TDT, CTC = random_parakeet(tiny_config()), random_parakeet(tiny_config(ctc=True))
NEMO, NEMO_CTC = nemo_config(TDT), nemo_config(CTC)
HUGGING_FACE = transformers_config(TDT.config)
FEATURES = feature_extractor(TDT.config)


def changed(config, path, value):
    """Return a copy with one value changed; `...` takes it away."""
    config = copy.deepcopy(config)
    *sections, name = path.split(".")
    held = config
    for section in sections:
        held = held[section]
    if value is ...:
        del held[name]
    else:
        held[name] = value
    return config


WRONG = {
    "preprocessor.sample_rate": 8000,
    "preprocessor.window": "hamming",
    "preprocessor.normalize": "all_features",
    "preprocessor.features": 0,
    "preprocessor.mag_power": 1.0,
    "preprocessor.log_zero_guard_type": "clamp",
    "preprocessor.n_fft": 256,
    "preprocessor.window_size": "25 ms",
    "preprocessor.exact_pad": True,
    "preprocessor._target_": "nemo.collections.asr.modules.AudioToMFCCPreprocessor",
    "encoder._target_": "nemo.collections.asr.modules.SqueezeformerEncoder",
    "encoder.subsampling": "striding",
    "encoder.self_attention_model": "rel_pos_local_attn",
    "encoder.att_context_size": [128, 128],
    "encoder.conv_norm_type": "layer_norm",
    "encoder.causal_downsampling": True,
    "encoder.conv_context_size": "causal",
    "encoder.untie_biases": False,
    "encoder.d_model": 66,
    "encoder.n_heads": 0,
    "encoder.n_layers": "many",
    "encoder.subsampling_factor": 6,
    "encoder.conv_kernel_size": 8,
    "encoder.feat_in": 128,
    "encoder.use_bias": "no",
    "decoder._target_": "nemo.collections.asr.modules.StatelessTransducerDecoder",
    "decoder.blank_as_pad": False,
    "decoder.vocab_size": ...,
    "decoder.prednet.pred_rnn_layers": 1.5,
    "joint.jointnet.activation": "tanh",
    "joint.jointnet.encoder_hidden": 32,
    "joint.num_extra_outputs": 4,
    "joint.num_classes": 41,
    "decoding.model_type": "rnnt",
    "decoding.durations": [0, 1, 1],
    "decoding.greedy.max_symbols": 0,
    "decoder": [],
}


@pytest.mark.parametrize("path", WRONG)
def test_what_nemo_may_say_and_we_do_not_compute_is_named(path):
    """With the value that stands there."""
    with pytest.raises(InvalidModel) as caught:
        nemo.read(changed(NEMO, path, WRONG[path]), "config.json")
    said = str(caught.value)
    names = {"n_heads": "n_heads", "d_model": "heads", "conv_kernel_size": "kernel size"}
    names |= {"subsampling_factor": "subsampling factor"}
    leaf = path.rpartition(".")[2]
    assert names.get(leaf, leaf) in said


def test_nemo_configurations_are_read():
    """Both heads."""
    assert nemo.read(NEMO, "it") == TDT.config
    assert nemo.read(NEMO_CTC, "it") == CTC.config
    assert nemo.is_nemo(NEMO)
    assert not nemo.is_nemo(HUGGING_FACE)


def test_what_nemo_leaves_out_has_its_default():
    """Those of the classes that read it."""
    config = NEMO
    for path in (
        "encoder.use_bias",
        "encoder.xscaling",
        "encoder.att_context_size",
        "encoder.pos_emb_max_len",
        "encoder.untie_biases",
        "decoding.greedy",
        "decoding.durations",
        "decoding.model_type",
        "preprocessor.normalize",
    ):
        config = changed(config, path, ...)
    found = nemo.read(config, "it")
    assert found.encoder.has_bias
    assert found.encoder.scales_input
    assert found.encoder.max_frames == 5000
    assert found.transducer == TDT.config.transducer
    assert found.features == TDT.config.features


def test_a_limit_that_is_null_is_nemos_own():
    """Without one a row might never end."""
    found = nemo.read(changed(NEMO, "decoding.greedy.max_symbols", None), "it")
    assert found.transducer.max_symbols == 10


def test_other_numbers_are_taken():
    """None is assumed."""
    config = changed(NEMO, "decoding.durations", [0, 2, 4, 8])
    config = changed(config, "joint.num_extra_outputs", 4)
    config = changed(config, "decoding.greedy.max_symbols", 3)
    config = changed(config, "preprocessor.preemph", 0.9)
    config = changed(config, "preprocessor.window_stride", 0.0125)
    config = changed(config, "encoder.subsampling_factor", 4)
    found = nemo.read(config, "it")
    assert found.transducer.durations == (0, 2, 4, 8)
    assert found.transducer.max_symbols == 3
    assert found.features.preemphasis == 0.9
    assert found.features.hop_length == 200
    assert found.encoder.num_strided == 2
    assert found.frame_seconds == 0.05


WRONG_HUGGING_FACE = {
    "model_type": "parakeet_rnnt",
    "blank_token_id": 2,
    "vocab_size": 0,
    "hidden_act": "gelu",
    "durations": [],
    "max_symbols_per_step": -1,
    "encoder_config": None,
    "encoder_config.hidden_act": "relu",
    "encoder_config.subsampling_conv_kernel_size": 5,
    "encoder_config.num_mel_bins": 128,
    "encoder_config.num_key_value_heads": 2,
    "encoder_config.hidden_size": 1 << 30,
    "encoder_config.attention_bias": 1,
}


@pytest.mark.parametrize("path", WRONG_HUGGING_FACE)
def test_what_transformers_may_say_and_we_do_not_compute_is_named(path):
    """With the value that stands there."""
    config = changed(HUGGING_FACE, path, WRONG_HUGGING_FACE[path])
    with pytest.raises(InvalidModel) as caught:
        transformers.read(config, FEATURES, "folder")
    leaf = path.rpartition(".")[2]
    assert {"num_mel_bins": "feature_size"}.get(leaf, leaf) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sampling_rate", 8000),
        ("n_fft", 511),
        ("preemphasis", 2),
        ("hop_length", None),
        ("win_length", 0),
        ("feature_extractor_type", "WhisperFeatureExtractor"),
    ],
)
def test_a_feature_extractor_of_another_kind_is_named(name, value):
    """Its own file says how the model hears."""
    with pytest.raises(InvalidModel, match=name):
        transformers.read(HUGGING_FACE, {**FEATURES, name: value}, "folder")


def test_transformers_configurations_are_read():
    """Both heads; without pre-emphasis there is none."""
    assert transformers.read(HUGGING_FACE, FEATURES, "it") == TDT.config
    assert transformers.read(transformers_config(CTC.config), FEATURES, "it") == CTC.config


def test_no_preemphasis_and_no_word_of_it_differ():
    """Null is none; what is left out is the classes' 0.97."""
    without = transformers.read(HUGGING_FACE, {**FEATURES, "preemphasis": None}, "it")
    silent = transformers.read(HUGGING_FACE, changed(FEATURES, "preemphasis", ...), "it")
    assert (without.features.preemphasis, silent.features.preemphasis) == (0, 0.97)
    assert nemo.read(changed(NEMO, "preprocessor.preemph", None), "it").features.preemphasis == 0
    assert nemo.read(NEMO, "it").features.preemphasis == 0.97


def test_sizes_of_frames():
    """30 s of the 0.6b: 3000 mel frames, 375 of 80 ms; what begins a frame is one."""
    config = large_config()
    assert config.frame_seconds == 0.08
    assert config.num_frames(30 * 16_000) == 375
    assert [config.num_frames(count) for count in (0, 159, 160, 1280, 1281, 1440)] == [
        0,
        0,
        1,
        1,
        1,
        2,
    ]
    assert config.encoder.subsampled_bins == 16
