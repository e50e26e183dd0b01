"""transformers' Whisper of random weights, and what its pipeline needs beside, without a hub."""

from tests.benchmarks.gpu.shapes import SHAPES


def torch_device():
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def torch_dtype():
    """Return float16 on a GPU; a CPU only tries the bench out."""
    import torch

    return torch.float16 if torch.cuda.is_available() else torch.float32


def waiting(device):
    """Return what waits until a device has done all that it was given."""
    import torch

    return torch.cuda.synchronize if device.type == "cuda" else lambda: None


def facts():
    """Return versions and the device's name."""
    import torch
    import transformers

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return {
        "transformers": transformers.__version__,
        "torch": torch.__version__,
        "device": name,
    }


def prompt_tokens():
    """Return start of transcript, English, transcribe."""
    from worker.models.whisper.tokenizer import Tokenizer

    return list(Tokenizer(SHAPES["turbo"]["n_vocab"], "en", "transcribe").sot_sequence)


def random_whisper(shapes):
    """Return a `WhisperForConditionalGeneration` with SDPA, drawn on the device."""
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration, logging

    logging.set_verbosity_error()  # it warns of the forced length at each call
    sizes, special = SHAPES[shapes], _special()
    config = WhisperConfig(
        vocab_size=sizes["n_vocab"],
        num_mel_bins=sizes["n_mels"],
        encoder_layers=sizes["n_audio_layer"],
        encoder_attention_heads=sizes["n_audio_head"],
        decoder_layers=sizes["n_text_layer"],
        decoder_attention_heads=sizes["n_text_head"],
        d_model=sizes["n_audio_state"],
        encoder_ffn_dim=4 * sizes["n_audio_state"],
        decoder_ffn_dim=4 * sizes["n_text_state"],
        max_source_positions=sizes["n_audio_ctx"],
        max_target_positions=sizes["n_text_ctx"],
        bos_token_id=special.eot,
        eos_token_id=special.eot,
        pad_token_id=special.eot,
        decoder_start_token_id=special.sot,
    )
    with torch.device(torch_device()):  # drawing the weights on the CPU takes a minute
        model = WhisperForConditionalGeneration._from_config(
            config, attn_implementation="sdpa", dtype=torch_dtype()
        )
    return model.eval()


def ready_for_pipeline(model):
    """Give a model the generation settings that published ones have; return its tokenizer.

    Its `generate` looks languages and tasks up there, and suppresses the published tokens.
    """
    from worker.models.whisper.vocabulary import get_vocabulary

    vocabulary = get_vocabulary(model.config.vocab_size)
    spelt, config = vocabulary.special_tokens, model.generation_config
    config.is_multilingual = True
    config.lang_to_id = {f"<|{code}|>": spelt[f"<|{code}|>"] for code in vocabulary.language_codes}
    config.task_to_id = {task: spelt[f"<|{task}|>"] for task in ("transcribe", "translate")}
    config.no_timestamps_token_id = vocabulary.special.no_timestamps
    config.max_initial_timestamp_index = 50
    config.suppress_tokens = list(vocabulary.suppressed_tokens)
    config.begin_suppress_tokens = [220, vocabulary.special.eot]
    config.return_timestamps = False
    config.num_beams = 1
    return _tokenizer(vocabulary)


def _tokenizer(vocabulary):
    """Return a `WhisperTokenizer` that decodes; merges, which only encoding needs, are left out."""
    from transformers import WhisperTokenizer

    spelling = _byte_spelling()
    ranks = {
        "".join(
            spelling[byte] for byte in vocabulary.encoding.decode_single_token_bytes(token)
        ): token
        for token in range(vocabulary.special.eot)
    }
    special = vocabulary.special_tokens
    tokenizer = WhisperTokenizer(vocab=ranks | special, merges=[], pad_token="<|endoftext|>")
    # As published: timestamps are added tokens that are not special.
    first = vocabulary.special.timestamp_begin
    names = [name for name, token in special.items() if token < first]
    tokenizer.add_special_tokens({"additional_special_tokens": names})
    tokenizer.add_tokens([name for name, token in special.items() if token >= first])
    if len(tokenizer) != vocabulary.encoding.n_vocab:
        raise SystemExit(f"the tokenizer has {len(tokenizer)} tokens")
    return tokenizer


def _byte_spelling():
    """Return the character by which GPT-2's vocabulary spells each byte."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {
        byte: chr(256 + index) for index, byte in enumerate(others)
    }


def _special():
    from worker.models.whisper.vocabulary import get_vocabulary

    return get_vocabulary(SHAPES["turbo"]["n_vocab"]).special
