"""Hugging Face's configuration of `ParakeetForTDT` and `ParakeetForCTC`, and of their features.

What it leaves out and is the same in every published model has the default of transformers' class.
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
from worker.models.parakeet.weights.nemo_config import check_encoder

_MODEL_TYPES = ("parakeet_tdt", "parakeet_ctc")
_MOST_DURATION = 64


def is_transformers(config: dict[str, Any]) -> bool:
    """Return whether a parsed `config.json` is transformers' of some Parakeet."""
    return str(config.get("model_type", "")).startswith("parakeet")


def read(config: dict[str, Any], features: dict[str, Any], source: str) -> Config:
    """Return what a configuration says.

    Args:
        config: `config.json`.
        features: `preprocessor_config.json`, or that part of `processor_config.json`.
        source: The folder, for errors.

    Raises:
        InvalidModel: a value is missing, wrong, or not one that we compute with.
    """
    fields = Fields(config, f"{source}/config.json")
    is_ctc = fields.only("model_type", *_MODEL_TYPES) == "parakeet_ctc"
    heard = _features(Fields(features, f"{source}: feature extractor"))
    encoder = _encoder(fields.section("encoder_config"))
    if heard.n_mels != encoder.n_mels:
        limit = f"must equal the encoder's num_mel_bins, {encoder.n_mels}"
        raise InvalidModel(f"{source}: feature extractor: feature_size", limit, heard.n_mels)
    num_labels = fields.size("vocab_size") - 1
    fields.only("pad_token_id" if is_ctc else "blank_token_id", num_labels)
    return Config(heard, encoder, num_labels, None if is_ctc else _transducer(fields))


def _features(fields: Fields) -> FeatureConfig:
    fields.only(
        "feature_extractor_type", "ParakeetFeatureExtractor", default="ParakeetFeatureExtractor"
    )
    fields.only("sampling_rate", SAMPLE_RATE_HZ)
    fields.only("padding_value", 0.0, 0, default=0.0)
    n_fft, window_length = fields.size("n_fft", most=1 << 14), fields.size("win_length")
    fields.check_transform(n_fft, window_length)
    return FeatureConfig(
        n_fft=n_fft,
        window_length=window_length,
        hop_length=fields.size("hop_length", most=SAMPLE_RATE_HZ),
        n_mels=fields.size("feature_size", most=512),
        preemphasis=_preemphasis(fields),
        normalizes=True,
    )


def _preemphasis(fields: Fields) -> float:
    return 0.0 if fields.is_null("preemphasis") else fields.number("preemphasis", 0.97, most=1.0)


def _encoder(fields: Fields) -> EncoderConfig:
    fields.only("hidden_act", "silu", default="silu")
    fields.only("subsampling_conv_kernel_size", 3, default=3)
    fields.only("subsampling_conv_stride", 2, default=2)
    heads = fields.size("num_attention_heads")
    fields.only("num_key_value_heads", heads, default=heads)
    encoder = EncoderConfig(
        n_mels=fields.size("num_mel_bins", most=512),
        width=fields.size("hidden_size"),
        num_layers=fields.size("num_hidden_layers", most=256),
        num_heads=heads,
        feed_forward_width=fields.size("intermediate_size"),
        kernel_size=fields.size("conv_kernel_size", most=255),
        subsampling_factor=fields.size("subsampling_factor", most=64),
        subsampling_channels=fields.size("subsampling_conv_channels"),
        has_bias=fields.flag("attention_bias", default=True),
        has_conv_bias=fields.flag("convolution_bias", default=True),
        scales_input=fields.flag("scale_input", default=True),
        max_frames=fields.size("max_position_embeddings", 5000, most=1 << 16),
    )
    check_encoder(encoder, fields.source)
    return encoder


def _transducer(fields: Fields) -> TransducerConfig:
    fields.only("hidden_act", "relu", default="relu")
    width = fields.size("decoder_hidden_size")
    return TransducerConfig(
        predictor_width=width,
        predictor_layers=fields.size("num_decoder_layers", most=16),
        joint_width=width,
        durations=fields.sizes("durations", most=_MOST_DURATION),
        max_symbols=fields.size("max_symbols_per_step", 10, most=1000),
    )
