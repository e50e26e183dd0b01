"""A folder with a random Parakeet in Hugging Face's layout, that finds about 126 tokens in 30 s.

Drawn and tuned by torch and transformers, on the device where there is one; both sides of
bench_parakeet_gpu.py then load the same files.
"""

import importlib.util
import json
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import numpy as np

from tests.data.parakeet_recipes import spread

TOKENS_IN_30_S = 126
SHAPES = {
    # Parakeet TDT 0.6b v3's; nvidia/parakeet-tdt-0.6b-v3's config.json has no biases either.
    "0.6b": (
        {"vocab_size": 8193, "blank_token_id": 8192},
        {
            "num_mel_bins": 128,
            "attention_bias": False,
            "convolution_bias": False,
            "scale_input": False,
        },
    ),
    # For trying the bench out.
    "tiny": (
        {"vocab_size": 129, "blank_token_id": 128, "decoder_hidden_size": 32},
        {
            "hidden_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 128,
            "subsampling_conv_channels": 16,
            "num_mel_bins": 128,
            "attention_bias": False,
            "convolution_bias": False,
            "scale_input": False,
        },
    ),
}
# With these duration biases a step moves on by about two frames, as with real speech.
DURATION_BIASES = (-2.0, 0.0, 0.5, 0.5, 0.0)
GAIN = 4.0
TUNING_ROUNDS = 9


def stand_in_for_librosa():
    """Give transformers' features the one function of librosa that they take, where it is absent.

    The filters are transformers' own, which give the same features (tests/data/README.md).
    """
    if importlib.util.find_spec("librosa") is not None:
        return

    def mel(*, sr, n_fft, n_mels, fmin, fmax, norm):
        from transformers.audio_utils import mel_filter_bank

        filters = mel_filter_bank(n_fft // 2 + 1, n_mels, fmin, fmax, sr, norm, "slaney")
        return np.ascontiguousarray(filters.T, dtype=np.float32)

    module = ModuleType("librosa")
    module.__spec__ = ModuleSpec("librosa", None)
    module.filters = SimpleNamespace(mel=mel)
    sys.modules["librosa"] = module


def make_folder(folder, shapes, pieces, device, dtype, *, has_vad=False):
    """Write the model unless it is there; return its tokens in 30 s, found while tuning.

    Args:
        folder: Where to.
        shapes: A key of SHAPES.
        pieces: Real speech, float32 arrays at 16 kHz of 30 s each: what it is tuned on.
        device: Of torch.
        dtype: Of torch; in which it computes and is stored.
        has_vad: Whether it gets parakeet-ultra's voice activity head, which hears speech everywhere.
    """
    if (folder / "tuned.json").is_file():
        return json.loads((folder / "tuned.json").read_text(encoding="utf-8"))
    import torch

    stand_in_for_librosa()
    from transformers import ParakeetFeatureExtractor

    model = draw(shapes, device, dtype)
    extractor = ParakeetFeatureExtractor(feature_size=model.config.encoder_config.num_mel_bins)
    heard = extractor(pieces, sampling_rate=16_000, return_attention_mask=True, device="cpu")
    features = heard["input_features"].to(device, dtype)
    mask = heard["attention_mask"].to(device)
    seconds = sum(len(piece) for piece in pieces) / 16_000
    with torch.inference_mode():
        center(model, features, mask)
        per_30_s = tune(model, features, mask, seconds)
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer(model.config)), encoding="utf-8")
    if has_vad:
        add_vad(folder, model.config.encoder_config.hidden_size)
    tuned = {"tokens_in_30_s": round(per_30_s, 1), "pieces": len(pieces)}
    (folder / "tuned.json").write_text(json.dumps(tuned), encoding="utf-8")
    return tuned


def draw(shapes, device, dtype):
    """Return a model of random weights, spread as those of the reference vectors."""
    import torch
    from transformers import ParakeetForTDT, ParakeetTDTConfig

    config, encoder = SHAPES[shapes]
    config = ParakeetTDTConfig(**config, encoder_config=encoder)
    generator = torch.Generator(device).manual_seed(0)
    with torch.device(device):
        model = ParakeetForTDT._from_config(config, attn_implementation="sdpa", dtype=dtype).eval()
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            scale, offset = spread(name, tuple(tensor.shape))
            noise = torch.rand(tensor.shape, generator=generator, device=device) - 0.5
            tensor.copy_(noise * scale + offset)
    with torch.no_grad():
        model.decoder.embedding.weight[config.blank_token_id] = 0
        model.encoder_projector.weight *= GAIN
        # transformers takes the likeliest of tokens and durations together for the next token.
        model.joint.head.weight[config.vocab_size :] *= 0.25
        model.joint.head.bias[: config.vocab_size] += 8
        model.joint.head.bias[config.vocab_size :] += torch.tensor(DURATION_BIASES, device=device)
    model.generation_config.decoder_start_token_id = config.blank_token_id
    return model


def center(model, features, mask):
    """Let what the joint network reads of the encoder vary around zero."""
    encoded = model.encoder(features, attention_mask=mask)
    heard = encoded.last_hidden_state[encoded.attention_mask.bool()]
    model.encoder_projector.bias.copy_(-(heard @ model.encoder_projector.weight.T).mean(0))


def tune(model, features, mask, seconds):
    """Move the blank's bias until 30 s have about TOKENS_IN_30_S tokens; return how many."""
    blank = model.config.blank_token_id
    low, high, start = 0.0, 30.0, float(model.joint.head.bias[blank])
    best = None
    for _ in range(TUNING_ROUNDS):
        middle = (low + high) / 2
        model.joint.head.bias[blank] = start + middle
        found = num_tokens(model, features, mask) * 30 / seconds
        if best is None or abs(found - TOKENS_IN_30_S) < abs(best[0] - TOKENS_IN_30_S):
            best = (found, middle)
        low, high = (middle, high) if found > TOKENS_IN_30_S else (low, middle)
    model.joint.head.bias[blank] = start + best[1]
    return best[0]


def num_tokens(model, features, mask):
    """Return how many tokens transformers finds within the pieces."""
    longest = 4 * mask.shape[1] // model.config.encoder_config.subsampling_factor
    out = model.generate(input_features=features, attention_mask=mask, max_new_tokens=longest)
    return int(is_label(model, out, mask).sum())


def is_label(model, out, mask):
    """Return which tokens of a generation are text, (rows, steps): no blank, not after the end."""
    tokens, durations = out.sequences[:, 1:], out.durations[:, 1:]
    lengths = model._get_subsampling_output_length(mask.sum(-1))
    frames = durations.cumsum(1) - durations
    return (frames < lengths[:, None]) & (tokens != model.config.blank_token_id)


def tokenizer(config):
    """Return a `tokenizer.json` whose pieces make sentences of words of about three tokens."""

    def piece(index):
        if index % 40 == 0:
            return "."
        return f"{'▁' if index % 3 == 0 else ''}{np.base_repr(index + 7, 26).lower()}"

    pieces = [[piece(index), 0.0] for index in range(config.blank_token_id)]
    pieces[0] = ["<unk>", 0.0]
    for index, each in enumerate(pieces):  # ids are found by their text
        if each[0] == ".":
            each[0] = "." * (1 + index // 40)
    blank = {"id": config.blank_token_id, "content": "<blank>", "special": True}
    return {"model": {"type": "Unigram", "vocab": pieces}, "added_tokens": [blank]}


def add_vad(folder, width, hidden=128, kernel=5):
    """Add a voice activity head that is sure of speech, under the names of parakeet-ultra."""
    import torch
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors = load_file(path)
    shapes = {"proj": (hidden, width, 1), "ctx": (hidden, hidden, kernel), "out": (1, hidden, 1)}
    for name, shape in shapes.items():
        tensors[f"vad_head.{name}.weight"] = torch.randn(shape) * 0.02
        tensors[f"vad_head.{name}.bias"] = torch.full(shape[:1], 4.0 if name == "out" else 0.0)
    save_file(tensors, path, metadata={"format": "pt"})
