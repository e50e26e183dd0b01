"""openai-whisper's command line, option by option: taken, answered, or refused with a reason."""

import re
from pathlib import Path

import pytest
import typer

from producer.__main__ import app
from producer.cli.whisper_flags import NOT_OF_SUBMIT, NOT_OURS
from producer.console import hyphened
from producer.job import Job
from tests.stage.readme import table

LIST = Path(__file__).resolve().parents[1] / "data" / "whisper_options.txt"
# As people write it: everything that can be said, most of it openai-whisper's default.
TYPED = [
    "--model",
    "base",
    "--task",
    "translate",
    "--language",
    "German",
    "--temperature",
    "0.2",
    "--best_of",
    "4",
    "--beam_size",
    "3",
    "--patience",
    "2",
    "--length_penalty",
    "0.5",
    "--suppress_tokens",
    "-1",
    "--initial_prompt",
    "Krapp",
    "--carry_initial_prompt",
    "True",
    "--condition_on_previous_text",
    "False",
    "--temperature_increment_on_fallback",
    "0.4",
    "--compression_ratio_threshold",
    "2",
    "--threads",
    "0",
    "--logprob_threshold",
    "None",
    "--no_speech_threshold",
    "0.5",
    "--word_timestamps",
    "True",
    "--clip_timestamps",
    "1,2",
    "--hallucination_silence_threshold",
    "3",
]
EXPECTED = {
    "task": "translate",
    "language": "de",
    "temperatures": (0.2, 0.6, 1.0),
    "best_of": 4,
    "beam_size": 3,
    "patience": 2.0,
    "length_penalty": 0.5,
    "initial_prompt": "Krapp",
    "carry_initial_prompt": True,
    "condition_on_previous_text": False,
    "compression_ratio_threshold": 2.0,
    "logprob_threshold": None,
    "no_speech_threshold": 0.5,
    "word_timestamps": True,
    "clip_timestamps": (1.0, 2.0),
    "hallucination_silence_threshold": 3.0,
}


def listed():
    """Return openai-whisper's options, each with its short form."""
    lines = LIST.read_text(encoding="utf-8").splitlines()
    return [line.split() for line in lines if not line.startswith("#")]


@pytest.mark.parametrize("command", ["transcribe", "submit"])
def test_every_option_of_openai_whisper_is_known(command):
    """Long and short."""
    assert len(listed()) == 32
    params = typer.main.get_command(app).commands[command].params
    ours = {name for each in params for name in (*each.opts, *each.secondary_opts)}
    assert {hyphened(name) for names in listed() for name in names} - ours == set()


def test_the_table_names_every_option_once():
    """Each row's first cell has options, the second says what becomes of them."""
    rows = table("option of openai-whisper")
    named = [name for cell, _ in rows for name in re.findall(r"--\w+", cell)]
    assert sorted(named) == sorted(names[0] for names in listed())
    refused = {
        name for cell, said in rows if "refused" in said for name in re.findall(r"--\w+", cell)
    }
    assert refused == {f"--{each.option}" for each in NOT_OURS if not each.is_hint}


def test_a_command_line_of_openai_whisper_gives_the_job_that_it_means(
    scribefarm, connection, write_wav
):
    """Nothing is dropped on the way."""
    from rq.job import Job as RqJob
    from rq.serializers import JSONSerializer

    done = scribefarm("submit", write_wav(), *TYPED)
    assert done.returncode == 0, done.stderr
    read = RqJob.fetch(done.stdout.strip(), connection=connection, serializer=JSONSerializer)
    job = Job.from_kwargs(read.kwargs)
    assert job.model == "base"
    assert job.options.model_dump(exclude_defaults=True) == EXPECTED


REFUSED = [each for each in NOT_OURS if not each.is_hint]
HINTS = [each for each in NOT_OURS if each.is_hint]


@pytest.mark.parametrize("answer", REFUSED, ids=lambda answer: answer.option)
def test_what_we_do_not_have_is_refused_with_a_reason(scribefarm, answer, tmp_path):
    """Before anything is started; what asks for what is done anyway is taken."""
    wrong = [f"--{answer.option}", "2"]
    for command in ("transcribe", "submit"):
        done = scribefarm(command, "none.wav", *wrong, SCRIBEFARM_REDIS__URL="redis://127.0.0.1:1")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == f"error [invalid_options] {answer.flag}: {answer.must} (got 2)\n"
    for value in answer.accepted:
        done = scribefarm("transcribe", "none.wav", f"--{answer.option}", value)
        assert "source_not_found" in done.stderr


@pytest.mark.parametrize("answer", HINTS, ids=lambda answer: answer.option)
def test_what_changes_no_text_has_no_effect_and_is_said(scribefarm, connection, write_wav, answer):
    """Somebody's script goes on."""
    done = scribefarm("submit", write_wav(), f"--{answer.option}", "4")
    assert done.returncode == 0
    assert done.stderr.startswith(f"{answer.flag}: no effect: ")
    silent = scribefarm("submit", write_wav(), f"--{answer.option}", *answer.accepted)
    assert answer.flag not in silent.stderr


@pytest.mark.parametrize("answer", NOT_OF_SUBMIT, ids=lambda answer: answer.option)
def test_submit_says_who_does_what_it_does_not(scribefarm, answer):
    """Files and subtitles are made from results; numbers are a worker's."""
    value = "True" if answer.is_switch else "1"
    done = scribefarm("submit", "none.wav", f"--{answer.option}", value)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error [invalid_options] {answer.flag}: {answer.must} (got ")
