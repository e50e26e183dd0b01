"""What every family owes the engine: the fake one of the tests, two toys, and the real ones."""

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from producer.job import Options
from producer.settings import Settings
from tests.stage.fake_family import FakeFamily
from tests.stage.families.frames import Frames
from tests.stage.families.pieces import Pieces
from tests.stage.replies import all_replies
from tests.stage.tiny_models import tiny_random_whisper
from tests.stage.tiny_parakeets import random_parakeet, tiny_config
from worker.engine.checkpoints import signed, usable
from worker.engine.messages import Checkpoint
from worker.engine.requests import Batched, Compute, Rows
from worker.engine.speech import Speech
from worker.models.load import pin
from worker.models.parakeet.family import ParakeetFamily
from worker.models.whisper.family import WhisperFamily


def parakeet(**config):
    return ParakeetFamily(random_parakeet(tiny_config(**config)), mx.float32, "mlx")


FAMILIES = {
    "fake": FakeFamily,
    "pieces": Pieces,
    "frames": Frames,
    "whisper-numpy": lambda: WhisperFamily(tiny_random_whisper(), mx.float32, "numpy"),
    "whisper-mlx": lambda: WhisperFamily(tiny_random_whisper(), mx.float32, "mlx"),
    # Its own head finds speech in tones, where Silero hears none.
    "parakeet-tdt": lambda: parakeet(vad=True),
    "parakeet-ctc": lambda: parakeet(vad=True, ctc=True),
}
# Random weights invent timestamps; without them each window is one segment.
OPTIONS = Options(temperatures=(0.0,), beam_size=None, sample_len=8, without_timestamps=True)
DURATION_S = 34.0


def options_of(family):
    """Return options that a family has."""
    return Options() if family.name == "parakeet" else OPTIONS


COMPUTED_BY_MLX = {"whisper-mlx", "parakeet-tdt", "parakeet-ctc"}
ALL = [
    pytest.param(name, marks=[pytest.mark.mlx] if name in COMPUTED_BY_MLX else [])
    for name in FAMILIES
]


@pytest.fixture(scope="module", params=ALL)
def family(request):
    """Return each family in turn, pinned as the engine's loader pins it."""
    family = FAMILIES[request.param]()
    pin(family, Settings(worker={"slots": 2}))
    return family


def samples(hertz=220):
    """Return a recording of three tones and the pauses between them."""
    time_s = np.arange(round(DURATION_S * 16_000)) / 16_000
    loudness = np.repeat([0.5, 0.0, 0.2, 0.0, 0.7], len(time_s) // 5)
    return (np.sign(np.sin(2 * np.pi * hertz * time_s)) * loudness).astype(np.float32)


def heard(family):
    """Return the features of the recording, which arrived in blocks."""
    features = family.features()
    for block in np.array_split(samples(), 3):
        features.push(block)
    features.finish()
    return features


def answer(family, request):
    """Return the reply to a request, as the engine gets it."""
    if isinstance(request, Compute):
        return request.run()
    if isinstance(request, Rows):
        family.stepper.add("only", request)
        for _ in range(1000):
            if ended := family.stepper.step():
                [(key, reply)] = ended
                assert key == "only"
                return reply
    assert isinstance(request, Batched)
    computation = family.computations[type(request)]
    assert computation.batch_size >= 1
    one, other = all_replies(computation.start([request, request]))
    assert all(map(np.array_equal, _parts(one), _parts(other)))
    return one


def _parts(reply):
    """Return a reply's arrays and numbers."""
    fields = vars(reply).values() if hasattr(reply, "__dict__") else [reply]
    return [np.array(field) for field in fields]


def driven(family, transcription, *given):
    """Answer all that a transcription asks for; return it and the checkpoints that it passed."""
    checkpoints, reply = [], None
    requests = transcription.requests(*given)
    while True:
        try:
            request = requests.send(reply)
        except StopIteration:
            return transcription, checkpoints
        if isinstance(request, Checkpoint):
            checkpoints.append(signed(request, family))
            reply = None
        else:
            reply = answer(family, request)


def run(family, checkpoint=None):
    """Return a finished transcription and the checkpoints that it passed."""
    transcription = family.transcription(options_of(family), usable(checkpoint, family))
    return driven(family, transcription, heard(family), Speech())


def test_it_says_what_it_is_and_what_it_needs(family):
    """From these the engine plans, and a result names its model."""
    assert family.model.name
    assert family.model.dtype == "float32"
    assert family.name
    assert family.plan.needs == family.needs
    assert family.needs.weights_bytes >= 0
    assert family.plan.slots == 2
    assert family.stepper is None or family.stepper.num_slots == 2
    assert family.peak_memory_bytes() >= 0
    family.check(options_of(family))


def test_a_recording_becomes_text_with_times_within_it(family):
    """Every request is of a kind that the family itself computes."""
    transcription, checkpoints = run(family)
    assert transcription.counts.windows > 0
    assert transcription.counts.generated_tokens > 0
    for segment in transcription.segments:
        assert 0 <= segment.start <= segment.end <= DURATION_S
    assert [segment.id for segment in transcription.segments] == list(
        range(len(transcription.segments))
    )
    assert transcription.language
    assert 0 < transcription.seconds_done <= DURATION_S
    assert checkpoints
    assert isinstance(transcription.text, str)


def test_it_goes_on_from_each_checkpoint_to_the_same_text(family):
    """Another worker may have written it; what was done is not done again."""
    whole, checkpoints = run(family)
    for checkpoint in checkpoints:
        resumed, rest = run(family, checkpoint)
        assert resumed.text == whole.text
        assert resumed.segments == whole.segments
        assert len(rest) <= len(checkpoints)


def test_a_checkpoint_of_another_family_counts_as_none(family):
    """It says whose it is: nobody's, another family's, another model's, another vocabulary's."""
    whole, checkpoints = run(family)
    last = checkpoints[-1]
    wrong = {"family": "other", "model": "other", "revision": "other", "num_vocab": 7}
    writers = [None, *(replace(last.writer, **{name: value}) for name, value in wrong.items())]
    for writer in writers:
        again, _ = run(family, replace(last, language="de", writer=writer))
        assert again.text == whole.text
        assert again.segments == whole.segments
