"""Aligning text tokens to audio: openai-whisper's matrices and paths, stored and recomputed."""

import itertools
import json
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.errors import LengthMismatch, OutOfRange, RankMismatch
from worker.models.whisper.backend import make_network
from worker.models.whisper.dtw import (
    _MEDIAN_OF_7,
    alignment_matrix,
    dtw,
    median_filter,
    path_times,
    token_times,
)
from worker.models.whisper.log_mel import LogMel
from worker.models.whisper.tokenizer import Tokenizer
from worker.models.whisper.weights.load import load_weights
from worker.models.whisper.word_timing import find_words

DATA = Path(__file__).parents[2] / "data"
STORED = np.load(DATA / "alignment.npz")
CASES = json.loads(str(STORED["cases"]))


@pytest.fixture(scope="module")
def recipes():
    import importlib.util

    spec = importlib.util.spec_from_file_location("recipes", DATA / "recipes.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cell_by_cell(cost):
    """The textbook recurrence with the reference's ties, one cell at a time."""
    num_rows, num_columns = cost.shape
    best = np.full((num_rows + 1, num_columns + 1), np.inf)
    best[0, 0] = 0
    move = np.full(best.shape, "left", object)
    for row, column in itertools.product(range(num_rows), range(num_columns)):
        ways = {
            "both": best[row, column],
            "up": best[row, column + 1],
            "left": best[row + 1, column],
        }
        ranked = sorted(ways, key=ways.get)
        is_strict = ways[ranked[0]] < ways[ranked[1]]
        chosen = ranked[0] if is_strict else "left"
        best[row + 1, column + 1] = ways[chosen] + cost[row, column]
        move[row + 1, column + 1] = chosen
    move[1:, 0] = "up"
    row, column, path = num_rows, num_columns, []
    while row or column:
        path.append((row - 1, column - 1))
        step = move[row, column]
        row, column = row - (step != "left"), column - (step != "up")
    return np.array(path[::-1]).T


def scripted(case, recipes):
    """The tokenizer and the cross-attention of a stored case."""
    is_multilingual = case["multilingual"]
    tokenizer = Tokenizer(51865, case["language"]) if is_multilingual else Tokenizer(51864)
    num_tokens = len(tokenizer.sot_sequence) + 2 + len(case["text_tokens"])
    num_content = case["num_frames"] // 2
    cross_qk = recipes.scripted_attention(
        case["num_heads"], num_tokens, 1500, num_content, case["seed"]
    )
    return tokenizer, cross_qk


def words_of(case, tokenizer, cross_qk):
    text_tokens = case["text_tokens"]
    words, word_tokens = tokenizer.split_to_word_tokens([*text_tokens, tokenizer.eot])
    times = token_times(cross_qk, case["num_frames"], len(tokenizer.sot_sequence))
    return find_words(words, word_tokens, times, [0.5] * len(text_tokens))


# --- Dynamic time warping ---


@pytest.mark.parametrize("case", CASES["dtw"], ids=lambda case: f"{case['kind']}-{case['shape']}")
def test_the_path_is_the_references_to_the_last_step(case, recipes):
    """Noise, whole numbers full of ties, and constants, tall and wide."""
    cost = recipes.scripted_costs(case["kind"], *case["shape"], case["seed"])
    rows, columns = dtw(cost.astype(np.float64))
    assert rows.tolist() == case["text_indices"]
    assert columns.tolist() == case["time_indices"]


@settings(deadline=None, max_examples=150)
@given(
    num_rows=st.integers(1, 9),
    num_columns=st.integers(1, 12),
    levels=st.sampled_from([1, 2, 4, 1000]),
    seed=st.integers(0, 10_000),
)
def test_the_diagonal_sweep_equals_the_recurrence(num_rows, num_columns, levels, seed):
    """Whatever the shape and however many ties."""
    rng = np.random.default_rng(seed)
    cost = rng.integers(-levels, levels, (num_rows, num_columns)) / 8
    np.testing.assert_array_equal(np.array(dtw(cost)), cell_by_cell(cost))


def test_the_path_climbs_without_gaps_from_corner_to_corner():
    """Every token has at least one position and every position at least one token."""
    rows, columns = dtw(np.random.default_rng(0).standard_normal((40, 300)))
    assert (rows[0], columns[0]) == (0, 0)
    assert (rows[-1], columns[-1]) == (39, 299)
    steps = set(zip(np.diff(rows).tolist(), np.diff(columns).tolist(), strict=True))
    assert steps <= {(0, 1), (1, 0), (1, 1)}


def test_costs_add_up_in_float64():
    """One part in 2**30 decides between two ways; in float32 they would tie and turn left."""
    rows, columns = dtw(np.array([[2.0**30, 1.0], [1.0, 0.0]]))
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == [(0, 0), (1, 1)]


# --- Matrix ---


def test_the_median_network_sorts_its_middle():
    """All zeros and ones in, the median out: then any seven values (the zero-one principle)."""
    for bits in itertools.product((0.0, 1.0), repeat=7):
        lanes = list(bits)
        for low, high in _MEDIAN_OF_7:
            lanes[low], lanes[high] = min(lanes[low], lanes[high]), max(lanes[low], lanes[high])
        assert lanes[3] == float(sum(bits) > 3)


@pytest.mark.parametrize("length", [4, 5, 7, 30])
def test_the_median_mirrors_both_ends(length):
    """Values beyond the ends are those inside, without repeating the end itself."""
    values = np.random.default_rng(length).standard_normal((3, length)).astype(np.float32)
    mirrored = [abs(index) for index in range(-3, length)]
    mirrored += [2 * (length - 1) - index for index in range(length, length + 3)]
    expected = [
        np.median(values[:, mirrored[start : start + 7]], axis=1) for start in range(length)
    ]
    np.testing.assert_array_equal(median_filter(values), np.stack(expected, axis=1))


def test_rows_too_short_to_mirror_are_not_filtered():
    """Three positions, 60 ms, come back as they are."""
    values = np.array([[3.0, 1.0, 2.0]], np.float32)
    assert median_filter(values).tolist() == [[3.0, 1.0, 2.0]]


@pytest.mark.parametrize(
    "case",
    [case for case in CASES["scripted"] if np.isfinite(STORED[f"{case['name']}/matrix"]).all()],
    ids=lambda case: case["name"],
)
def test_scripted_attention_gives_the_references_words(case, recipes):
    """From attention to words: matrix within float32 rounding, path and times exact."""
    tokenizer, cross_qk = scripted(case, recipes)
    num_sot = len(tokenizer.sot_sequence)
    matrix = alignment_matrix(cross_qk, case["num_frames"], num_sot)
    np.testing.assert_allclose(matrix, STORED[f"{case['name']}/matrix"], rtol=1e-4, atol=2e-5)
    rows, columns = dtw(-matrix.astype(np.float64))
    assert rows.tolist() == case["text_indices"]
    assert columns.tolist() == case["time_indices"]
    found = words_of(case, tokenizer, cross_qk)
    assert [[w.word, list(w.tokens), w.start, w.end] for w in found] == [
        word[:4] for word in case["words"]
    ]


@pytest.mark.parametrize(
    "case",
    [case for case in CASES["scripted"] if case["num_frames"] < 4],
    ids=lambda case: case["name"],
)
def test_a_window_of_one_position_has_its_words_at_its_start(case, recipes):
    """The reference divides by zero there and starts them 20 ms before the window."""
    tokenizer, cross_qk = scripted(case, recipes)
    found = words_of(case, tokenizer, cross_qk)
    expected = [(word[0], max(0.0, word[2]), max(0.0, word[3])) for word in case["words"]]
    assert [(w.word, w.start, w.end) for w in found] == expected


@pytest.mark.parametrize("case", CASES["real"], ids=lambda case: case["path"])
def test_real_matrices_give_the_references_times(case):
    """The matrix of a real window, as the reference had it, is entered at the same times."""
    assert path_times(STORED[f"{case['name']}/matrix"]).tolist() == case["jump_times"]


@pytest.mark.weights
@pytest.mark.archive
@pytest.mark.timeout(400)  # two minutes with the BLAS of MLX's wheel
@pytest.mark.parametrize("case", CASES["real"][:2], ids=lambda case: case["path"])
def test_words_of_real_speech_have_the_references_times(case, shared_data, backend):
    """Samples to words with the real weights: no time differs, probabilities by under 0.001."""
    samples, rate_hz = soundfile.read(shared_data / case["path"], dtype="float32")
    if rate_hz != 16_000:
        samples = soxr.resample(samples.mean(axis=1), rate_hz, 16_000, quality="VHQ")
    model = make_network(load_weights(case["model"], dtype=mx.float32), mx.float32, backend)
    log_mel = LogMel(model.log_mel_frames, model.n_mels)
    log_mel.push(samples[slice(*case["samples"])].astype(np.float32))
    log_mel.finish()
    tokenizer = Tokenizer(model.num_vocab, case["language"] if case["multilingual"] else None)
    text, num_sot = case["text_tokens"], len(tokenizer.sot_sequence)
    tokens = [*tokenizer.sot_sequence_including_notimestamps, *text, tokenizer.eot]
    states = model.encode_audio(log_mel.window(0)[None])
    cross_qk, logprobs = model.align(states, mx.array([tokens]), tokenizer.eot)

    times = token_times(np.array(cross_qk[0]), case["num_frames"], num_sot)
    words, word_tokens = tokenizer.split_to_word_tokens([*text, tokenizer.eot])
    probs = np.exp(np.array(logprobs[0, num_sot : num_sot + len(text)])).tolist()
    found = find_words(words, word_tokens, times, probs)
    assert [[w.word, list(w.tokens), w.start, w.end] for w in found] == [
        word[:4] for word in case["words"]
    ]
    expected = [word[4] for word in case["words"]]
    np.testing.assert_allclose([w.probability for w in found], expected, atol=1e-3)


def test_a_position_that_all_tokens_attend_to_equally_is_no_evidence():
    """Zero deviation must not become NaN: times after it would be lost."""
    rng = np.random.default_rng(3)
    cross_qk = rng.standard_normal((2, 9, 60)).astype(np.float32)
    cross_qk[:, :, 20:24] = -200.0  # underflows to exactly zero in every softmax
    matrix = alignment_matrix(cross_qk, 120, 3)
    assert np.isfinite(matrix).all()
    times = token_times(cross_qk, 120, 3)
    assert (np.diff(times) >= 0).all()
    assert times[-1] > 0


@settings(deadline=None, max_examples=60)
@given(
    num_heads=st.integers(1, 3),
    num_text=st.integers(0, 8),
    num_frames=st.integers(0, 60),
    seed=st.integers(0, 1000),
)
def test_times_climb_and_stay_within_the_content(num_heads, num_text, num_frames, seed):
    """Whatever the attention, a word neither starts before the window nor ends after it."""
    rng = np.random.default_rng(seed)
    cross_qk = (rng.standard_normal((num_heads, 3 + num_text + 2, 30)) * 20).astype(np.float32)
    times = token_times(cross_qk, num_frames, 3)
    assert times.shape == (num_text + 1,)
    assert (np.diff(times) >= 0).all()
    assert times.min() >= 0
    assert times.max() <= num_frames / 100


def test_scores_of_another_shape_are_refused():
    """Never a broadcast, never an empty path."""
    with pytest.raises(RankMismatch, match="heads, tokens, positions"):
        token_times(np.zeros((4, 5), np.float32), 10, 1)
    with pytest.raises(LengthMismatch, match="at least 5 tokens"):
        token_times(np.zeros((1, 4, 10), np.float32), 10, 3)
    with pytest.raises(LengthMismatch, match="one head"):
        token_times(np.zeros((0, 9, 10), np.float32), 10, 3)
    with pytest.raises(OutOfRange, match="num_frames"):
        token_times(np.zeros((1, 9, 10), np.float32), -1, 3)
