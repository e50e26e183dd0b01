"""Parakeet as the engine drives it: its network, its batched computations, its stepper."""

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from producer.job import Options
from producer.parakeet_options import check_options
from producer.result import Model
from producer.settings import Settings
from worker.device.backend import (
    choose_dtype,
    dtype_name,
    on_cuda,
    set_up_cuda,
    translated_errors,
    with_translated_errors,
)
from worker.engine.family import Computation, Rehearsal
from worker.engine.memory_plan import MemoryPlan
from worker.engine.messages import Checkpoint
from worker.engine.parts import run_through
from worker.engine.requests import Batched
from worker.models.backend import Backend
from worker.models.parakeet.backend import make_network
from worker.models.parakeet.buckets import bucket_of
from worker.models.parakeet.cut import LONGEST_PIECE
from worker.models.parakeet.drift import LanguageDetector
from worker.models.parakeet.figures import figures
from worker.models.parakeet.languages import languages_of
from worker.models.parakeet.memory_needs import memory_needs
from worker.models.parakeet.requests import Encode, Encoded, HearSpeech, LabelCtc, Recognize
from worker.models.parakeet.samples import Samples
from worker.models.parakeet.tdt import TdtStepper
from worker.models.parakeet.transcription import ModelFacts, Transcription
from worker.models.parakeet.weights.load import load_weights
from worker.models.parakeet.weights.parameters import Weights

# A piece waits at most this many steps for others of its length to be encoded with it. A step of the
# stepper is several labels of every row, and a piece takes about ten.
PATIENCE_STEPS = 6
# Calls of `Network.advance` for the longest piece: 130 tokens in 30 s of LibriSpeech, half as many
# blanks, sixteen of both a call on a GPU (tests/benchmarks/RESULTS.md, 2026-11-29 19:30).
STEPS_PER_PIECE = 12
_WARM_UP_SEED = 0


class ParakeetFamily:
    """A Parakeet checkpoint: a `worker.engine.family.Family`, whose docstrings tell the rest.

    Args:
        weights: Loaded and checked.
        dtype: Of the computation.
        backend: MLX's network or NumPy's; see `worker.models.parakeet.backend`.

    Raises (all methods that compute):
        OutOfMemory: the device had no room.
    """

    name = "parakeet"
    stepper: TdtStepper | None
    computations: Mapping[type[Batched[Any]], Computation]
    plan: MemoryPlan

    def __init__(self, weights: Weights, dtype: mx.Dtype, backend: Backend = "auto") -> None:
        self.model = Model(name=weights.name, revision=weights.revision, dtype=dtype_name(dtype))
        self.network = make_network(weights, dtype, backend)
        config = weights.config
        self.config = config
        self.num_vocab = config.num_labels
        languages = languages_of(config.num_labels)
        self._facts = ModelFacts(
            vocabulary=weights.vocabulary,
            frame_s=config.frame_seconds,
            is_ctc=config.transducer is None,
            hears_speech=config.vad is not None,
            languages=languages,
            detector=LanguageDetector(languages) if len(languages) > 1 else None,
        )
        weights_bytes = sum(array.nbytes for array in weights.arrays.values())
        self.needs = memory_needs(config, weights_bytes, dtype.size, keeps_all=on_cuda())

    def rehearsal(self) -> Rehearsal:
        """Return the longest pieces, of faint noise."""
        if self._facts.is_ctc:
            return Rehearsal(self._encode_noise, PATIENCE_STEPS)
        return Rehearsal(
            encode=self._encode_noise,
            patience_steps=PATIENCE_STEPS,
            steps=STEPS_PER_PIECE,
            stepper=self._make_stepper,
            rows=Recognize,
        )

    def _make_stepper(self, slots: int, steps_ahead: int) -> TdtStepper:
        return TdtStepper(self.network, slots, steps_ahead)

    def _encode_noise(self, count: int) -> list[Any]:
        """Encode pieces, or label them where that is one."""
        samples = _noise()
        if self._facts.is_ctc:
            return list(self._label_ctc([LabelCtc(samples)] * count)())
        encoded = run_through(self._encode([Encode(samples)] * count))
        with translated_errors():
            mx.eval([each.states for each in encoded])
        return encoded

    def pin(self, plan: MemoryPlan) -> None:
        """Make the stepper's rows, and recognize a piece of noise with them."""
        self.plan = plan
        self.stepper = None
        together = plan.batch_size
        if self._facts.is_ctc:
            label = Computation(self._label_ctc, together, PATIENCE_STEPS, self._bucket_of)
            self.computations = {LabelCtc: label}
        else:
            self.stepper = self._make_stepper(plan.slots, plan.steps_ahead)
            encode = Computation(
                self._encode,
                together,
                PATIENCE_STEPS,
                self._bucket_of,
                self.network.num_encoder_parts,
            )
            self.computations = {Encode: encode}
        if self._facts.hears_speech:
            self.computations |= {HearSpeech: Computation(self._hear_speech, 1)}
        self._warm_up()

    def _bucket_of(self, request: Encode | LabelCtc) -> int:
        """Return what a piece is padded to: only pieces of one bucket share a launch."""
        return bucket_of(self.config.num_frames(request.samples.size))

    def _warm_up(self) -> None:
        samples = _noise()
        if self.stepper is None:
            self._label_ctc([LabelCtc(samples)])()
            return
        (encoded,) = run_through(self._encode([Encode(samples)]))
        self.stepper.add("warm-up", Recognize(encoded))
        while self.stepper.num_wanted:
            self.stepper.step()

    def check(self, options: Options) -> None:
        """Refuse what this model does not have, by name."""
        check_options(options, self._facts.languages, self.model.name)

    def features(self) -> Samples:
        """Return the empty samples of a recording."""
        return Samples()

    def transcription(self, options: Options, checkpoint: Checkpoint | None) -> Transcription:
        """Return one recording's way through its pieces."""
        return Transcription(options, self._facts, checkpoint)

    def _encode(self, requests: Sequence[Encode]) -> Generator[None, None, list[Encoded]]:
        pieces = [request.samples for request in requests]
        return with_translated_errors(self.network.encode_in_parts(pieces))

    def _label_ctc(self, requests: Sequence[LabelCtc]) -> Callable[[], Sequence[Any]]:
        return self._read(self.network.label_ctc, requests)

    def _hear_speech(self, requests: Sequence[HearSpeech]) -> Callable[[], Sequence[Any]]:
        return self._read(self.network.hear_speech, requests)

    def _read(
        self, compute: Callable[[Any], Callable[[], Sequence[Any]]], requests: Sequence[Any]
    ) -> Callable[[], Sequence[Any]]:
        """Start a computation over pieces; what is returned waits for it."""
        with translated_errors():
            wait = compute([request.samples for request in requests])

        def read() -> Sequence[Any]:
            with translated_errors():
                return wait()

        return read

    def figures(self, samples: NDArray[np.float32]) -> list[tuple[str, str]]:
        """Return what each stage of the network makes of a piece; see `figures.py`."""
        with translated_errors():
            return list(figures(self.network, samples))

    def peak_memory_bytes(self) -> int:
        """Return the most device memory in use at once so far."""
        return mx.get_peak_memory()


def _noise() -> NDArray[np.float32]:
    noise = np.random.default_rng(_WARM_UP_SEED).normal(0, 0.01, LONGEST_PIECE)
    return noise.astype(np.float32)


def load(settings: Settings) -> ParakeetFamily:
    """Load and check the weights that the settings name.

    Raises:
        InvalidModel: there is no such model, or its weights are damaged.
        ModelUnreachable: the hub does not answer and the model was not fetched before.
        InvalidSettings: the backend asked for cannot work here.
    """
    dtype = choose_dtype(settings.model.dtype)
    set_up_cuda(dtype)
    weights = load_weights(settings.model.name, revision=settings.model.revision, dtype=dtype)
    return ParakeetFamily(weights, dtype, settings.worker.backend)
