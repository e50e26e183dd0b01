"""What NeMo and transformers write of a Parakeet model beside its tensors."""


def nemo_config(weights):
    """Return NeMo's configuration, with what it says beside the network left in."""
    config = weights.config
    features, encoder, head = config.features, config.encoder, config.transducer
    modules, listed = "nemo.collections.asr.modules", list(weights.vocabulary.pieces)
    found = {
        "sample_rate": 16000,
        "preprocessor": {
            "_target_": f"{modules}.AudioToMelSpectrogramPreprocessor",
            "sample_rate": 16000,
            "normalize": "per_feature",
            "window_size": features.window_length / 16000,
            "window_stride": features.hop_length / 16000,
            "window": "hann",
            "features": features.n_mels,
            "n_fft": features.n_fft,
            "frame_splicing": 1,
            "dither": 1e-05,
            "pad_to": 0,
        },
        "encoder": {
            "_target_": f"{modules}.ConformerEncoder",
            "feat_in": encoder.n_mels,
            "feat_out": -1,
            "n_layers": encoder.num_layers,
            "d_model": encoder.width,
            "use_bias": encoder.has_bias,
            "subsampling": "dw_striding",
            "subsampling_factor": encoder.subsampling_factor,
            "subsampling_conv_channels": encoder.subsampling_channels,
            "causal_downsampling": False,
            "reduction": None,
            "ff_expansion_factor": encoder.feed_forward_width // encoder.width,
            "self_attention_model": "rel_pos",
            "n_heads": encoder.num_heads,
            "att_context_size": [-1, -1],
            "xscaling": encoder.scales_input,
            "untie_biases": True,
            "pos_emb_max_len": encoder.max_frames,
            "conv_kernel_size": encoder.kernel_size,
            "conv_norm_type": "batch_norm",
            "dropout": 0.1,
        },
    }
    if head is None:
        found["decoder"] = {
            "_target_": f"{modules}.ConvASRDecoder",
            "feat_in": encoder.width,
            "num_classes": config.num_labels,
            "vocabulary": listed,
        }
        return found
    return found | {
        "model_defaults": {"tdt_durations": list(head.durations)},
        "decoder": {
            "_target_": f"{modules}.RNNTDecoder",
            "blank_as_pad": True,
            "vocab_size": config.num_labels,
            "prednet": {
                "pred_hidden": head.predictor_width,
                "pred_rnn_layers": head.predictor_layers,
                "dropout": 0.2,
            },
        },
        "joint": {
            "_target_": f"{modules}.RNNTJoint",
            "num_extra_outputs": len(head.durations),
            "num_classes": config.num_labels,
            "vocabulary": listed,
            "jointnet": {
                "joint_hidden": head.joint_width,
                "activation": "relu",
                "encoder_hidden": encoder.width,
                "pred_hidden": head.predictor_width,
            },
        },
        "decoding": {
            "strategy": "greedy_batch",
            "model_type": "tdt",
            "durations": list(head.durations),
            "greedy": {"max_symbols": head.max_symbols},
        },
    }


def transformers_config(config):
    """Return transformers' `config.json`; its transducers have one width for both networks."""
    encoder, head = config.encoder, config.transducer
    found = {
        "vocab_size": config.num_labels + 1,
        "encoder_config": {
            "model_type": "parakeet_encoder",
            "hidden_act": "silu",
            "hidden_size": encoder.width,
            "num_hidden_layers": encoder.num_layers,
            "num_attention_heads": encoder.num_heads,
            "intermediate_size": encoder.feed_forward_width,
            "attention_bias": encoder.has_bias,
            "convolution_bias": encoder.has_conv_bias,
            "conv_kernel_size": encoder.kernel_size,
            "subsampling_factor": encoder.subsampling_factor,
            "subsampling_conv_channels": encoder.subsampling_channels,
            "subsampling_conv_kernel_size": 3,
            "subsampling_conv_stride": 2,
            "num_mel_bins": encoder.n_mels,
            "scale_input": encoder.scales_input,
            "max_position_embeddings": encoder.max_frames,
        },
    }
    if head is None:
        return found | {"model_type": "parakeet_ctc", "pad_token_id": config.blank}
    return found | {
        "model_type": "parakeet_tdt",
        "blank_token_id": config.blank,
        "hidden_act": "relu",
        "decoder_hidden_size": head.predictor_width,
        "num_decoder_layers": head.predictor_layers,
        "durations": list(head.durations),
        "max_symbols_per_step": head.max_symbols,
    }


def feature_extractor(config):
    """Return transformers' `preprocessor_config.json`."""
    features = config.features
    return {
        "feature_extractor_type": "ParakeetFeatureExtractor",
        "sampling_rate": 16000,
        "feature_size": features.n_mels,
        "hop_length": features.hop_length,
        "n_fft": features.n_fft,
        "win_length": features.window_length,
        "preemphasis": features.preemphasis,
        "padding_value": 0.0,
    }
