"""Windows of several rows, samples or beams, in any company: each gives what it gives alone."""

from dataclasses import dataclass

import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.errors import LengthMismatch, NonFinite, OutOfMemory
from tests.device.test_beam_search import VOCABULARIES, rules_of
from tests.device.test_decoder import Asked, asked_rows, outcome
from tests.stage.tiny_models import tiny_random_whisper
from tests.stage.toy_model import EOS, ToyModel, toy_audio
from worker.device.decode_request import BeamSearch, Decode, RowRules
from worker.device.decoder import Decoder
from worker.device.group import Group
from worker.device.sampling_params import SamplingParams
from worker.device.stepper import TokenStepper
from worker.models.whisper.network import Whisper
from worker.models.whisper.numpy_network import NumpyWhisper


@dataclass(frozen=True)
class Window:
    """What one window is asked: a row, samples, or beams; groups are made of it as often as needed."""

    asked: Asked
    samples: int = 1
    search: BeamSearch | None = None

    def group(self):
        if self.search is not None:
            return Group.of_beams(self.asked.row(), self.search)
        rows = [self.asked.row() for _ in range(self.samples)]
        for number, row in enumerate(rows[1:], 1):
            row.sampling = SamplingParams(temperature=1.0, seed=number)
        return Group(rows)


def found(group):
    """Return all that a window ended with, exactly."""
    if group.hypotheses is None:
        return [outcome(row) for row in group.rows]
    row = group.first
    reason = row.error.code if row.error else row.finish_reason
    return group.hypotheses.candidates(), reason, row.no_speech_prob


def alone(window):
    group = window.group()
    decoder = Decoder(ToyModel(), group.size, 1)
    decoder.insert_groups([group])
    while decoder.num_active:
        decoder.step()
    return found(group)


searches = st.builds(
    BeamSearch,
    size=st.sampled_from([1, 2, 3, 5, 8]),
    patience=st.sampled_from([1.0, 1.0, 2.0, 0.6]),
)
ended_by_eos = asked_rows.filter(lambda asked: asked.eos == frozenset([EOS]))
windows = (
    st.builds(Window, asked_rows)
    | st.builds(Window, asked_rows, samples=st.integers(2, 5))
    | st.builds(Window, ended_by_eos, search=searches)
)


decoders = st.builds(
    lambda sizes, **more: Decoder(ToyModel(), *sizes, **more),
    st.sampled_from([(8, 1), (9, 2), (16, 8)]),
    steps_ahead=st.sampled_from([1, 3]),
    pad_rows=st.booleans(),
)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.lists(windows, min_size=1, max_size=7), decoders, st.data())
def test_windows_of_any_size_give_what_each_gives_alone(asked, decoder, data):
    """Rows, samples and beams side by side, joining at any step, more than there is room for."""
    groups = [each.group() for each in asked]
    waiting = list(groups)
    while waiting or decoder.num_active:
        joining = []
        while waiting and decoder.has_room([*joining, waiting[0]]):
            if decoder.num_active + len(joining) and not data.draw(st.booleans()):
                break
            joining.append(waiting.pop(0))
        if joining:
            decoder.insert_groups(joining)
        assert decoder.num_active <= decoder.max_rows
        decoder.step()
    assert [alone(each) for each in asked] == [found(group) for group in groups]


@settings(max_examples=10, deadline=None, derandomize=True)
@given(
    st.lists(windows, min_size=2, max_size=6),
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 5)), max_size=3),
    st.booleans(),
)
def test_windows_that_are_removed_leave_the_others_alone(asked, removals, pad_rows):
    """Whatever their size; the batches may shrink around them, or vanish."""
    groups = [each.group() for each in asked]
    decoder = Decoder(ToyModel(), sum(group.size for group in groups), pad_rows=pad_rows)
    decoder.insert_groups(groups)
    step, removed = 0, set()
    while decoder.num_active:
        for at, index in removals:
            group = groups[index % len(groups)]
            if at == step and not group.has_ended:
                decoder.remove_group(group)
                removed.add(group)
        decoder.step()
        step += 1
    for each, group in zip(asked, groups, strict=True):
        assert group.has_ended
        assert group in removed or found(group) == alone(each)


def test_a_windows_rows_share_its_audio_and_its_prompt_is_read_once():
    """Nothing of the audio is there once a beam, from the first step to the last."""

    shapes = set()

    class Watched(ToyModel):
        def prefill(self, states, prompts, at):
            shapes.add(("prefill", states.shape[0], prompts.shape[0]))
            return super().prefill(states, prompts, at)

        def decode_step(self, tokens, positions, cache, ancestors=None):
            shapes.add(("step", cache["audio"].shape[0], tokens.size))
            return super().decode_step(tokens, positions, cache, ancestors)

    decoder = Decoder(Watched(), 15)
    asked = Asked(eos=frozenset([EOS]), max_tokens=6)
    search = BeamSearch(5)
    decoder.insert_groups([Window(asked, search=search).group(), Window(asked, 5).group()])
    for _ in range(3):
        decoder.step()
    assert shapes == {("prefill", 2, 2), ("step", 2, 10)}


def test_windows_without_room_are_refused():
    """Rows count, and windows do."""
    decoder = Decoder(ToyModel(), 8, 2)
    five = Window(Asked(), search=BeamSearch(5))
    decoder.insert_groups([five.group()])
    assert not decoder.has_room([five.group()])
    assert decoder.has_room([Window(Asked(), 3).group()])
    assert not decoder.has_room([Window(Asked()).group(), Window(Asked()).group()])
    with pytest.raises(LengthMismatch, match="may join"):
        decoder.insert_groups([five.group()])


@pytest.mark.parametrize("nan_from", [0, 4])
def test_a_search_of_nan_fails_and_its_neighbours_do_not_notice(nan_from):
    """At the prompt or in the middle; beams and rows beside it go on."""
    good = [Window(Asked(audio=n), search=BeamSearch(3)) for n in range(2)] + [Window(Asked())]
    bad = Window(Asked(audio=1, nan_from=nan_from), search=BeamSearch(3))
    groups = [each.group() for each in (*good, bad)]
    decoder = Decoder(ToyModel(), 16)
    decoder.insert_groups(groups)
    while decoder.num_active:
        decoder.step()
    assert [alone(each) for each in good] == [found(group) for group in groups[:3]]
    assert isinstance(groups[3].error, NonFinite)


@pytest.mark.slow
def test_a_compiled_step_searches_the_same():
    """Beams and samples of one size in one step, and rows beside them."""
    asked = [
        Window(Asked(audio=1, max_tokens=9), search=BeamSearch(3)),
        Window(Asked(audio=2, max_tokens=7), 3),
        Window(Asked(audio=3, max_tokens=5)),
    ]
    decoder = Decoder(ToyModel(), 16, compile_step=True)
    groups = [each.group() for each in asked]
    decoder.insert_groups(groups)
    while decoder.num_active:
        decoder.step()
    assert [alone(each) for each in asked] == [found(group) for group in groups]


# Requests


def request(audio, *, beams=0, samples=1, max_tokens=9):
    return Decode(
        encoder_states=toy_audio(audio),
        prompt=(1,),
        sot_index=0,
        no_speech=0,
        eot=EOS,
        max_tokens=max_tokens,
        rules=RowRules(),
        temperature=0.0 if beams or samples == 1 else 1.0,
        seeds=tuple(range(samples)),
        search=BeamSearch(beams) if beams else None,
    )


MIXED = [
    request(0, beams=5),
    request(1),
    request(2, samples=5),
    request(3, beams=2),
    request(4, beams=8),
    request(5, beams=5, max_tokens=3),
    request(6, samples=11),
]


def run(stepper, steps=200):
    ended = {}
    for _ in range(steps):
        for key, outcome_ in stepper.step():
            assert key not in ended
            ended[key] = outcome_
        if not stepper.num_wanted:
            return ended
    raise AssertionError("no end")


def run_mixed(stepper, requests=MIXED):
    for key, each in enumerate(requests):
        stepper.add(key, each)
    return run(stepper)


def test_requests_of_all_sizes_end_with_what_each_gives_alone():
    """Whatever waits for room; more samples than rows are drawn one part after the other."""
    wanted = {
        key: run_mixed(TokenStepper(ToyModel(), 1, 16), [each])[0] for key, each in enumerate(MIXED)
    }
    assert [len(each) for each in wanted.values()] == [5, 1, 5, 2, 8, 5, 11]
    for slots, rows in ((1, 8), (2, 10), (8, 40)):
        assert run_mixed(TokenStepper(ToyModel(), slots, rows)) == wanted


def test_shrinking_starts_searches_anew_and_fails_those_that_have_no_room():
    """Half the rows hold half the windows; eight beams no longer fit into five rows."""
    wanted = run_mixed(TokenStepper(ToyModel(), 8, 40))
    stepper = TokenStepper(ToyModel(), 2, 10)
    for key, each in enumerate(MIXED):
        stepper.add(key, each)
    for _ in range(3):
        assert stepper.step() == []
    assert stepper.shrink()
    assert (stepper.num_slots, stepper.decoder.max_rows) == (1, 5)
    ended = run(stepper)
    assert isinstance(ended[4], OutOfMemory)
    assert "at most 5" in str(ended[4])
    assert {**ended, 4: None} == {**wanted, 4: None}
    while stepper.shrink():
        pass
    assert (stepper.num_slots, stepper.decoder.max_rows) == (1, 1)
    stepper.add("late", request(0, beams=5))
    assert stepper.num_wanted == 1
    [(key, error)] = stepper.step()
    assert (key, type(error), stepper.num_wanted) == ("late", OutOfMemory, 0)


def test_dropped_requests_are_never_returned():
    """One that is searched, one that waits, one that has no room."""
    stepper = TokenStepper(ToyModel(), 2, 8)
    stepper.add("searched", request(0, beams=5))
    stepper.add("stays", request(1))
    stepper.add("waits", request(2, beams=5))
    stepper.add("too large", request(3, beams=9))
    for key in ("searched", "waits", "too large"):
        stepper.drop(key)
    assert run(stepper).keys() == {"stays"}


# Real networks


def whisper_windows(states):
    """Return requests of all kinds over three windows, with the rules of a real vocabulary."""
    vocabulary = VOCABULARIES["tiny.en"]
    rules = rules_of({"vocabulary": "tiny.en"})
    sot, history = vocabulary["sot_sequence"][0], tuple(range(1000, 1040))

    def asked(audio, prompt=(sot,), *, beams=0, samples=1, max_tokens=12):
        return Decode(
            encoder_states=states[audio],
            prompt=prompt,
            sot_index=prompt.index(sot),
            no_speech=vocabulary["no_speech"],
            eot=vocabulary["eot"],
            max_tokens=max_tokens,
            rules=rules,
            temperature=0.8 if samples > 1 else 0.0,
            seeds=tuple(range(samples)),
            search=BeamSearch(beams) if beams else None,
        )

    return [
        asked(0, beams=5),
        asked(1),
        asked(2, samples=5),
        asked(1, (vocabulary["sot_prev"], *history, sot), beams=5, max_tokens=8),
        asked(0, beams=2, max_tokens=20),
        asked(2, beams=8, max_tokens=5),
    ]


@pytest.mark.parametrize("network", [NumpyWhisper, pytest.param(Whisper, marks=pytest.mark.mlx)])
def test_a_random_whisper_searches_in_a_batch_as_alone(network):
    """Of both networks; tokens are equal, sums to rounding."""
    model = network(tiny_random_whisper(width=32, layers=1))
    states = mx.random.normal((3, 1500, 32), key=mx.random.key(1))
    requests = whisper_windows(states)
    together = run_mixed(TokenStepper(model, 3, 16), requests)
    for key, each in enumerate(requests):
        single = run_mixed(TokenStepper(model, 1, 8), [each])[0]
        assert [one.tokens for one in single] == [one.tokens for one in together[key]]
        sums = [one.sum_logprob for one in single]
        assert sums == pytest.approx([one.sum_logprob for one in together[key]], abs=1e-3)


def test_both_networks_find_the_same():
    """NumPy's and MLX's: hypotheses, their order, and sums to rounding."""
    states = mx.random.normal((3, 1500, 32), key=mx.random.key(1))
    weights = tiny_random_whisper(width=32, layers=2)
    numpy, mlx = (
        run_mixed(TokenStepper(network(weights), 8, 40), whisper_windows(states))
        for network in (NumpyWhisper, Whisper)
    )
    for key, each in numpy.items():
        assert [one.tokens for one in each] == [one.tokens for one in mlx[key]]
        sums = [one.sum_logprob for one in each]
        assert sums == pytest.approx([one.sum_logprob for one in mlx[key]], abs=1e-3)
