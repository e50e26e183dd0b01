"""Greedy TDT: the rules of label looping, and rows that join and leave."""

from dataclasses import replace
from itertools import pairwise

import mlx.core as mx
import numpy as np
import pytest

from producer.errors import NonFinite, OutOfMemory
from tests.stage.tiny_parakeets import random_parakeet, speech_like, tiny_config
from worker.models.parakeet import greedy
from worker.models.parakeet.network import Parakeet
from worker.models.parakeet.numpy_network import NumpyParakeet
from worker.models.parakeet.requests import Encoded, Recognize
from worker.models.parakeet.tdt import TdtStepper

WEIGHTS = random_parakeet(tiny_config())
SECONDS = (0.1, 3.0, 1.2, 7.5, 0.5, 5.0, 2.0, 0.004, 4.0)
PIECES = [speech_like(seconds, seed) for seed, seconds in enumerate(SECONDS)]


@pytest.fixture(scope="module", params=[NumpyParakeet, Parakeet], ids=["numpy", "mlx"])
def network(request):
    """Return a network with a transducer."""
    return request.param(WEIGHTS)


@pytest.fixture(scope="module")
def encoded(network):
    """Return the pieces, encoded."""
    return network.encode(PIECES)


def run(stepper):
    """Step until no row is wanted."""
    found = []
    while stepper.num_wanted:
        found += stepper.step()
    assert len({key for key, _ in found}) == len(found), "a piece ended twice"
    return dict(found)


def alone(network, encoded):
    stepper = TdtStepper(network, 1)
    stepper.add("only", Recognize(encoded))
    return run(stepper)["only"]


def looped(network, encoded):
    """Return token, frame and duration of each label, found by label looping for one piece.

    After NeMo's algorithm: an inner loop seeks the next label over blanks, an outer loop reads it.
    """
    config, head = network.config, network.config.transducer
    transducer = NumpyParakeet(WEIGHTS)._transducer
    states = np.array(encoded.states)
    state, time, labels = transducer.start, 0, []
    while time < encoded.num_frames:
        while True:
            tokens, durations = transducer.logits(states[time : time + 1], state)
            token, duration = int(tokens.argmax()), head.durations[int(durations.argmax())]
            if token != config.blank:
                break
            time += max(duration, 1)
            if time >= encoded.num_frames:
                return labels
        labels.append((token, time, duration))
        state = transducer.read(np.array([token]), np.array([True]), state)
        if duration == 0 and sum(at == time for _, at, _ in labels) >= head.max_symbols:
            duration = 1
        time += duration
    return labels


def test_steps_find_what_label_looping_finds(network, encoded):
    """Blanks, jumps and labels of no duration: the same steps in another order."""
    total = 0
    for each in encoded:
        found = [(e.token, e.frame, e.duration) for e in alone(network, each)]
        assert found == looped(network, each)
        total += len(found)
    assert total > 100


@pytest.mark.parametrize("slots", [1, 2, 4, 16])
def test_rows_that_share_a_batch_do_not_notice(network, encoded, slots):
    """More pieces than slots: bit for bit what each finds alone."""
    stepper = TdtStepper(network, slots)
    for key, each in enumerate(encoded):
        stepper.add(key, Recognize(each))
    found = run(stepper)
    assert found == {key: alone(network, each) for key, each in enumerate(encoded)}


@pytest.mark.parametrize("calls_ahead", [0, 1, 3])
def test_late_arrivals_and_removals(network, encoded, calls_ahead):
    """Rows join while others are under way; those that leave are never heard of again."""
    stepper = TdtStepper(network, 3, calls_ahead)
    found, waiting = [], list(enumerate(encoded))
    for turn in range(200):
        if waiting and turn % 2 == 0:
            key, each = waiting.pop(0)
            stepper.add(key, Recognize(each))
        if turn == 3:
            stepper.drop(1)
        if turn == 5:
            stepper.drop("nobody")
        found += stepper.step()
        assert stepper.num_active <= 3
        if not waiting and not stepper.num_wanted:
            break
    wanted = {key: alone(network, each) for key, each in enumerate(encoded) if key != 1}
    assert dict(found) == wanted
    assert len(found) == len(wanted)


def test_shrinking_starts_pieces_anew(network, encoded):
    """Half the slots, the same labels; one slot is the least."""
    stepper = TdtStepper(network, 4)
    for key, each in enumerate(encoded[:6]):
        stepper.add(key, Recognize(each))
    found = dict(stepper.step())
    assert stepper.shrink()
    assert stepper.num_slots == 2
    found |= run(stepper)
    assert found == {key: alone(network, each) for key, each in enumerate(encoded[:6])}
    assert stepper.shrink()
    assert not stepper.shrink()


class NoRoom:
    """A network whose device has no room for some calls."""

    def __init__(self, network, fails_at):
        self._network, self._fails_at, self._calls = network, set(fails_at), 0

    def __getattr__(self, name):
        return getattr(self._network, name)

    def _count(self):
        self._calls += 1
        if self._calls in self._fails_at:
            raise MemoryError("out of memory")

    def move_rows(self, *arguments):
        self._count()
        return self._network.move_rows(*arguments)

    def advance(self, state):
        self._count()
        state, read = self._network.advance(state)

        def counted():
            self._count()
            return read()

        return state, counted


@pytest.mark.parametrize("calls_ahead", [0, 1])
@pytest.mark.parametrize("fails_at", [[1], [2], [3], [4, 5], [9, 13], [14], [15], [16], [17]])
def test_no_piece_is_lost_when_there_is_no_room(network, encoded, calls_ahead, fails_at):
    """Wherever the device says so: when rows join, are stepped or are read."""
    stepper = TdtStepper(NoRoom(network, fails_at), 16, calls_ahead)
    for key, each in enumerate(encoded[:6]):
        stepper.add(key, Recognize(each))
    found = []
    while stepper.num_wanted:
        try:
            found += stepper.step()
        except OutOfMemory:
            assert stepper.shrink()
    assert sorted(key for key, _ in found) == list(range(6))
    assert dict(found) == {key: alone(network, each) for key, each in enumerate(encoded[:6])}


def test_a_piece_of_nan_ends_with_an_error(network, encoded):
    """The others beside it do not notice."""
    broken = Encoded(encoded[2].states * np.nan, encoded[2].num_frames)
    stepper = TdtStepper(network, 4)
    for key, each in enumerate((encoded[1], broken, encoded[4])):
        stepper.add(key, Recognize(each))
    found = run(stepper)
    assert isinstance(found.pop(1), NonFinite)
    assert found == {0: alone(network, encoded[1]), 2: alone(network, encoded[4])}


def test_reset_forgets_all_rows(network, encoded):
    """And the next ones find what they should."""
    stepper = TdtStepper(network, 4)
    for key, each in enumerate(encoded[:5]):
        stepper.add(key, Recognize(each))
    stepper.step()
    stepper.reset()
    assert stepper.num_wanted == 0
    assert stepper.step() == []
    stepper.add("later", Recognize(encoded[3]))
    assert run(stepper) == {"later": alone(network, encoded[3])}


def test_a_piece_of_no_frames_has_no_labels(network, encoded):
    """And ends at once."""
    assert encoded[7].num_frames == 0
    assert alone(network, encoded[7]) == ()


def test_seconds_are_counted_where_the_network_computes(network, encoded):
    """NumPy's are the caller's own; MLX's are those of waiting."""
    stepper = TdtStepper(network, 2)
    before = stepper.wait_s
    stepper.add("it", Recognize(encoded[1]))
    run(stepper)
    assert stepper.wait_s > before


class Script:
    """A transducer whose logits are written down: a token and a duration for each frame and count."""

    def __init__(self, xp, config, says):
        self.xp, self.config, self.says = xp, config, says
        self.start = {"count so far": xp.zeros((1,), xp.int32)}

    def logits(self, encoded, state):
        tokens = np.full((len(encoded), self.config.blank + 1), -9.0, np.float32)
        durations = np.full((len(encoded), 5), -9.0, np.float32)
        for row in range(len(encoded)):
            frame, count = np.array(encoded)[row, 0], np.array(state["count so far"])[row]
            token, duration = self.says(int(frame), int(count))
            tokens[row, self.config.blank if token is None else token] = 9
            durations[row, duration] = 9
        return self.xp.array(tokens), self.xp.array(durations)

    def read(self, _labels, found, state):
        return {"count so far": state["count so far"] + found}

    def labels(self, num_frames, steps=60):
        xp = self.xp
        encoded = xp.array(np.arange(max(num_frames, 1), dtype=np.float32)[:, None])
        state = greedy.start_rows(xp, [encoded], [num_frames], self)
        found = []
        for _ in range(steps):
            state, each = greedy.step(xp, state, self.config.transducer, self.config.blank, self)
            token, frame, duration, _ = (np.array(part)[0].item() for part in each)
            found += [(token, frame, duration)] if token >= 0 else []
        assert np.array(state["time"])[0] >= num_frames
        return found


@pytest.fixture(params=[np, mx], ids=["numpy", "mlx"])
def script(request):
    """Return a maker of scripted networks."""
    config = tiny_config(max_symbols=3)
    return lambda says: Script(request.param, config, says)


def test_a_blank_of_no_duration_moves_on_by_one(script):
    """It would stand there for ever."""
    assert script(lambda frame, _: (None, 0) if frame < 5 else (7, 1)).labels(7) == [
        (7, 5, 1),
        (7, 6, 1),
    ]


def test_a_blank_moves_on_by_its_duration(script):
    """Frames between are never looked at."""
    assert script(lambda frame, _: (None, 4) if frame % 4 == 0 else (1, 1)).labels(12) == []


def test_labels_of_one_frame_are_bounded(script):
    """After `max_symbols` the row moves on by one frame, and counts anew."""
    found = script(lambda _, count: (count % 30, 0)).labels(3)
    assert [frame for _, frame, _ in found] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert [token for token, _, _ in found] == list(range(9))


def test_a_label_that_moves_on_is_not_bounded(script):
    """The count is of labels without a step between them, in the frame where they stand."""
    says = {0: 0, 1: 0, 2: 1}
    found = script(lambda _, count: (count % 30, says[count % 3])).labels(4)
    assert [frame for _, frame, _ in found] == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert [duration for _, _, duration in found[:3]] == [0, 0, 1]


def test_a_jump_over_the_end_ends_the_row(script):
    """The last label keeps the duration that the model gave it."""
    assert script(lambda frame, _: (frame, 4)).labels(6) == [(0, 0, 4), (4, 4, 4)]


def test_logprobs_are_among_tokens_and_blank():
    """Durations have no part in them."""
    logits = np.log(np.array([[0.2, 0.5, 0.3]], np.float32)) + 4
    tokens, logprobs = greedy.most_likely(np, logits)
    assert tokens.tolist() == [1]
    np.testing.assert_allclose(logprobs, np.log(0.5), rtol=1e-5)


def test_rows_are_put_together_and_taken_apart():
    """Shorter ones are lengthened; empty places have ended."""
    network = NumpyParakeet(WEIGHTS)
    width = network.config.transducer.joint_width
    rows = [np.full((length, width), length, np.float32) for length in (3, 5, 2)]
    states = [
        network.start_rows([Encoded(rows[0], 3), Encoded(rows[1], 5)]),
        network.start_rows([Encoded(rows[2], 2)]),
    ]
    moved = network.move_rows(states, [2, 0, -1])
    assert moved["num_frames"].tolist() == [2, 3, 0]
    assert moved["encoded"].shape == (3, 5, width)
    assert moved["encoded"][0, :, 0].tolist() == [2, 2, 0, 0, 0]


def test_durations_are_read_from_the_configuration():
    """Not the index that the network chooses, but what it stands for."""
    head = replace(WEIGHTS.config.transducer, durations=(0, 2, 4, 6, 8))
    config = replace(WEIGHTS.config, transducer=head)
    network = NumpyParakeet(replace(WEIGHTS, config=config))
    [encoded] = network.encode([PIECES[5]])
    found = alone(network, encoded)
    assert {label.duration for label in found} <= {0, 2, 4, 6, 8}
    for before, after in pairwise(found):
        assert after.frame >= before.frame + before.duration
