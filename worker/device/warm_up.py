"""Build what decoding takes before the first recording would wait for it."""

import mlx.core as mx

from worker.device.backend import on_gpu, translated_errors
from worker.device.decoder import Decoder
from worker.device.row import Row


def warm_up(decoder: Decoder, encoder_states: mx.array) -> None:
    """Decode one window greedily, by the model's own prompt and rules.

    On a GPU this decodes a full batch, which must fit into memory before any job. Rows leave it
    and join again, one alone and two apart, and most of them leave for good. CUDA takes some
    4 s to compile a kernel that it has not seen on this machine before.

    Args:
        decoder: Without rows.
        encoder_states: Of one window, without the row axis.

    Raises:
        OutOfMemory: the batch does not fit.
    """
    with translated_errors():
        rows = _rows(decoder, encoder_states, decoder.max_rows if on_gpu() else 1)
        decoder.insert(rows)
        if on_gpu():
            _exchange(decoder, rows)
        while decoder.num_active:
            decoder.step()


def _exchange(decoder: Decoder, rows: list[Row]) -> None:
    """Let rows leave and others join: one alone, two apart; then let most leave."""
    alone, apart = rows[1:2], rows[:3:2]
    for leaving in filter(None, (alone, apart)):
        for row in leaving:
            decoder.remove(row)
        decoder.insert(_rows(decoder, rows[0].encoder_states, len(leaving)))
        decoder.step()
    for row in rows[3:]:
        decoder.remove(row)


def _rows(decoder: Decoder, encoder_states: mx.array, count: int) -> list[Row]:
    """Return rows that live through all of the warm-up."""
    return [
        Row(
            prompt=decoder.model.default_prompt,
            encoder_states=encoder_states,
            eos=frozenset(),
            max_tokens=8 if on_gpu() else 2,
            rules=decoder.model.default_rules,
        )
        for _ in range(count)
    ]
