"""Build what decoding takes before the first recording would wait for it."""

import mlx.core as mx

from worker.device.backend import on_gpu, translated_errors
from worker.device.decode_request import BeamSearch
from worker.device.decoder import Decoder
from worker.device.group import Group
from worker.device.row import Row


def warm_up(decoder: Decoder, encoder_states: mx.array, num_beams: int = 1) -> None:
    """Decode one window greedily, by the model's own prompt and rules.

    On a GPU this decodes a full batch, which must fit into memory before any job, and one of
    searches. Windows leave it and join again, one alone and two apart, and most of them leave for
    good. CUDA takes some 4 s to compile a kernel that it has not seen on this machine before.

    Args:
        decoder: Without rows.
        encoder_states: Of one window, without the row axis.
        num_beams: Of the searches that are expected; 1 expects none.

    Raises:
        OutOfMemory: the batch does not fit.
    """
    with translated_errors():
        sizes = [1, num_beams] if on_gpu() and 1 < num_beams <= decoder.max_rows else [1]
        for size in sizes:
            most = min(decoder.max_windows, decoder.max_rows // size)
            groups = _groups(decoder, encoder_states, most if on_gpu() else 1, size)
            decoder.insert_groups(groups)
            if on_gpu():
                _exchange(decoder, groups)
            while decoder.num_active:
                decoder.step()


def _exchange(decoder: Decoder, groups: list[Group]) -> None:
    """Let windows leave and others join: one alone, two apart; then let most leave."""
    alone, apart = groups[1:2], groups[:3:2]
    for leaving in filter(None, (alone, apart)):
        for group in leaving:
            decoder.remove_group(group)
        states = groups[0].first.encoder_states
        decoder.insert_groups(_groups(decoder, states, len(leaving), groups[0].size))
        decoder.step()
    for group in groups[3:]:
        decoder.remove_group(group)


def _groups(decoder: Decoder, encoder_states: mx.array, count: int, size: int) -> list[Group]:
    """Return windows that live through all of the warm-up."""
    asked = Row(
        prompt=decoder.model.default_prompt,
        encoder_states=encoder_states,
        eos=frozenset(),
        max_tokens=8 if on_gpu() else 2,
        rules=decoder.model.default_rules,
    )
    search = BeamSearch(size)
    return [Group.of_beams(asked, search) if size > 1 else Group.of(asked) for _ in range(count)]
