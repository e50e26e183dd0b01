"""Makes silero.json: what Silero's own ONNX network says of the demo's recording, by onnxruntime.

    pip download --no-deps silero-vad==6.2.3    # unpack silero_vad/data/silero_vad_16k_op15.onnx
    pip install onnxruntime numpy soundfile
    python tests/data/make_silero.py silero_vad_16k_op15.onnx .../moonshine_onnx/assets/beckett.wav

The recording (MIT, in useful-moonshine-onnx) is 16 kHz mono already: no resampling.
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import soundfile

CHUNK, CONTEXT = 512, 64


def main():
    network, recording = sys.argv[1:]
    samples, rate_hz = soundfile.read(recording, dtype="float32")
    assert rate_hz == 16_000
    samples = np.pad(samples, (0, -len(samples) % CHUNK))
    session = onnxruntime.InferenceSession(network)
    state = np.zeros((2, 1, 128), np.float32)
    context, found = np.zeros(CONTEXT, np.float32), []
    for chunk in samples.reshape(-1, CHUNK):
        inputs = {
            "input": np.concatenate([context, chunk])[None],
            "state": state,
            "sr": np.array(rate_hz, np.int64),
        }
        probability, state = session.run(None, inputs)
        found.append(round(float(probability[0, 0]), 5))
        context = chunk[-CONTEXT:]
    stored = {
        "network": hashlib.sha256(Path(network).read_bytes()).hexdigest(),
        "recording": hashlib.sha256(Path(recording).read_bytes()).hexdigest(),
        "onnxruntime": onnxruntime.__version__,
        "probabilities": found,
    }
    path = Path(__file__).with_name("silero.json")
    path.write_text(json.dumps(stored) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
