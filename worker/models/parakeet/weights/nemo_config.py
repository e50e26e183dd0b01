"""NeMo's configuration of a Parakeet model: `model_config.yaml`, or the same as `config.json` of MLX's.

What it leaves out has the default of the NeMo class that reads it.
"""

from typing import Any

from producer.errors import InvalidModel
from worker.models.mel import SAMPLE_RATE_HZ
from worker.models.parakeet.config import (
    Config,
    EncoderConfig,
    FeatureConfig,
    TransducerConfig,
)
from worker.models.parakeet.weights.fields import Fields

_PREPROCESSOR = "AudioToMelSpectrogramPreprocessor"
_ENCODER = "ConformerEncoder"
_CTC_DECODER = "ConvASRDecoder"
_RNNT_DECODER = "RNNTDecoder"
_JOINT = "RNNTJoint"
# `GreedyBatchedRNNTInferConfig`; without a limit a row might never end.
_MAX_SYMBOLS = 10
_MOST_DURATION = 64
_MOST_FRAMES = 1 << 16


def is_nemo(config: dict[str, Any]) -> bool:
    """Return whether a parsed configuration is NeMo's."""
    return "preprocessor" in config and "encoder" in config and "decoder" in config


def read(config: dict[str, Any], source: str) -> Config:
    """Return what a configuration says.

    Raises:
        InvalidModel: a value is missing, wrong, or not one that we compute with.
    """
    fields = Fields(config, source)
    decoder = fields.section("decoder")
    is_ctc = _target(decoder, _CTC_DECODER, _RNNT_DECODER) == _CTC_DECODER
    encoder = _encoder(fields.section("encoder"))
    features = _features(fields.section("preprocessor"))
    if features.n_mels != encoder.n_mels:
        limit = f"must equal the preprocessor's features, {features.n_mels}"
        raise InvalidModel(f"{source}: encoder: feat_in", limit, encoder.n_mels)
    if is_ctc:
        return Config(features, encoder, decoder.size("num_classes"), None)
    return Config(features, encoder, decoder.size("vocab_size"), _transducer(fields, encoder))


def vocabulary(config: dict[str, Any], source: str) -> tuple[str, ...] | None:
    """Return the pieces that the configuration lists; None if it lists none.

    Raises:
        InvalidModel: a list, but not of texts.
    """
    for name in ("joint", "decoder"):
        section = config.get(name)
        if isinstance(section, dict) and section.get("vocabulary"):
            return Fields(section, f"{source}: {name}").texts("vocabulary")
    return None


def _target(fields: Fields, *known: str) -> str:
    """Return which class of NeMo's reads a section; the last of `known` if it does not say."""
    target = fields.text("_target_", default=known[-1]).rpartition(".")[2]
    if target not in known:
        limit = f"must be {' or '.join(known)}: others are not supported"
        raise InvalidModel(f"{fields.source}: _target_", limit, target)
    return target


def _features(fields: Fields) -> FeatureConfig:
    _target(fields, _PREPROCESSOR)
    fields.only("sample_rate", SAMPLE_RATE_HZ, default=SAMPLE_RATE_HZ)
    fields.only("window", "hann", default="hann")
    fields.only("log", True, default=True)
    fields.only("log_zero_guard_type", "add", default="add")
    fields.only("log_zero_guard_value", 2**-24, default=2**-24)
    fields.only("frame_splicing", 1, default=1)
    fields.only("mag_power", 2.0, 2, default=2.0)
    fields.only("lowfreq", 0, 0.0, None, default=0)
    fields.only("highfreq", None, 8000, 8000.0, default=None)
    fields.only("mel_norm", "slaney", default="slaney")
    fields.only("exact_pad", False, default=False)
    fields.only("pad_value", 0, 0.0, default=0)
    window_length = _samples(fields, "window_size", 0.02)
    n_fft = fields.size("n_fft", 1 << (window_length - 1).bit_length(), most=1 << 14)
    fields.check_transform(n_fft, window_length)
    return FeatureConfig(
        n_fft=n_fft,
        window_length=window_length,
        hop_length=_samples(fields, "window_stride", 0.01),
        n_mels=fields.size("features", 64, most=512),
        preemphasis=0.0 if fields.is_null("preemph") else fields.number("preemph", 0.97, most=1.0),
        normalizes=fields.only("normalize", "per_feature", "NA", None, default="per_feature")
        == "per_feature",
    )


def _samples(fields: Fields, name: str, default: float) -> int:
    samples = round(fields.number(name, default, most=1.0) * SAMPLE_RATE_HZ)
    if samples < 1:
        raise InvalidModel(f"{fields.source}: {name}", "must be a sample at least", samples)
    return samples


def _encoder(fields: Fields) -> EncoderConfig:
    _target(fields, _ENCODER)
    for name, value in (
        ("feat_out", -1),
        ("subsampling", "dw_striding"),
        ("causal_downsampling", False),
        ("reduction", None),
        ("self_attention_model", "rel_pos"),
        ("att_context_style", "regular"),
        ("untie_biases", True),
        ("conv_norm_type", "batch_norm"),
        ("conv_context_size", None),
    ):
        # The striding is the only one that NeMo has another default for.
        fields.only(name, value, **({} if name == "subsampling" else {"default": value}))
    fields.only("att_context_size", [-1, -1], None, [[-1, -1]], default=None)
    width = fields.size("d_model")
    has_bias = fields.flag("use_bias", default=True)
    encoder = EncoderConfig(
        n_mels=fields.size("feat_in", most=512),
        width=width,
        num_layers=fields.size("n_layers", most=256),
        num_heads=fields.size("n_heads"),
        feed_forward_width=width * fields.size("ff_expansion_factor", 4, most=64),
        kernel_size=fields.size("conv_kernel_size", 31, most=255),
        subsampling_factor=fields.size("subsampling_factor", 4, most=64),
        subsampling_channels=_channels(fields, width),
        has_bias=has_bias,
        has_conv_bias=has_bias,
        scales_input=fields.flag("xscaling", default=True),
        # Longer inputs than the first table of positions make NeMo compute a longer one.
        max_frames=fields.size("pos_emb_max_len", 5000, most=_MOST_FRAMES),
    )
    check_encoder(encoder, fields.source)
    return encoder


def _channels(fields: Fields, width: int) -> int:
    if fields.is_given_as("subsampling_conv_channels", -1):
        return width
    return fields.size("subsampling_conv_channels")


def check_encoder(encoder: EncoderConfig, source: str) -> None:
    """Check sizes that must agree with each other.

    Raises:
        InvalidModel: they do not.
    """
    factor = encoder.subsampling_factor
    limits = (
        (
            "heads",
            encoder.width % (2 * encoder.num_heads) == 0,
            f"must divide the width, {encoder.width}, into even parts",
            encoder.num_heads,
        ),
        ("kernel size", encoder.kernel_size % 2 == 1, "must be odd", encoder.kernel_size),
        (
            "subsampling factor",
            factor > 1 and factor & (factor - 1) == 0,
            "must be a power of two",
            factor,
        ),
    )
    for name, holds, limit, value in limits:
        if not holds:
            raise InvalidModel(f"{source}: {name}", limit, value)


def _transducer(fields: Fields, encoder: EncoderConfig) -> TransducerConfig:
    decoder, joint, decoding = (fields.section(name) for name in ("decoder", "joint", "decoding"))
    _target(joint, _JOINT)
    decoder.only("blank_as_pad", True, default=True)
    decoder.only("normalization_mode", None, default=None)
    network, predictor = joint.section("jointnet"), decoder.section("prednet")
    network.only("activation", "relu")
    if "model_type" in decoding:
        decoding.only("model_type", "tdt")
    durations = _durations(fields, decoding)
    num_extra = joint.size("num_extra_outputs", most=_MOST_DURATION)
    width = predictor.size("pred_hidden")
    for context, found, wanted in (
        ("joint: num_extra_outputs", num_extra, len(durations)),
        (
            "joint: num_classes",
            joint.size("num_classes", decoder.size("vocab_size")),
            decoder.size("vocab_size"),
        ),
        ("joint: jointnet: pred_hidden", network.size("pred_hidden", width), width),
        (
            "joint: jointnet: encoder_hidden",
            network.size("encoder_hidden", encoder.width),
            encoder.width,
        ),
    ):
        if found != wanted:
            raise InvalidModel(f"{fields.source}: {context}", f"must be {wanted}", found)
    rules = decoding.section("greedy") if "greedy" in decoding else Fields({}, decoding.source)
    named = next((key for key in ("max_symbols", "max_symbols_per_step") if key in rules), None)
    return TransducerConfig(
        predictor_width=width,
        predictor_layers=predictor.size("pred_rnn_layers", most=16),
        joint_width=network.size("joint_hidden"),
        durations=durations,
        max_symbols=_MAX_SYMBOLS if named is None else rules.size(named, most=1000),
    )


def _durations(fields: Fields, decoding: Fields) -> tuple[int, ...]:
    if "durations" in decoding:
        return decoding.sizes("durations", most=_MOST_DURATION)
    return fields.section("model_defaults").sizes("tdt_durations", most=_MOST_DURATION)
