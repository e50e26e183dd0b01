"""Write `alignment_heads.json`: the alignment heads of OpenAI's models, as openai-whisper has them.

python tests/data/make_alignment_heads.py     (with openai-whisper 20250625 installed)
"""

import base64
import gzip
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
from whisper import _ALIGNMENT_HEADS

# Decoder layers, heads and width; the rest of a name does not change them, but for turbo's layers.
SIZES = {
    "tiny": (4, 6, 384),
    "base": (6, 8, 512),
    "small": (12, 12, 768),
    "medium": (24, 16, 1024),
    "large": (32, 20, 1280),
    "turbo": (4, 20, 1280),
}


def described(name: str, mask: bytes) -> dict:
    """Return the model's sizes and its heads as pairs of layer and head."""
    is_turbo, is_third = "turbo" in name, "v3" in name or name in {"large", "turbo"}
    layers, heads, state = SIZES[
        "turbo" if is_turbo else name.split(".", maxsplit=1)[0].split("-", maxsplit=1)[0]
    ]
    flags = np.frombuffer(gzip.decompress(base64.b85decode(mask)), dtype=bool)
    return {
        "n_mels": 128 if is_third else 80,
        "n_vocab": 51864 if name.endswith(".en") else 51865 + is_third,
        "n_text_layer": layers,
        "n_text_head": heads,
        "n_text_state": state,
        "pairs": np.argwhere(flags.reshape(layers, heads)).tolist(),
    }


models = {name: described(name, mask) for name, mask in _ALIGNMENT_HEADS.items()}
facts = {"made_by": f"openai-whisper {version('openai-whisper')}", "models": models}
out = Path(__file__).parent / "alignment_heads.json"
out.write_text(json.dumps(facts, separators=(",", ":")) + "\n", encoding="utf-8")
