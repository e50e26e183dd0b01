"""OpenAI's own client, unmodified, on a farm with a real worker: what comes back is what it knows."""

import json

import openai
import pytest

from tests.web.api.conftest import CLIP

pytestmark = [pytest.mark.slow, pytest.mark.weights, pytest.mark.timeout(300)]

TEXT = "Ever tried, ever failed. No matter, try again. Fail again. Fail better."


@pytest.fixture
def client(heard):
    with openai.OpenAI(api_key="none", base_url=f"{heard.url}/v1", max_retries=0) as made:
        yield made


def transcribe(client, **more):
    with CLIP.open("rb") as audio:
        return client.audio.transcriptions.create(file=audio, model="whisper-1", **more)


def test_a_transcription_is_a_text_and_what_was_heard(client):
    """The default form, json."""
    answer = transcribe(client)
    assert answer.text == TEXT
    assert answer.usage.type == "duration"
    assert 9 < answer.usage.seconds < 11


def test_every_form_of_response(client):
    """Text and subtitles come as they are, not as JSON."""
    assert transcribe(client, response_format="text") == f"{TEXT}\n"
    subtitles = transcribe(client, response_format="srt")
    assert subtitles.startswith("1\n00:00:00,000 --> 00:00:03,000\nEver tried, ever failed.\n\n2\n")
    captions = transcribe(client, response_format="vtt")
    assert captions.startswith("WEBVTT\n\n00:00.000 --> 00:03.000\nEver tried, ever failed.\n")


def test_the_long_form_has_segments_and_words(client):
    """Segments by default; words where they are asked for, and then segments only if asked too."""
    plain = transcribe(client, response_format="verbose_json")
    assert (plain.text, plain.language, plain.words) == (TEXT, "english", None)
    assert [segment.text for segment in plain.segments][:2] == [
        " Ever tried, ever failed.",
        " No matter, try again.",
    ]
    words = transcribe(
        client, response_format="verbose_json", timestamp_granularities=["word"], language="en"
    )
    assert words.segments is None
    assert [word.word for word in words.words][:2] == ["Ever", "tried,"]
    assert 0 <= words.words[0].start < words.words[0].end < words.words[-1].end <= 11
    both = transcribe(
        client, response_format="verbose_json", timestamp_granularities=["word", "segment"]
    )
    assert both.segments
    assert both.words


def test_a_request_that_comes_again_is_answered_from_what_is_known(client, heard):
    """Nothing is done twice: the same recording asked for the same is one job."""
    raw = client.audio.transcriptions.with_raw_response
    with CLIP.open("rb") as audio:
        first = raw.create(file=audio, model="whisper-1", extra_headers={"Prefer": "respond-async"})
        audio.seek(0)
        again = raw.create(file=audio, model="whisper-1", extra_headers={"Prefer": "respond-async"})
    assert first.http_response.status_code == 202
    assert first.headers["location"] == again.headers["location"]


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_what_english_models_cannot_do_is_said(client):
    """tiny.en neither translates nor knows German."""
    with CLIP.open("rb") as audio, pytest.raises(openai.BadRequestError) as refused:
        client.audio.translations.create(file=audio, model="whisper-1")
    assert refused.value.body["param"] == "model"
    assert "English alone" in refused.value.body["message"]
    with pytest.raises(openai.BadRequestError) as refused:
        transcribe(client, language="de")
    assert (refused.value.body["param"], refused.value.code) == ("language", "invalid_options")


def test_the_models_that_may_be_asked_for(client):
    """whisper-1 is the farm's own; an unknown one is 404, as OpenAI has it."""
    assert {"whisper-1", "tiny.en"} <= {model.id for model in client.models.list()}
    assert client.models.retrieve("tiny.en").id == "tiny.en"
    with pytest.raises(openai.NotFoundError) as unknown:
        client.models.retrieve("gpt-4o-transcribe")
    assert unknown.value.param == "model"


def test_a_file_that_is_no_audio_fails_with_the_workers_word(client):
    """415 with our code, after a worker has looked."""
    with pytest.raises(openai.APIStatusError) as failed:
        client.audio.transcriptions.create(file=("talk.mp3", b"no audio" * 99), model="whisper-1")
    assert (failed.value.status_code, failed.value.code) == (415, "unsupported_format")
    assert "talk.mp3" in failed.value.body["message"]


def line(custom_id, file, **body):
    """Return a line of a batch's file."""
    asked = {"model": "whisper-1", "file": file, **body}
    document = {
        "custom_id": custom_id,
        "method": "POST",
        "url": "/v1/audio/transcriptions",
        "body": asked,
    }
    return json.dumps(document)


def run_batch(client, lines, until):
    """Hand in lines, wait for the end; return the batch and its answers by custom_id."""
    text = "\n".join(lines).encode()
    file = client.files.create(file=("lines.jsonl", text), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id,
        endpoint="/v1/audio/transcriptions",
        completion_window="24h",
        metadata={"night": "1"},
    )
    ended = until(
        lambda: (
            found
            if (found := client.batches.retrieve(batch.id)).status
            in {"completed", "failed", "expired", "cancelled"}
            else None
        ),
        timeout_s=120,
        every_s=0.2,
    )
    answers = {}
    for file_id in filter(None, (ended.output_file_id, ended.error_file_id)):
        for text in client.files.content(file_id).text.splitlines():
            answer = json.loads(text)
            assert answer["line"] not in answers
            answers[answer["line"]] = answer
    return ended, answers


def test_a_batch_of_a_few(client, heard, until):
    """Paths, uploaded files and damaged lines: each line has its answer, and nothing else does."""
    uploaded = client.files.create(file=CLIP, purpose="user_data")
    lines = [
        line("by path", str(CLIP)),
        line("by id", uploaded.id, response_format="verbose_json"),
        line("as subtitles", str(CLIP), response_format="srt"),
        "{no json",
        line("outside", "/etc/passwd"),
        line("traversal", f"{CLIP.parent}/../../../../../../../../etc/passwd"),
        line("absent", str(CLIP.parent / "absent.wav")),
        line("by path", str(CLIP)),
        line("wrong", str(CLIP), response_format="pdf"),
    ]
    batch, answers = run_batch(client, lines, until)
    assert batch.status == "completed"
    assert batch.metadata == {"night": "1"}
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (9, 3, 6)
    assert answers[1]["response"]["body"]["text"] == TEXT
    assert answers[1]["custom_id"] == "by path"
    assert answers[2]["response"]["body"]["segments"][0]["text"] == " Ever tried, ever failed."
    assert answers[3]["response"]["body"].startswith("1\n00:00:00,000 -->")
    statuses = {number: answers[number]["response"]["status_code"] for number in range(4, 10)}
    assert statuses == {4: 400, 5: 403, 6: 403, 7: 404, 8: 400, 9: 400}
    assert answers[9]["response"]["body"]["error"]["param"] == "response_format"
    assert {error.line for error in batch.errors.data} == {4, 5, 6, 7, 8, 9}
    listed = client.batches.list(limit=1)
    assert listed.data[0].id == batch.id


def test_files_are_listed_in_pages_and_deleted(client):
    """As the client pages by itself."""
    made = [
        client.files.create(file=(f"{number}.jsonl", b"{}"), purpose="batch").id
        for number in range(3)
    ]
    newest_first = [file.id for file in client.files.list(limit=2)]
    assert newest_first[:3] == made[::-1]
    assert client.files.retrieve(made[0]).filename == "0.jsonl"
    assert client.files.content(made[0]).text == "{}"
    for file_id in made:
        assert client.files.delete(file_id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(made[0])
