"""The device's environment and errors, on Metal as MLX's source says; nothing here ran on a Mac."""

import os
import subprocess
import sys

import mlx.core as mx
import numpy as np
import pytest

from producer.errors import DeviceLost, OutOfMemory
from tests.stage.toy_model import ToyModel, toy_audio
from worker.device.backend import set_up_metal, translated_errors
from worker.device.decode_request import Decode
from worker.device.rules import NO_RULES
from worker.device.stepper import TokenStepper
from worker.generate import stt_generate

# mlx/backend/metal/device.cpp puts its own words before the system's.
FAILED = "[METAL] Command buffer execution failed: "
TIMEOUT = "Caused GPU Timeout Error (00000002:kIOGPUCommandBufferCallbackErrorTimeout)"
IMPACTING = (
    "Impacting Interactivity (0000000e:kIOGPUCommandBufferCallbackErrorImpactingInteractivity)"
)
NO_ROOM = "Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)"


def test_tf32_is_off_on_a_mac_before_anything_is_computed(monkeypatch):
    """MLX keeps what it reads at the first product; whoever set it before is believed."""
    monkeypatch.delenv("MLX_ENABLE_TF32", raising=False)
    set_up_metal("linux")
    assert "MLX_ENABLE_TF32" not in os.environ
    set_up_metal("darwin")
    assert os.environ["MLX_ENABLE_TF32"] == "0"
    monkeypatch.setenv("MLX_ENABLE_TF32", "1")
    set_up_metal("darwin")
    assert os.environ["MLX_ENABLE_TF32"] == "1"


def test_kernels_run_in_their_order_whatever_the_environment_says():
    """MLX's CUDA graphs would order them by the arrays that it knows to be written."""
    code = "import os, worker.models.load; print(os.environ['MLX_USE_CUDA_GRAPHS'])"
    environment = os.environ | {"MLX_USE_CUDA_GRAPHS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "0\n"


@pytest.mark.parametrize("module", ["worker.cli.machine", "worker.models.load", "worker.generate"])
def test_whatever_computes_has_set_the_macs_environment_by_then(module):
    """Bench, doctor, worker and single calls: importing them is enough."""
    # Packages look at the platform, too, while they are imported: they come first.
    packages = "av, huggingface_hub, mlx.core, mlx.nn, numpy, soundfile, soxr, threadpoolctl, typer"
    code = (
        f"import importlib, os, sys, producer.settings, rq, {packages}; sys.platform = 'darwin';"
        f"importlib.import_module({module!r}); print(os.environ['MLX_ENABLE_TF32'])"
    )
    environment = {key: text for key, text in os.environ.items() if key != "MLX_ENABLE_TF32"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "0\n"


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (FAILED + TIMEOUT, DeviceLost),
        (FAILED + IMPACTING, DeviceLost),
        ("the device was removed", DeviceLost),
        (FAILED + NO_ROOM, OutOfMemory),
        ("[metal::malloc] Attempting to allocate 9 bytes", OutOfMemory),
    ],
)
def test_what_metal_says_is_an_error_of_ours(said, error):
    """Both may succeed elsewhere; only one of them by computing less."""
    with pytest.raises(error, match="device") as caught, translated_errors():
        raise RuntimeError(said)
    assert caught.value.retryable
    assert caught.value.value == said


def test_a_defect_stays_what_it_is():
    """It ends the engine, with its traceback."""
    with pytest.raises(RuntimeError, match="shapes"), translated_errors():
        raise RuntimeError("shapes do not fit")


def fails(*_arrays):
    raise RuntimeError(FAILED + TIMEOUT)


@pytest.mark.parametrize("place", ["async_eval", "array"])
def test_wherever_a_step_meets_it_a_lost_device_is_told(monkeypatch, place):
    """Handing work over, reading tokens, letting a row leave: each may hear of an older failure."""
    stepper = TokenStepper(ToyModel(), slots=2)
    request = Decode(
        encoder_states=toy_audio(1),
        prompt=(1,),
        sot_index=0,
        no_speech=3,
        eot=2,
        max_tokens=9,
        rules=NO_RULES,
        temperature=0.0,
        seeds=(0,),
    )
    stepper.add("a", request)
    stepper.step()
    monkeypatch.setattr(np if place == "array" else mx, place, fails)
    stepper.decoder.steps_ahead = 0
    with pytest.raises(DeviceLost):
        stepper.step()
    if place == "async_eval":
        with pytest.raises(DeviceLost):
            stepper.drop("a")


def test_a_single_utterance_hears_of_a_lost_device_typed(monkeypatch):
    """The call that has no engine around it, too."""
    steps = stt_generate(ToyModel(), None, states=toy_audio(1))
    next(steps)
    monkeypatch.setattr(mx, "async_eval", fails)
    with pytest.raises(DeviceLost):
        next(steps)
