"""Speech models of whole numbers: exact in any batch, and they remember every call."""

import mlx.core as mx

from worker.device.rules import NO_RULES
from worker.device.top_tokens import top_tokens
from worker.models.whisper.log_mel import log_mel_frames

NUM_VOCAB = 61
BOS, EOS = 1, 2


class ToyModel:
    """Logits are whole numbers, made of a row's audio, its tokens so far and where they stand.

    A token in another place, another row's token or a stale one changes everything after it. Audio
    is (2,): a number that tells windows apart, and the position from which logits are NaN.
    """

    num_vocab = NUM_VOCAB
    bos_token = BOS
    eos_token = EOS
    default_prompt = (BOS,)
    default_rules = NO_RULES
    n_mels = 80
    busy_s = 0.0

    def __init__(self, context_length=448):
        self.context_length = context_length
        self.calls = []

    @property
    def num_decoder_calls(self):
        return sum(name in {"prefill", "decode_step"} for name in self.calls)

    def log_mel_frames(self, samples):
        return log_mel_frames(samples, self.n_mels)

    def log_normalizer(self, logits):
        return mx.logsumexp(logits, axis=-1, keepdims=True)

    def top_tokens(self, logits, state, rules, count):
        return top_tokens(logits, state, rules, count, self.log_normalizer)

    def encode_audio(self, mel):
        self.calls.append("encode_audio")
        loudness = mx.round(mel.max(axis=(1, 2)) * 100)
        return mx.stack([loudness, mx.full(loudness.shape, 1e9)], axis=1)

    def prefill(self, states, prompts, at):
        self.calls.append("prefill")
        logits = [self._logits(prompts, at[:, n], states) for n in range(at.shape[1])]
        return mx.stack(logits, axis=1), {"tokens": prompts, "audio": states}

    def decode_step(self, tokens, positions, cache, ancestors=None):
        self.calls.append("decode_step")
        windows = cache["audio"].shape[0]
        beams = tokens.size // windows
        places = positions.reshape(windows, beams) * beams + mx.arange(beams)
        held = mx.put_along_axis(cache["tokens"], places, tokens.reshape(windows, beams), axis=1)
        seen = held
        if ancestors is not None:
            lie = mx.arange(ancestors.shape[1]) * beams + ancestors
            seen = mx.take_along_axis(mx.repeat(held, beams, axis=0), lie, axis=1)
        logits = self._logits(seen, positions, mx.repeat(cache["audio"], beams, axis=0))
        return logits, {"tokens": held, "audio": cache["audio"]}

    def fork_cache(self, cache, num_beams):
        # Places of other beams hold a token that would be noticed.
        beside = [(0, 0), (0, 0), (0, num_beams - 1)]
        tokens = mx.pad(cache["tokens"][:, :, None], beside, constant_values=19)
        return {"tokens": tokens.reshape(tokens.shape[0], -1), "audio": cache["audio"]}

    def resize_cache(self, cache, length):
        missing = length - cache["tokens"].shape[1]
        # Places that were never written hold a token that would be noticed.
        tokens = mx.pad(cache["tokens"], [(0, 0), (0, max(0, missing))], constant_values=17)
        return {"tokens": tokens[:, :length], "audio": cache["audio"]}

    def _logits(self, tokens, at, states):
        places = mx.arange(tokens.shape[1])[None]
        weights = mx.where(places <= at[:, None], (places + 3) * (tokens + 1), 0)
        total = weights.sum(axis=1) + states[:, 0].astype(mx.int32) * 31
        ids = mx.arange(self.num_vocab)[None]
        logits = ((total[:, None] * (ids + 5) + ids * ids * 7) % 997).astype(mx.float32) / 64
        return mx.where((at >= states[:, 1])[:, None], mx.nan, logits)


def toy_audio(number, nan_from=10**9):
    """Return the encoder states of a window."""
    return mx.array([number, nan_from], mx.float32)


class ScriptedModel(ToyModel):
    """Says what it was told to: token ids, or functions that make a step's raw logits."""

    def __init__(self, script):
        super().__init__()
        self.script = script

    def prefill(self, states, prompts, at):
        _, cache = super().prefill(states, prompts, at)
        said = self._say(prompts.shape[0])
        return (said[:, None] if callable(self.script[0]) else mx.stack([said, said], 1)), cache

    def decode_step(self, tokens, positions, cache, ancestors=None):
        _, cache = super().decode_step(tokens, positions, cache, ancestors)
        return self._say(tokens.shape[0]), cache

    def _say(self, num_rows):
        said = self.script[self.num_decoder_calls - 1]
        if callable(said):
            return said()
        return mx.where(mx.arange(self.num_vocab)[None] == said, 9.0, mx.zeros((num_rows, 1)))
