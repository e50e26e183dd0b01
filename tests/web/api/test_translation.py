"""A translation by OpenAI's client: German speech becomes English text, with OpenAI's base."""

import openai
import pytest

from producer.settings import load_settings
from tests.stage.farm import Server
from tests.stage.http_front import HttpFront, RealWorker

pytestmark = [
    pytest.mark.weights,
    pytest.mark.archive,
    pytest.mark.slow,
    pytest.mark.timeout(900),
]


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_german_speech_becomes_english_text(tmp_path, shared_data):
    """And the same recording in German, by the same worker."""
    server = Server(tmp_path / "server")
    settings = load_settings(
        redis={"url": server.url}, model={"name": "base", "dtype": "float32"}, worker={"slots": 2}
    )
    front = HttpFront(settings)
    worker = RealWorker(settings, tmp_path / "worker.log")
    try:
        worker.wait_until_alive(300)
        audio = shared_data / "audio" / "fleurs" / "fleurs-de-000.ogg"
        with openai.OpenAI(api_key="none", base_url=f"{front.url}/v1", timeout=600) as client:
            english = client.audio.translations.create(
                file=audio, model="whisper-1", response_format="verbose_json"
            )
            german = client.audio.transcriptions.create(
                file=audio, model="whisper-1", response_format="verbose_json"
            )
    finally:
        worker.stop()
        front.stop()
        server.stop()
    assert german.language == "german"
    words = set(english.text.lower().split())
    assert {"the", "and", "of", "to", "in", "a"} & words
    assert not {"der", "die", "und", "nicht", "ist"} & words
    assert english.text != german.text
