"""What the device can do: Whisper written by hand in torch, without rules, text or rows that join.

    python -m tests.benchmarks.gpu.torch_limit [--rows 192,128,256,64] [--shapes tiny]

SDPA, float16, a static cache, one CUDA graph a step, greedy. All rows stand at one position. The
encoder runs eagerly and by torch.compile; keys and values of the audio are a part of it.
"""

import time

import torch
from torch import nn
from torch.nn import functional

from tests.benchmarks.gpu.shapes import (
    SHAPES,
    TOKENS,
    WINDOW_S,
    best_of,
    encoder_tflop,
    numbers,
    parser,
    tell,
)

ENCODER_BATCHES = {"turbo": (16, 32), "tiny": (1,)}
SQUARE = {"turbo": 8192, "tiny": 256}
PROMPT = 3
# Room in the cache: prompt and tokens, rounded up to what kernels like.
ROUND_TO = 16


class Block(nn.Module):
    """A transformer block: attention to itself, to audio if it has any, and a perceptron."""

    def __init__(self, width, heads, *, has_cross):
        super().__init__()
        self.heads = heads
        self.norm, self.qkv = nn.LayerNorm(width), nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        if has_cross:
            self.cross_norm, self.query = nn.LayerNorm(width), nn.Linear(width, width)
            self.cross_kv, self.cross_out = nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def split(self, x, parts=1):
        """Return (B, T, parts W) as (B, H, T, D) for each part."""
        return [each.unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in x.chunk(parts, -1)]

    def merged(self, x):
        return x.transpose(1, 2).flatten(-2)

    def encode(self, x):
        query, key, value = self.split(self.qkv(self.norm(x)), 3)
        x = x + self.out(self.merged(functional.scaled_dot_product_attention(query, key, value)))
        return x + self.down(functional.gelu(self.up(self.mlp_norm(x))))

    def step(self, x, cache, cross, at, mask):
        query, key, value = self.split(self.qkv(self.norm(x)), 3)
        cache[0].index_copy_(2, at, key)
        cache[1].index_copy_(2, at, value)
        heard = functional.scaled_dot_product_attention(query, *cache, attn_mask=mask)
        x = x + self.out(self.merged(heard))
        [query] = self.split(self.query(self.cross_norm(x)))
        x = x + self.cross_out(self.merged(functional.scaled_dot_product_attention(query, *cross)))
        return x + self.down(functional.gelu(self.up(self.mlp_norm(x))))


class Whisper(nn.Module):
    """Encoder, and a decoder that takes one token of each row."""

    def __init__(self, sizes):
        super().__init__()
        width, text = sizes["n_audio_state"], sizes["n_text_state"]
        self.first = nn.Conv1d(sizes["n_mels"], width, 3, padding=1)
        self.second = nn.Conv1d(width, width, 3, stride=2, padding=1)
        self.audio_positions = nn.Parameter(torch.randn(sizes["n_audio_ctx"], width) * 0.02)
        self.blocks = nn.ModuleList(
            Block(width, sizes["n_audio_head"], has_cross=False)
            for _ in range(sizes["n_audio_layer"])
        )
        self.norm = nn.LayerNorm(width)
        self.embedding = nn.Embedding(sizes["n_vocab"], text)
        self.positions = nn.Embedding(sizes["n_text_ctx"], text)
        self.layers = nn.ModuleList(
            Block(text, sizes["n_text_head"], has_cross=True) for _ in range(sizes["n_text_layer"])
        )
        self.text_norm = nn.LayerNorm(text)

    def forward(self, mel):
        """Return the keys and values of each decoder layer over mels (B, M, 3000)."""
        x = (
            functional.gelu(self.second(functional.gelu(self.first(mel)))).transpose(1, 2)
            + self.audio_positions
        )
        for block in self.blocks:
            x = block.encode(x)
        x = self.norm(x)
        # Laid out as they are read, once for all steps.
        return [
            [part.contiguous() for part in layer.split(layer.cross_kv(x), 2)]
            for layer in self.layers
        ]

    def step(self, tokens, at, caches, crosses):
        """Return the likeliest next tokens (B,) after `tokens` at one position (1,)."""
        length = caches[0][0].shape[2]
        mask = torch.arange(length, device=tokens.device)[None] <= at
        x = (self.embedding(tokens) + self.positions(at))[:, None]
        for layer, cache, cross in zip(self.layers, caches, crosses, strict=True):
            x = layer.step(x, cache, cross, at, mask)
        return (self.text_norm(x[:, 0]) @ self.embedding.weight.T).argmax(-1)


def wait():
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def bench_peak(shapes, device, dtype):
    size = SQUARE[shapes]
    square = torch.randn(size, size, device=device, dtype=dtype)
    seconds = best_of(lambda: (square @ square, wait()), 10)
    return 2 * size**3 / seconds / 1e12


def place(model):
    """Return a model's device and dtype."""
    weight = next(model.parameters())
    return weight.device, weight.dtype


def bench_encoder(model, shapes, batches):
    """Return the best windows a second over the batches."""
    best, (device, dtype) = 0.0, place(model)
    for batch in batches:
        mel = torch.randn(batch, SHAPES[shapes]["n_mels"], 3000, device=device, dtype=dtype)
        seconds = best_of(lambda mel=mel: (model(mel), wait()), 4)
        best = max(best, batch / seconds)
    return best


class Steps:
    """A batch of rows in the middle of nowhere: `run` decodes all tokens, by a graph on a GPU."""

    def __init__(self, model, rows, sizes, num_tokens):
        self.model, self.num_tokens = model, num_tokens
        device, dtype = place(model)
        width, heads = sizes["n_text_state"], sizes["n_text_head"]
        length = -(-(PROMPT + num_tokens) // ROUND_TO) * ROUND_TO

        def made(frames):
            shape = (rows, heads, frames, width // heads)
            layers = range(sizes["n_text_layer"])
            return [
                [torch.randn(shape, dtype=dtype, device=device) for _ in range(2)] for _ in layers
            ]

        self.caches, self.crosses = made(length), made(sizes["n_audio_ctx"])
        self.tokens = torch.zeros(rows, dtype=torch.long, device=device)
        self.at = torch.full((1,), PROMPT, dtype=torch.long, device=device)
        self.advance = self._advance
        self._advance()
        if device.type == "cuda":
            self.advance = self._captured()

    def _advance(self):
        self.tokens.copy_(self.model.step(self.tokens, self.at, self.caches, self.crosses))
        self.at += 1

    def _captured(self):
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self._advance()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self._advance()
        return graph.replay

    def run(self):
        self.at.fill_(PROMPT)
        for _ in range(self.num_tokens):
            self.advance()
        wait()


def together(encoder, step_ms, rows, num_tokens):
    """Return times real time of windows that are encoded and decoded one after the other."""
    return round(WINDOW_S / (1 / encoder + num_tokens * step_ms / 1e3 / rows))


def main():
    flags = parser(__doc__)
    flags.add_argument("--rows", type=numbers, default=[192, 128, 256, 64])
    arguments = flags.parse_args()
    is_gpu = torch.cuda.is_available()
    device = torch.device("cuda" if is_gpu else "cpu")
    dtype = torch.float16 if is_gpu else torch.float32
    sizes, num_tokens = SHAPES[arguments.shapes], TOKENS[arguments.shapes]
    started = time.perf_counter()
    with torch.device(device):
        model = Whisper(sizes).to(dtype).eval()
    peak = bench_peak(arguments.shapes, device, dtype)
    tell(
        {
            "torch": torch.__version__,
            "device": torch.cuda.get_device_name() if is_gpu else "CPU",
            "model_s": round(time.perf_counter() - started, 1),
            "peak_tflops": round(peak, 1),
            "encoder_ceiling_windows_per_s": round(
                peak / encoder_tflop(SHAPES[arguments.shapes]), 1
            ),
        }
    )
    with torch.inference_mode():
        measure(model, arguments, sizes, num_tokens)


def measure(model, arguments, sizes, num_tokens):
    """Tell the encoder's speed, a step's, and both together; compiled last, which may not end."""
    batches = ENCODER_BATCHES[arguments.shapes]
    encoders = {"eager": bench_encoder(model, arguments.shapes, batches)}
    tell({"encoder_windows_per_s": {"eager": round(encoders["eager"], 1)}})
    steps = {}
    for rows in arguments.rows:
        batch = Steps(model, rows, sizes, num_tokens)
        steps[rows] = 1e3 * best_of(batch.run, 3) / num_tokens
        tell_together(encoders, steps, num_tokens)
        del batch
    started = time.perf_counter()
    compiled = torch.compile(model, dynamic=False)
    encoders["compiled"] = bench_encoder(compiled, arguments.shapes, batches[-1:])
    tell({"compiled_s": round(time.perf_counter() - started, 1)})
    tell_together(encoders, steps, num_tokens)


def tell_together(encoders, steps, num_tokens):
    both = {
        name: {rows: together(rate, ms, rows, num_tokens) for rows, ms in steps.items()}
        for name, rate in encoders.items()
    }
    tell(
        {
            "times_real_time": max(max(each.values()) for each in both.values()),
            "encoder_windows_per_s": {name: round(rate, 1) for name, rate in encoders.items()},
            "step_ms": {rows: round(ms, 3) for rows, ms in steps.items()},
            "together": both,
        }
    )


if __name__ == "__main__":
    main()
