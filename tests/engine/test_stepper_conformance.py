"""What every stepper owes the engine: the fake one of the tests, a toy's and the real one alike."""

import functools

import numpy as np
import pytest

from tests.stage.fake_family import FakeStepper
from tests.stage.families.frames import FrameStepper, Walk
from tests.stage.tiny_parakeets import random_parakeet, speech_like, tiny_config
from tests.stage.toy_model import ToyModel, toy_audio
from worker.device.decode_request import Decode, RowRules
from worker.device.stepper import TokenStepper
from worker.models.parakeet.numpy_network import NumpyParakeet
from worker.models.parakeet.requests import Recognize
from worker.models.parakeet.tdt import TdtStepper

STEPS = 3


def decode(encoder_states):
    return Decode(
        encoder_states=encoder_states,
        prompt=(1,),
        sot_index=0,
        no_speech=0,
        eot=60,
        max_tokens=STEPS,
        rules=RowRules(suppress=(60,)),
        temperature=0.0,
        seeds=(0,),
    )


@functools.cache
def parakeet():
    return NumpyParakeet(random_parakeet(tiny_config()))


@functools.cache
def recognize(number):
    """Return a request for a piece that takes more than one step of the stepper's."""
    [encoded] = parakeet().encode([speech_like(6 + number % 3, number)])
    return Recognize(encoded)


STEPPERS = {
    "fake": (lambda slots: FakeStepper(slots, STEPS), lambda n: decode((n, 0, 3000))),
    "toy": (FrameStepper, lambda n: Walk(np.array([n % 10] * STEPS))),
    "transducer": (lambda slots: TdtStepper(parakeet(), slots), recognize),
    "tokens": (lambda slots: TokenStepper(ToyModel(), slots), lambda n: decode(toy_audio(n))),
}


@pytest.fixture(params=STEPPERS)
def kind(request):
    """Return how a kind of stepper is made, and how a request for it."""
    return STEPPERS[request.param]


def run(stepper, most_turns=60):
    """Step until no row is wanted; return each key's outcome, in the order of their ends."""
    ended = []
    for _ in range(most_turns):
        ended += stepper.step()
        if not stepper.num_wanted:
            break
    assert stepper.num_active == stepper.num_wanted == 0
    keys = [key for key, _ in ended]
    assert len(keys) == len(set(keys)), "a request ended twice"
    return dict(ended)


def alone(kind, number):
    make, request = kind
    stepper = make(1)
    stepper.add("only", request(number))
    return run(stepper)["only"]


def test_every_request_ends_once_with_what_it_gives_alone(kind):
    """More requests than slots: the others wait, and join as soon as there is room."""
    make, request = kind
    stepper = make(2)
    assert (stepper.num_slots, stepper.num_active, stepper.num_wanted) == (2, 0, 0)
    for number in range(5):
        stepper.add(number, request(number))
    assert stepper.num_wanted == 5
    stepper.step()
    assert 1 <= stepper.num_active <= 2
    outcomes = run(stepper)
    assert outcomes == {number: alone(kind, number) for number in range(5)}


def test_a_request_that_is_dropped_is_never_returned(kind):
    """Whether it is stepped or waits for a slot; a key that is not there is no error."""
    make, request = kind
    stepper = make(1)
    for number in range(3):
        stepper.add(number, request(number))
    stepper.step()
    for key in (0, 2, "nobody"):
        stepper.drop(key)
    assert run(stepper) == {1: alone(kind, 1)}


def test_shrinking_halves_the_slots_and_loses_nothing(kind):
    """All unfinished requests start anew; with one slot there is nothing to halve."""
    make, request = kind
    stepper = make(4)
    for number in range(6):
        stepper.add(number, request(number))
    stepper.step()
    assert stepper.shrink()
    assert stepper.num_slots == 2
    assert stepper.shrink()
    assert not stepper.shrink()
    assert stepper.num_slots == 1
    assert run(stepper) == {number: alone(kind, number) for number in range(6)}


def test_a_reset_stepper_has_no_rows_and_takes_new_ones(kind):
    """Nothing of before is returned."""
    make, request = kind
    stepper = make(2)
    for number in range(3):
        stepper.add(number, request(number))
    stepper.step()
    stepper.reset()
    assert (stepper.num_active, stepper.num_wanted, stepper.step()) == (0, 0, [])
    stepper.add("new", request(7))
    assert run(stepper) == {"new": alone(kind, 7)}


def test_the_time_waited_only_grows(kind):
    """The engine takes differences of it."""
    make, request = kind
    stepper = make(1)
    before = stepper.wait_s
    stepper.add(0, request(1))
    run(stepper)
    assert stepper.wait_s >= before >= 0
