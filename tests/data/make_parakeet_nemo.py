"""Writes parakeet_nemo.json: what NeMo's own modules compute with the models of parakeet.json.

    python -m tests.data.make_parakeet_nemo .../moonshine_onnx/assets/beckett.wav

Run from the root after make_parakeet, in the second environment that README.md names. For each case:
how far NeMo's features and states are from transformers', whether labels are equal, and NeMo's own
labels where transformers cannot follow: other durations, few symbols a frame (`capped`).
"""

import json
import sys
from pathlib import Path

import nemo
import numpy as np
import soundfile
import torch
from nemo.collections.asr.modules import (
    AudioToMelSpectrogramPreprocessor,
    ConformerEncoder,
    ConvASRDecoder,
    RNNTDecoder,
    RNNTJoint,
)
from nemo.collections.asr.parts.submodules.transducer_decoding.tdt_label_looping import (
    GreedyBatchedTDTLabelLoopingComputer,
)

from tests.data.parakeet_recipes import piece, weights

HERE = Path(__file__).parent
# Names of transformers' to NeMo's, after `encoder.` or the head's.
RENAMED = {
    "subsampling.layers.": "pre_encode.conv.",
    "subsampling.linear.": "pre_encode.out.",
    "self_attn.relative_k_proj.": "self_attn.linear_pos.",
    "self_attn.bias_": "self_attn.pos_bias_",
    "conv.norm.": "conv.batch_norm.",
}
RENAMED |= {
    f"self_attn.{a}_proj.": f"self_attn.linear_{b}."
    for a, b in zip("qkvo", ["q", "k", "v", "out"], strict=True)
}
# What `capped` changes of the case `tdt`: no duration equals its index, and a frame holds few labels.
CAPPED = {"durations": [0, 1, 3, 4, 8], "max_symbols_per_step": 3}
# And of its tuning, so that labels of duration 0 come often.
CAPPED_BIASES = [1.5, 0.0, 0.0, 0.0, 0.0]


def encoder_of(config, tensors):
    """Return NeMo's encoder with transformers' tensors."""
    encoder = config["encoder_config"]
    module = ConformerEncoder(
        feat_in=encoder["num_mel_bins"],
        n_layers=encoder["num_hidden_layers"],
        d_model=encoder["hidden_size"],
        subsampling="dw_striding",
        subsampling_factor=encoder["subsampling_factor"],
        subsampling_conv_channels=encoder["subsampling_conv_channels"],
        ff_expansion_factor=encoder["intermediate_size"] // encoder["hidden_size"],
        n_heads=encoder["num_attention_heads"],
        xscaling=encoder["scale_input"],
        conv_kernel_size=encoder["conv_kernel_size"],
        use_bias=encoder["attention_bias"],
    )
    renamed = {}
    for name, tensor in tensors.items():
        if name.startswith("encoder."):
            own = name.removeprefix("encoder.")
            for theirs, nemos in RENAMED.items():
                own = own.replace(theirs, nemos)
            renamed[own] = tensor
    load(module, renamed)
    return module.eval()


def load(module, tensors):
    """Load what a module has, and nothing else."""
    counters = ("num_batches_tracked",)
    missing, unexpected = module.load_state_dict(tensors, strict=False)
    assert not unexpected, unexpected
    assert all(name.endswith(counters) for name in missing), missing


def preprocessor_of(config):
    return AudioToMelSpectrogramPreprocessor(
        sample_rate=16_000,
        normalize="per_feature",
        window_size=0.025,
        window_stride=0.01,
        window="hann",
        features=config["encoder_config"]["num_mel_bins"],
        n_fft=512,
        dither=1e-5,
        pad_to=0,
    ).eval()


def transducer_of(config, tensors):
    """Return NeMo's predictor and joint network with transformers' tensors."""
    num_labels, hidden = config["vocab_size"] - 1, config["decoder_hidden_size"]
    layers = config["num_decoder_layers"]
    decoder = RNNTDecoder({"pred_hidden": hidden, "pred_rnn_layers": layers}, num_labels)
    joint = RNNTJoint(
        {
            "encoder_hidden": config["encoder_config"]["hidden_size"],
            "pred_hidden": hidden,
            "joint_hidden": hidden,
            "activation": "relu",
            "dropout": 0.2,  # as the published models: it moves the last layer to index 2
        },
        num_labels,
        num_extra_outputs=len(config["durations"]),
        vocabulary=[str(index) for index in range(num_labels)],
    )
    predictor = {"prediction.embed.weight": tensors["decoder.embedding.weight"]}
    for name, tensor in tensors.items():
        if name.startswith("decoder.lstm."):
            predictor[name.replace("decoder.lstm.", "prediction.dec_rnn.lstm.")] = tensor
    load(decoder, predictor)
    parts = {
        "enc": "encoder_projector",
        "pred": "decoder.decoder_projector",
        "joint_net.2": "joint.head",
    }
    load(
        joint,
        {
            f"{own}.{leaf}": tensors[f"{name}.{leaf}"]
            for own, name in parts.items()
            for leaf in ("weight", "bias")
        },
    )
    return decoder.eval(), joint.eval()


def label_tdt(config, tensors, states, lengths):
    """Return the labels of rows by label looping, together; and with each row alone."""
    decoder, joint = transducer_of(config, tensors)
    loop = GreedyBatchedTDTLabelLoopingComputer(
        decoder,
        joint,
        blank_index=config["vocab_size"] - 1,
        durations=config["durations"],
        max_symbols_per_step=config["max_symbols_per_step"],
        include_duration=True,
        allow_cuda_graphs=False,
    )

    def rows_of(states, lengths):
        found, _, _ = loop(states, lengths)
        return [
            {
                "tokens": found.transcript[row, :count].tolist(),
                "frames": found.timestamps[row, :count].tolist(),
                "durations": found.token_durations[row, :count].tolist(),
            }
            for row, count in enumerate(found.current_lengths.tolist())
        ]

    together = rows_of(states, lengths)
    alone = [
        rows_of(states[row : row + 1, :length], lengths[row : row + 1])[0]
        for row, length in enumerate(lengths.tolist())
    ]
    return together, alone


def label_ctc(config, tensors, states, lengths):
    """Return the likeliest token of each frame of rows."""
    decoder = ConvASRDecoder(
        config["encoder_config"]["hidden_size"],
        config["vocab_size"] - 1,
        vocabulary=[str(i) for i in range(config["vocab_size"] - 1)],
    )
    load(
        decoder,
        {f"decoder_layers.0.{leaf}": tensors[f"ctc_head.{leaf}"] for leaf in ("weight", "bias")},
    )
    tokens = decoder.eval()(encoder_output=states.transpose(1, 2)).argmax(-1)
    return [row[:length].tolist() for row, length in zip(tokens, lengths.tolist(), strict=True)]


@torch.inference_mode()
def run(name, case, recording, arrays):
    """Return what NeMo says of a case beside transformers."""
    config = case["config"]
    tensors = {n: torch.from_numpy(a) for n, a in weights(config, case["seed"], case["tuned"])}
    samples = [torch.from_numpy(piece(spec, recording)) for spec in case["pieces"]]
    lengths = torch.tensor([len(each) for each in samples])
    padded = torch.nn.utils.rnn.pad_sequence(samples, batch_first=True)
    features, num_mels = preprocessor_of(config)(input_signal=padded, length=lengths)
    states, num_frames = encoder_of(config, tensors)(audio_signal=features, length=num_mels)
    states = states.transpose(1, 2)
    assert num_mels.tolist() == case["num_mel_frames"]
    assert num_frames.tolist() == case["num_frames"]
    found = {}
    features = torch.cat([row[:, :count].T for row, count in zip(features, num_mels, strict=True)])
    kept = torch.cat([row[:count] for row, count in zip(states, num_frames, strict=True)]).numpy()
    if name == "full":
        found["states_apart"] = apart(
            kept[:, :: kept.shape[1] // arrays["full/encoded"].shape[1]], arrays["full/encoded"]
        )
    else:
        theirs = arrays[f"{'tdt_few' if name == 'ctc' else name}/features"]
        found["features_apart"] = apart(features.numpy(), theirs)
        found["states_apart"] = apart(kept, arrays[f"{name}/encoded"])
    if config["model_type"] == "parakeet_ctc":
        return found | {"frames_tokens": label_ctc(config, tensors, states, num_frames)}
    together, alone = label_tdt(config, tensors, states, num_frames)
    wanted = [{k: row[k] for k in ("tokens", "frames", "durations")} for row in case["rows"]]
    found["labels_equal_transformers"] = alone == wanted
    texts = [
        [{k: v for k, v in row.items() if k != "durations"} for row in rows]
        for rows in (together, alone)
    ]
    found["tokens_and_frames_are_equal_alone_and_together"] = texts[0] == texts[1]
    found["durations_that_differ_together"] = sum(
        a != b
        for one, other in zip(together, alone, strict=True)
        for a, b in zip(one["durations"], other["durations"], strict=True)
    )
    if name == "tdt":
        tuned = case["tuned"] | {"durations": CAPPED_BIASES}
        tensors = {n: torch.from_numpy(a) for n, a in weights(config, case["seed"], tuned)}
        rows = label_tdt(config | CAPPED, tensors, states, num_frames)[1]
        found["capped"] = {"changes": CAPPED, "duration_biases": CAPPED_BIASES, "rows": rows}
    return found


def apart(found, wanted):
    """Return the largest distance, rounded."""
    return float(f"{np.abs(found - wanted).max():.1e}")


def main():
    recording, rate_hz = soundfile.read(sys.argv[1], dtype="float32")
    assert rate_hz == 16_000
    torch.set_num_threads(1)
    stored = json.loads((HERE / "parakeet.json").read_text(encoding="utf-8"))
    arrays = np.load(HERE / "parakeet.npz")
    report = {"nemo": nemo.__version__, "torch": torch.__version__}
    report["cases"] = {n: run(n, case, recording, arrays) for n, case in stored["cases"].items()}
    (HERE / "parakeet_nemo.json").write_text(
        json.dumps(report, separators=(",", ":")) + "\n", encoding="utf-8"
    )
    print(
        {
            n: {k: v for k, v in c.items() if k not in ("capped", "frames_tokens")}
            for n, c in report["cases"].items()
        }
    )


if __name__ == "__main__":
    main()
