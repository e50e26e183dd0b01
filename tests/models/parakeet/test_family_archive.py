"""Whatever lies in the shared archive, a random Parakeet ends it: with a transcript, or by name."""

import json
from pathlib import Path

import pytest

from producer.formats import FORMATS, FormatOptions
from producer.result import dump_result, parse_result
from tests.models.parakeet.test_family import KINDS, collect, ended, settings_of, ticket
from tests.stage.tiny_parakeets import WRITERS, random_parakeet, tiny_config
from worker.engine.engine import BatchEngine
from worker.engine.messages import Done
from worker.models.load import load_family

pytestmark = [pytest.mark.slow, pytest.mark.archive, pytest.mark.timeout(1500)]

FOLDERS = (
    *("nonspeech", "formats", "english", "fleurs", "world"),
    *(pytest.param(folder, marks=pytest.mark.long) for folder in ("speakers", "long")),
)
# What the reader refuses of the archive, whatever the model.
REFUSALS = {"unsupported_format", "corrupt_audio", "empty_input"}


@pytest.fixture(scope="module", params=KINDS)
def engine(request, tmp_path_factory):
    """Return the real engine over each kind of model in turn: more recordings than slots."""
    folder = tmp_path_factory.mktemp(request.param)
    model = WRITERS["mlx"](random_parakeet(tiny_config(**KINDS[request.param])), folder / "model")
    running = BatchEngine(settings_of(model), load_family)
    yield running
    running.stop()


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_crash_on_anything_in_the_archive(engine, shared_data, folder):
    """All at once; times within each, and every format takes what comes out."""
    paths = sorted(path for path in (shared_data / "audio" / folder).rglob("*") if path.is_file())
    assert paths
    for path in paths:
        engine.submit(ticket(path, str(path), word_timestamps=True))
    done = ended(collect(engine, len(paths), timeout_s=1400))
    assert set(done) == set(map(str, paths))
    texts = 0
    for name, each in done.items():
        if not isinstance(each, Done):
            assert each.error.code in REFUSALS, (name, each.error)
            continue
        texts += bool(each.transcript.text)
        check(each.transcript, Path(name))
    assert texts or folder in {"nonspeech", "formats"}


def check(transcript, path):
    duration_s = transcript.audio.duration_s
    times = [time for each in transcript.segments for time in (each.start, each.end)]
    assert times == sorted(times), path
    assert all(0 <= time <= duration_s + 0.01 for time in times), path
    spans = transcript.audio.skipped
    assert all(0 <= start < end <= duration_s + 0.01 for start, end in spans), path
    assert transcript.text == "".join(segment.text for segment in transcript.segments)
    assert parse_result(dump_result(transcript)) == transcript
    json.loads(FORMATS["json"](transcript, FormatOptions()))
    for write in FORMATS.values():
        write(transcript, FormatOptions())
