"""Writes parakeet.npz and parakeet.json: what transformers' Parakeet computes with random weights.

    python -m tests.data.make_parakeet .../moonshine_onnx/assets/beckett.wav

Run from the root, in the environment that README.md names for it. The weights are formulas (parakeet_recipes.py);
stored are configurations, pieces, and for each piece its features, encoder output, tokens, frames,
durations and probabilities; of the model with the 0.6b's shapes only samples of each.
"""

import hashlib
import json
import re
import sys
from itertools import groupby
from pathlib import Path

import numpy as np
import soundfile
import torch
import transformers
from transformers import (
    ParakeetCTCConfig,
    ParakeetFeatureExtractor,
    ParakeetForCTC,
    ParakeetForTDT,
    ParakeetTDTConfig,
)

from tests.data.parakeet_recipes import piece, tensor_shapes, weights

# Of the states with the 0.6b's shapes: so many columns are stored.
SAMPLED_EVERY = 64
OUTPUT = Path(__file__).with_name("parakeet.npz")

RAGGED = [
    {"start": 0, "stop": 56_000},
    {"start": 60_000, "stop": 65_123},
    {"synthetic": "chirp", "num_samples": 32_000},
    # Digital silence has no features to compare: what is left of it is rounding (README.md).
    {"noise": 16_000, "seed": 5, "gain": 0.02},
    {"synthetic": "impulse", "num_samples": 1_600},
    {"synthetic": "late", "num_samples": 20_007},
]
LONGER = [
    {"start": 0, "stop": 159_000},
    {"start": 30_000, "stop": 70_000},
    {"synthetic": "clipped", "num_samples": 7_900},
]

CASES = {
    "tdt": {
        "pieces": RAGGED,
        "seed": 55,
        "gain": 4.0,
        "blank": 4.0,
        "durations": [-1.0, 0.0, 0.0, 0.0, 0.0],
        "config": {
            "vocab_size": 65,
            "blank_token_id": 64,
            "decoder_hidden_size": 40,
            "num_decoder_layers": 2,
            "durations": [0, 1, 2, 3, 4],
            "max_symbols_per_step": 10,
        },
        "encoder": {
            "hidden_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "intermediate_size": 256,
            "conv_kernel_size": 9,
            "subsampling_conv_channels": 16,
            "num_mel_bins": 128,
            "attention_bias": False,
            "convolution_bias": False,
            "scale_input": False,
        },
    },
    "tdt_few": {
        "pieces": RAGGED,
        "seed": 20,
        "gain": 3.0,
        "blank": 7.0,
        "durations": [-3.0, 0.0, 0.0],
        "config": {
            "vocab_size": 31,
            "blank_token_id": 30,
            "decoder_hidden_size": 24,
            "num_decoder_layers": 1,
            "durations": [0, 1, 2],
            "max_symbols_per_step": 4,
        },
        "encoder": {
            "hidden_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 6,
            "intermediate_size": 96,
            "conv_kernel_size": 5,
            "subsampling_factor": 4,
            "subsampling_conv_channels": 8,
            "num_mel_bins": 80,
            "attention_bias": True,
            "convolution_bias": True,
            "scale_input": True,
        },
    },
    "ctc": {
        "pieces": RAGGED,
        "seed": 47,
        "gain": 3.0,
        "blank": 7.0,
        "durations": [],
        "config": {"vocab_size": 28, "pad_token_id": 27},
        "encoder": {
            "hidden_size": 40,
            "num_hidden_layers": 2,
            "num_attention_heads": 5,
            "intermediate_size": 160,
            "conv_kernel_size": 7,
            "subsampling_conv_channels": 12,
            "num_mel_bins": 80,
            "attention_bias": True,
            "convolution_bias": True,
            "scale_input": True,
        },
    },
    "full": {
        "pieces": LONGER,
        "seed": 4,
        "gain": 8.0,
        "blank": 4.0,
        "durations": [-2.0, 0.0, 0.0, 0.0, 0.0],
        "config": {"vocab_size": 8193, "blank_token_id": 8192},
        "encoder": {
            "num_mel_bins": 128,
            "attention_bias": False,
            "convolution_bias": False,
            "scale_input": False,
        },
    },
}


def build(case):
    """Return the model of a case with its random weights, its configuration and what was tuned."""
    is_ctc = "blank_token_id" not in case["config"]
    config_type, model_type = (
        (ParakeetCTCConfig, ParakeetForCTC) if is_ctc else (ParakeetTDTConfig, ParakeetForTDT)
    )
    config = config_type(**case["config"], encoder_config=case["encoder"])
    plain = json.loads(config.to_json_string())
    with torch.device("meta"):
        model = model_type(config)
    own = {
        name: tuple(tensor.shape)
        for name, tensor in model.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    assert own == tensor_shapes(plain), own.keys() ^ tensor_shapes(plain).keys()
    tuned = {
        "gain": case["gain"],
        "blank": case["blank"],
        "durations": case["durations"],
        # transformers takes the likeliest of tokens and durations together for the next token.
        "tokens": 40.0,
        "center": [0.0] * own["ctc_head.bias" if is_ctc else "encoder_projector.bias"][0],
    }
    model = model.to_empty(device="cpu")
    positions = model.encoder.encode_positions
    positions.inv_freq = positions.compute_default_relative_positional_parameters(
        config.encoder_config
    )
    made = {n: torch.from_numpy(a) for n, a in weights(plain, case["seed"], tuned)}
    model.load_state_dict(made, strict=False)
    return model.eval(), plain, tuned


def center(model, encoded, blank):
    """Return a bias for what reads the encoder so that it varies around zero; set it in the model.

    Rounded, so that JSON holds it whole.
    """
    reader = model.ctc_head if hasattr(model, "ctc_head") else model.encoder_projector
    heard = encoded.last_hidden_state[encoded.attention_mask.bool()]
    mean = (heard @ reader.weight.reshape(reader.weight.shape[:2]).T).mean(0)
    rounded = [round(-value, 3) for value in mean.tolist()]
    reader.bias.data = torch.tensor(rounded)
    if hasattr(model, "ctc_head"):
        reader.bias.data[model.config.pad_token_id] += blank
    return rounded


def label_tdt(model, features, mask):
    """Return each row's tokens with frames, durations, log-probabilities; and how close it was."""
    steps = []
    hook = model.joint.head.register_forward_hook(lambda _, __, out: steps.append(out[:, -1, -1]))
    out = model.generate(
        input_features=features,
        attention_mask=mask,
        decoder_start_token_id=model.config.blank_token_id,
    )
    hook.remove()
    token_logits, duration_logits = torch.stack(steps, 1).split(
        [model.config.vocab_size, len(model.config.durations)], -1
    )
    tokens, durations = out.sequences[:, 1:], out.durations[:, 1:]
    assert (tokens == token_logits.argmax(-1)).all()
    frames = durations.cumsum(1) - durations
    # A row that has ended goes on with the others: what it says then is no text.
    kept = frames < model._get_subsampling_output_length(mask.sum(-1))[:, None]
    is_label = kept & (tokens != model.config.blank_token_id)
    logprobs = token_logits.log_softmax(-1).max(-1).values
    margins = torch.minimum(margin(token_logits), margin(duration_logits))
    return [
        {
            "tokens": tokens[row, is_label[row]].tolist(),
            "frames": frames[row, is_label[row]].tolist(),
            "durations": durations[row, is_label[row]].tolist(),
            "logprobs": [round(each, 6) for each in logprobs[row, is_label[row]].tolist()],
            "margin": float(margins[row, kept[row]].min()),
            "num_steps": int(kept[row].sum()),
            "num_blanks_of_duration_0": int(
                (kept & ~is_label & (duration_logits.argmax(-1) == 0))[row].sum()
            ),
        }
        for row in range(len(tokens))
    ]


def margin(logits):
    """Return how far the likeliest is before the next."""
    first, second = logits.topk(2).values.unbind(-1)
    return first - second


def label_ctc(model, features, mask):
    """Return each row's tokens, equal neighbours once as transformers' tokenizer groups them."""
    logits = model(input_features=features, attention_mask=mask).logits
    blank = model.config.pad_token_id
    rows = []
    for row, length in enumerate(model._get_subsampling_output_length(mask.sum(-1)).tolist()):
        chances = logits[row, :length].log_softmax(-1).max(-1)
        labels = {"tokens": [], "frames": [], "durations": [], "logprobs": []}
        for token, group in groupby(enumerate(chances.indices.tolist()), key=lambda each: each[1]):
            frames = [frame for frame, _ in group]
            if token != blank:
                labels["tokens"].append(token)
                labels["frames"].append(frames[0])
                labels["durations"].append(len(frames))
                labels["logprobs"].append(round(float(chances.values[frames].max()), 6))
        rows.append({**labels, "margin": float(margin(logits[row, :length]).min())})
    return rows


@torch.inference_mode()
def run(name, recording, arrays):
    """Compute a case; put its arrays under its name, and return the rest."""
    case = CASES[name]
    model, config, tuned = build(case)
    encoder = config["encoder_config"]
    extractor = ParakeetFeatureExtractor(feature_size=encoder["num_mel_bins"])
    samples = [piece(spec, recording) for spec in case["pieces"]]
    heard = extractor(samples, sampling_rate=16_000, return_attention_mask=True)
    features, mask = heard["input_features"], heard["attention_mask"]
    encoded = model.encoder(features, attention_mask=mask)
    tuned["center"] = center(model, encoded, case["blank"])
    label = label_ctc if hasattr(model, "ctc_head") else label_tdt
    rows = label(model, features, mask)
    if name == "full":
        states = encoded.last_hidden_state[encoded.attention_mask.bool()]
        arrays["full/encoded"] = states[:, ::SAMPLED_EVERY].numpy()
        arrays["full/norms"] = states.norm(dim=-1).numpy()
    else:
        if name != "ctc":  # whose features are those of tdt_few
            arrays[f"{name}/features"] = features[mask.bool()].numpy()
        arrays[f"{name}/encoded"] = encoded.last_hidden_state[encoded.attention_mask.bool()].numpy()
    return {
        "config": config,
        "seed": case["seed"],
        "tuned": tuned,
        "pieces": case["pieces"],
        "num_mel_frames": mask.sum(-1).tolist(),
        "num_frames": encoded.attention_mask.sum(-1).tolist(),
        "rows": rows,
    }


def main():
    path = Path(sys.argv[1])
    recording, rate_hz = soundfile.read(path, dtype="float32")
    assert rate_hz == 16_000
    torch.set_num_threads(1)
    arrays = {}
    stored = {
        "recording": hashlib.sha256(path.read_bytes()).hexdigest(),
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "cases": {name: run(name, recording, arrays) for name in CASES},
    }
    np.savez_compressed(OUTPUT, **arrays)
    lines = json.dumps(stored, indent=1)
    # Lists of numbers in one line each.
    OUTPUT.with_suffix(".json").write_text(
        re.sub(r"\[[-\d.,e\s]*\]", lambda found: re.sub(r"\s+", " ", found[0]), lines) + "\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    main()
