"""What is handed to the device at once is one of few sequences of operations.

MLX's CUDA backend keeps a graph for each sequence that it has seen, up to 400, and takes long to
make a new one. These count the sequences on any backend.
"""

import io
import os
import random
import re

import mlx.core as mx
import numpy as np
import pytest

from producer.settings import Settings
from tests.device.test_decoder import Asked, run_queue
from tests.stage.replies import all_replies
from tests.stage.tiny_models import tiny_random_whisper
from tests.stage.toy_model import ToyModel
from worker.device import stepper, warm_up
from worker.device.backend import set_up_cuda
from worker.device.decode_request import BeamSearch
from worker.device.decoder import Decoder
from worker.device.group import Group
from worker.device.row import Row
from worker.device.sampling_params import SamplingParams
from worker.models.load import pin
from worker.models.mel import SAMPLE_RATE_HZ
from worker.models.whisper.family import WhisperFamily
from worker.models.whisper.requests import Encode

OPERATION = re.compile(r'\{ (\d+) \[label ="([^"]*)"')
FED = re.compile(r'"(\w+)" -> (\d+)')
MADE = re.compile(r'(\d+) -> "(\w+)"')


def graph_of(arrays):
    """Return the operations that arrays are yet to be computed by, and what feeds each of them."""
    text = io.StringIO()
    mx.export_to_dot(text, *arrays)
    names, makers, edges = {}, {}, []
    for line in text.getvalue().splitlines():
        if operation := OPERATION.match(line):
            names[operation[1]] = f"{len(names)} {operation[2]}"
        elif fed := FED.match(line):
            edges.append((makers.get(fed[1]), names[fed[2]]))
        elif made := MADE.match(line):
            makers[made[2]] = names[made[1]]
    return tuple(names.values()), tuple(edges)


def operations_of(graphs):
    """Return which operations there are, without their numbers."""
    return {name.split()[1] for operations, _ in graphs for name in operations}


def leaves(tree):
    if isinstance(tree, mx.array):
        return [tree]
    branches = tree.values() if isinstance(tree, dict) else tree
    return [leaf for branch in branches for leaf in leaves(branch)]


@pytest.fixture
def graphs(monkeypatch):
    """Return the graphs that were handed over since, those of nothing left out."""
    seen = []
    start = mx.async_eval

    def noting(*arrays):
        graph = graph_of(leaves(arrays))
        if graph[0]:
            seen.append(graph)
        start(*arrays)

    monkeypatch.setattr(mx, "async_eval", noting)
    return seen


def pinned_family(slots, num_beams=1):
    """Return MLX's own network, whose graphs are counted."""
    family = WhisperFamily(tiny_random_whisper(), mx.float32, "mlx", num_beams)
    pin(family, Settings(worker={"slots": slots}))
    return family


def test_a_graph_tells_operations_and_their_order_apart():
    """The counting itself: values and shapes do not matter, operations and inputs do."""
    x, y = mx.ones(3), mx.ones(5)
    mx.eval(x, y)
    assert graph_of([x + x]) == graph_of([y + y]) != graph_of([x * x])
    assert graph_of([(x + 1) * x]) != graph_of([(x + 1) * (x + 1)])
    assert graph_of([x]) == ((), ())


def test_windows_cut_anywhere_are_few_graphs(graphs):
    """From recordings of all lengths: inside a block or across two, whole or filled up."""
    pinned = pinned_family(slots=4)
    pinned.network.encode_in_parts = lambda mel: iter([(mel + 1,)])
    generator, choose = np.random.default_rng(0), random.Random(0)
    recordings = []
    for _ in range(8):
        recordings.append(pinned.features())
        samples = generator.normal(0, 0.1, choose.randint(5, 100) * SAMPLE_RATE_HZ)
        recordings[-1].push(samples.astype(np.float32))
        recordings[-1].finish()
    graphs.clear()
    for _ in range(40):
        windows = []
        for mel in choose.sample(recordings, choose.randint(1, 4)):
            seek = choose.choice([0, choose.randrange(mel.content_frames)])
            size = min(3000, mel.content_frames - seek)
            windows.append(Encode(seek, size, features=mel))
        all_replies(pinned.encode(windows))
    assert len(graphs) >= 40
    # Four of windows, one a number of them, and the encoder's, with and without something to join.
    assert len(set(graphs)) <= 10
    assert len({graph for graph in graphs if "Add" in graph[0][-1]}) <= 5


def test_rows_that_join_and_leave_anywhere_are_few_graphs(graphs):
    """Every step is the same graph, whatever happened to the batch before it."""
    choose = random.Random(0)
    decoder = Decoder(ToyModel(), 8, steps_ahead=3)
    drawn = SamplingParams(temperature=0.5)
    rows = [
        Asked(audio=n, max_tokens=choose.randint(1, 160), sampling=drawn).row() for n in range(120)
    ]
    run_queue(decoder, rows)
    assert len(set(graphs)) <= 20
    # Prompts and steps, each in two forms; what joining and leaving takes is small.
    assert len({graph for graph in graphs if len(graph[0]) > 40}) <= 5


def test_searches_that_join_and_leave_anywhere_are_few_graphs(graphs):
    """As rows are: a step is one of few graphs, whatever beams swap places or end."""
    choose = random.Random(0)
    decoder = Decoder(ToyModel(), 24, 8, steps_ahead=3)
    waiting = [
        Group.of_beams(Asked(audio=n, max_tokens=choose.randint(1, 160)).row(), BeamSearch(3))
        for n in range(60)
    ]
    while waiting or decoder.num_active:
        joining = []
        while waiting and decoder.has_room([*joining, waiting[0]]):
            joining.append(waiting.pop())
        if joining:
            decoder.insert_groups(joining)
        decoder.step()
    assert len(set(graphs)) <= 20
    assert len({graph for graph in graphs if len(graph[0]) > 40}) <= 6


@pytest.mark.parametrize(
    ("dtype", "wanted"),
    [
        (mx.float16, {"MLX_ENABLE_CACHE_THRASHING_CHECK": "0"}),
        (mx.float32, {"MLX_ENABLE_CACHE_THRASHING_CHECK": "0", "MLX_ENABLE_TF32": "0"}),
    ],
)
def test_mlx_does_not_count_graphs_unless_told_to(dtype, wanted, monkeypatch):
    """It would raise at the 801st; an environment that says otherwise is heeded."""
    monkeypatch.setattr(os, "environ", {})
    set_up_cuda(dtype)
    assert os.environ == wanted
    os.environ["MLX_ENABLE_CACHE_THRASHING_CHECK"] = "1"
    set_up_cuda(dtype)
    assert os.environ["MLX_ENABLE_CACHE_THRASHING_CHECK"] == "1"


@pytest.mark.parametrize(
    "slots", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 3, 5)), 16]
)
def test_joining_and_leaving_takes_no_operation_that_warming_up_did_not(slots, graphs, monkeypatch):
    """CUDA compiles what it has not seen, and the first recording would wait for it."""
    monkeypatch.setattr(stepper, "on_gpu", lambda: True)
    monkeypatch.setattr(warm_up, "on_gpu", lambda: True)
    pinned = pinned_family(slots)
    assert pinned.stepper.num_active == 0
    built = operations_of(graphs)
    graphs.clear()
    model, choose = pinned.network, random.Random(0)
    states = model.encode_audio(mx.zeros((1, 3000, 80)))[0]
    rows = [
        Row(
            prompt=model.default_prompt,
            encoder_states=states,
            eos=frozenset(),
            max_tokens=choose.randint(1, 12),
            rules=model.default_rules,
        )
        for _ in range(40)
    ]
    run_queue(pinned.stepper.decoder, rows)
    needed = operations_of(graphs)
    assert slots < 5 or {"Scatter", "Gather", "SliceUpdate"} <= needed
    assert needed <= built


def test_searching_takes_no_operation_that_warming_up_did_not(graphs, monkeypatch):
    """Where the settings ask for beams."""
    monkeypatch.setattr(stepper, "on_gpu", lambda: True)
    monkeypatch.setattr(warm_up, "on_gpu", lambda: True)
    pinned = pinned_family(2, num_beams=2)
    built = operations_of(graphs)
    graphs.clear()
    model, decoder = pinned.network, pinned.stepper.decoder
    states = model.encode_audio(mx.zeros((1, 3000, 80)))[0]
    for max_tokens in (3, 9, 5):
        asked = Row(model.default_prompt, states, frozenset([model.eos_token]), max_tokens)
        asked.rules = model.default_rules
        while not decoder.has_room([group := Group.of_beams(asked, BeamSearch(2))]):
            decoder.step()
        decoder.insert_groups([group])
    while decoder.num_active:
        decoder.step()
    assert operations_of(graphs) <= built
