"""Skipping silence, held against not skipping: word errors, speed, text over nonspeech, its cost.

    python tests/benchmarks/bench_vad.py [--model base] [--sets english,fleurs,speakers,world]
        [--longest 400] [--all] [--parts words,silence,nonspeech,cost] [--save FOLDER]

`words`: every speech file of the shared archive that has a reference text (English ones alone for
tiny.en), greedy, with `audio.vad` off and skip-silence; only files that have silence to skip are
transcribed, since the others take the same path, unless `--all`. `silence`: speech, four fifths of it faint
noise. `nonspeech`: what text noises, animals and music give, by default options. `cost`: seconds of
processor that listening takes, beside reading and decoding. Exits 1 if skipping costs a set more
than 0.3 points of word errors, if the silent file is not three times as fast, if any nonspeech text
is without a flag with off, or if there is any with skip-silence, sung words (`SUNG`) left out.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import soundfile

from tests.benchmarks.word_error_rate import SHARED_DATA, Errors, count_errors

MODES = ("off", "skip-silence")
SETS = ("english", "fleurs", "speakers", "world")
# A song; and one with a second of a human voice in it, although the manifest calls it noise.
SUNG = ("librosa-Karissa_Hobbs_-_Lets_Go_Fishin.ogg", "signed_24bit.wav")
# Languages whose words are not told apart by spaces: their characters are counted.
SPACELESS = {"ja", "zh"}
MOST_POINTS = 0.3
LEAST_SPEEDUP = 3.0
RATE_HZ = 16_000


def manifest():
    """Return the shared archive's files that are there."""
    with (SHARED_DATA / "manifest.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def transcribe(engine, sources, options, vad):
    """Return ({source: Transcript}, seconds) of all sources together; says which were refused."""
    from producer.job import AudioOptions, Job
    from worker.engine.messages import Done, Failed, Ticket

    waiting, transcripts, held = list(sources), {}, 0
    started = time.perf_counter()
    while waiting or held:
        while waiting and held < engine.capacity:
            source = str(waiting.pop(0))
            job = Job(source=source, options=options, audio=AudioOptions(vad=vad))
            engine.submit(Ticket(source, source, job))
            held += 1
        for event in engine.poll(1.0):
            if isinstance(event, Failed):
                print(f"  {event.error}")
                held -= 1
            if isinstance(event, Done):
                transcripts[event.execution_id] = event.transcript
                held -= 1
    return transcripts, time.perf_counter() - started


def errors_of(entry, text):
    """Return a file's word errors; characters where words are not told apart."""
    reference, language = entry["reference"], entry["language"]
    if language in SPACELESS:
        reference, text = " ".join(reference), " ".join(text.replace(" ", ""))
    return count_errors(reference, text, language)


def has_silence(entry):
    """Return whether skip-silence would skip anything of a file: else both modes are one."""
    from worker.audio.recording import load_audio
    from worker.audio.voice_activity import VoiceActivity, silences

    voices = VoiceActivity()
    voices.push(load_audio(SHARED_DATA / entry["path"], max_seconds=entry["duration_s"] + 60)[0])
    voices.finish()
    return bool(silences(voices.edges, voices.duration_s))


def keep(folder, name, transcripts):
    if folder:
        stored = {path: each.model_dump() for path, each in transcripts.items()}
        (folder / f"{name}.json").write_text(json.dumps(stored))


def word_errors(engine, options, entries, arguments):
    """Print one line a set: word errors in both modes, and by how much they differ in the set."""
    sets = defaultdict(list)
    for entry in entries:
        sets[entry["path"].split("/")[1]].append(entry)
    print("| set | files | with silence | words | errors off, on | points | windows off, on |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    worst = -100.0
    for name, found in sorted(sets.items()):
        num_words = sum(errors_of(entry, "").num_words for entry in found)
        changing = found if arguments.all else [each for each in found if has_silence(each)]
        paths = [SHARED_DATA / entry["path"] for entry in changing]
        errors, windows = [], []
        for vad in MODES:
            transcripts, _ = transcribe(engine, paths, options, vad)
            keep(arguments.save, f"{name}-{vad}", transcripts)
            total = Errors()
            for entry, path in zip(changing, paths, strict=True):
                wrong = errors_of(entry, transcripts[str(path)].text)
                total.add(wrong)
                skipped = transcripts[str(path)].audio.skipped
                print(f"  {path.name} {vad}: {wrong.num_errors} of {wrong.num_words} {skipped}")
            errors.append(total.num_errors)
            windows.append(sum(each.timing.windows for each in transcripts.values()))
        points = 100 * (errors[1] - errors[0]) / num_words
        worst = max(worst, points)
        print(
            f"| {name} | {len(found)} | {len(changing)} | {num_words} "
            f"| {errors[0]}, {errors[1]} | {points:+.2f} | {windows[0]}, {windows[1]} |",
            flush=True,
        )
    return worst <= MOST_POINTS


def write_mostly_silent(path):
    """Write 230 s of speech in pieces of about a minute, four times as much faint noise between."""
    from worker.audio.recording import load_audio

    source = SHARED_DATA / "audio/english/lj001-0001-0032.flac"
    speech, _ = load_audio(source, max_seconds=300)
    noise = np.random.default_rng(0)
    with soundfile.SoundFile(path, "w", RATE_HZ, 1) as file:
        for piece in np.array_split(speech, 4):
            file.write(noise.normal(0, 1e-3, 4 * len(piece)).astype(np.float32))
            file.write(piece)


def mostly_silent(engine, options, folder):
    """Print how fast a file with 80 % of silence is, both ways, one after the other."""
    path = folder / "silent.flac"
    write_mostly_silent(path)
    seconds = {}
    for vad in MODES:
        transcripts, seconds[vad] = transcribe(engine, [path], options, vad)
        (transcript,) = transcripts.values()
        skipped = sum(end - start for start, end in transcript.audio.skipped)
        print(
            f"80 % silence, {transcript.audio.duration_s:.0f} s, {vad}: {seconds[vad]:.1f} s, "
            f"{transcript.timing.windows} windows, {len(transcript.text.split())} words, "
            f"{skipped:.0f} s skipped",
            flush=True,
        )
    speedup = seconds["off"] / seconds["skip-silence"]
    print(f"skip-silence is {speedup:.2f} times as fast")
    return speedup >= LEAST_SPEEDUP


def nonspeech(engine, options, save):
    """Print the text of recordings without speech: with its flags, and what skipping leaves."""
    paths = [SHARED_DATA / each["path"] for each in manifest() if "/nonspeech/" in each["path"]]
    is_fine = True
    for vad in MODES:
        transcripts, _ = transcribe(engine, paths, options, vad)
        keep(save, f"nonspeech-{vad}", transcripts)
        segments = [
            (Path(path).name, segment)
            for path, each in sorted(transcripts.items())
            for segment in each.segments
            if segment.text.strip()
        ]
        odd = [pair for pair in segments if vad != "off" or not pair[1].flags]
        print(
            f"nonspeech, {vad}: {len(transcripts)} files, {len(segments)} segments, {len(odd)} odd"
        )
        for name, each in odd:
            is_fine &= name in SUNG
            print(f"  {name} {each.start:.2f}-{each.end:.2f} {each.flags} {each.text[:80]!r}")
    return is_fine


def cost(engine, options):
    """Print the processor's seconds that listening takes, and all of reading and decoding."""
    from worker.audio.recording import load_audio
    from worker.audio.voice_activity import VoiceActivity

    paths = sorted((SHARED_DATA / "audio/english").glob("libri*"))
    before = time.process_time()
    transcripts, wall_s = transcribe(engine, paths, options, "off")
    all_s = time.process_time() - before
    listening_s = 0.0
    for path in paths:
        samples, _ = load_audio(path, max_seconds=300)
        before = time.thread_time()
        voices = VoiceActivity()
        voices.push(samples)
        voices.finish()
        listening_s += time.thread_time() - before
    audio_s = sum(each.audio.duration_s for each in transcripts.values())
    print(
        f"cost: {audio_s:.0f} s of speech take {all_s:.1f} s of processor in {wall_s:.1f} s; "
        f"listening takes {listening_s:.2f} s of it, {100 * listening_s / all_s:.1f} %"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="base")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--longest", type=float, default=400.0, help="seconds of one file")
    parser.add_argument("--parts", default="words,silence,nonspeech,cost")
    parser.add_argument("--all", action="store_true", help="files without silence as well")
    parser.add_argument("--save", type=Path, help="keep the transcripts here, as JSON")
    arguments = parser.parse_args()
    if not SHARED_DATA.is_dir():
        sys.exit(f"needs {SHARED_DATA}")

    from producer.job import Options
    from producer.settings import Settings
    from worker.engine.engine import BatchEngine
    from worker.models.load import load_family

    engine = BatchEngine(Settings(model={"name": arguments.model}), load_family)
    greedy = Options(temperatures=(0.0,), beam_size=None)
    entries = [
        each
        for each in manifest()
        if each["path"].split("/")[1] in arguments.sets.split(",")
        and each.get("reference")
        and each["duration_s"] <= arguments.longest
        and (each["language"] == "en" or not arguments.model.endswith(".en"))
    ]
    if arguments.save:
        arguments.save.mkdir(parents=True, exist_ok=True)
    parts, fine = arguments.parts.split(","), []
    print(f"model {arguments.model}, {engine.model.dtype}")
    with tempfile.TemporaryDirectory() as folder:
        if "words" in parts:
            fine.append(word_errors(engine, greedy, entries, arguments))
        if "silence" in parts:
            fine.append(mostly_silent(engine, greedy, Path(folder)))
        if "nonspeech" in parts:
            fine.append(nonspeech(engine, Options(), arguments.save))
        if "cost" in parts:
            cost(engine, greedy)
    engine.stop()
    sys.exit(not all(fine))


if __name__ == "__main__":
    main()
