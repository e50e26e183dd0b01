"""The player's recordings: ranges of bytes, and never a file outside the roots."""

import os
from urllib.parse import quote

import pytest

from producer.errors import SourceForbidden
from producer.settings import AudioSettings, Settings
from producer.web.audio import Recordings, parse_range
from tests.stage.shown_farm import answers, said, submit, transcript, write_tone
from tests.stage.told_engine import work_off


@pytest.mark.parametrize(
    ("header", "span"),
    [
        (None, (0, 100)),
        ("bytes=0-", (0, 100)),
        ("bytes=10-19", (10, 20)),
        ("bytes=90-999", (90, 100)),
        ("bytes=-30", (70, 100)),
        ("bytes=-300", (0, 100)),
        ("bytes=100-", None),
        ("bytes=5-4", None),
        ("bytes=-0", None),
        ("bytes=0-1,5-6", (0, 100)),
        ("lines=0-1", (0, 100)),
        ("bytes=-", (0, 100)),
        ("bytes=" + "9" * 5000 + "-", None),
    ],
)
def test_a_range_is_understood_or_the_whole_is_sent(header, span):
    """RFC 9110, section 14: one range; several are answered with the whole."""
    assert parse_range(header, 100) == span


def test_a_player_gets_the_range_that_it_asks_for(night, page):
    """206 with the bytes, 416 beyond the end, 200 for another version."""
    name, path, _ = night.made[0]
    url, whole = f"/audio?job={night.jobs[name]}", path.read_bytes()
    first = page.get(url)
    assert (first.status_code, first.content) == (200, whole)
    assert first.headers["content-type"] == "audio/wav"
    assert first.headers["accept-ranges"] == "bytes"
    part = page.get(url, headers={"Range": "bytes=100-299", "If-Range": first.headers["etag"]})
    assert (part.status_code, part.content) == (206, whole[100:300])
    assert part.headers["content-range"] == f"bytes 100-299/{len(whole)}"
    assert page.get(url, headers={"Range": f"bytes={len(whole)}-"}).status_code == 416
    other = page.get(url, headers={"Range": "bytes=0-1", "If-Range": '"old"'})
    assert (other.status_code, len(other.content)) == (200, len(whole))
    head = page.client.head(url)
    assert (head.status_code, head.content) == (200, b"")


def test_without_roots_nothing_is_played(night, open_page):
    """A job may name any path; so nothing is read that nobody has allowed."""
    page = open_page(night.farm)
    job_id = night.jobs[night.made[0][0]]
    assert page.get(f"/audio?job={job_id}").status_code == 403
    text = page.html("/recording", job=job_id)
    assert "<audio" not in text
    assert "web.roots" in text


def escapes(root, secret):
    """Return sources that try to leave the root, by what they do."""
    (root / "link.wav").symlink_to(secret)
    (root / "folder").symlink_to(secret.parent)
    (root / "pipe.wav").unlink(missing_ok=True)
    os.mkfifo(root / "pipe.wav")
    os.link(secret, secret.parent / "other.txt")
    inside = write_tone(root / "inside.wav", 1)
    return {
        "outside": str(secret),
        "dots": f"{root}/../{secret.parent.name}/{secret.name}",
        "many dots": f"{root}/a/../../../../../../..{secret}",
        "encoded": f"{root}/%2e%2e/{secret.parent.name}/{secret.name}",
        "encoded twice": f"{root}/%252e%252e/{secret.name}",
        "a link": str(root / "link.wav"),
        "a linked folder": str(root / "folder" / secret.name),
        "a sibling whose name begins so": f"{root}-other/{secret.name}",
        "a pipe": str(root / "pipe.wav"),
        "a device": "/dev/zero",
        "a folder": str(root),
        "a null": f"{inside}\0.wav",
        "a URL": inside.as_uri(),
        "an address": "http://127.0.0.1/secret.wav",
        "relative": os.path.relpath(secret),
        "no audio": str(root / "notes.txt"),
        "nothing": "",
    }


def test_nothing_outside_the_roots_is_read(farm, open_page, tmp_path):
    """Dots, links, encodings, pipes, devices, addresses: each a job, and none is played."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir(), outside.mkdir(), (tmp_path / "root-other").mkdir()
    secret = write_tone(outside / "secret.wav", 1)
    write_tone(tmp_path / "root-other" / "secret.wav", 1)
    (root / "notes.txt").write_text("private")
    # A worker's word is no more trusted than a job's: the result names the source.
    made = [
        (f"{what}.wav", f"/told/{number}", transcript(said(["So."]), source=source))
        for number, (what, source) in enumerate(escapes(root, secret).items())
    ]
    jobs = submit(farm, made, "escapes")
    work_off(farm, answers(made))
    page = open_page(farm, roots=[root])
    for name, job_id in jobs.items():
        answer = page.get(f"/audio?job={job_id}")
        assert answer.status_code in {403, 404}, (name, answer.status_code)
        assert len(answer.content) < 30
        assert "<audio" not in page.html("/recording", job=job_id) or name in {
            "a pipe.wav",
            "encoded.wav",
            "encoded twice.wav",
            "nothing.wav",
            "a null.wav",
        }, name
    for sneaky in (str(secret), "../outside/secret.wav", quote(str(secret), safe="")):
        assert page.get(f"/audio?job={sneaky}").status_code == 404


def test_a_folder_that_is_exchanged_while_a_file_is_opened_gives_nothing(tmp_path, monkeypatch):
    """What was opened must be what lies below the root."""
    root, outside = tmp_path / "root", tmp_path / "outside"
    inside = write_tone(root / "day" / "a.wav", 1)
    write_tone(outside / "a.wav", 1)
    recordings = Recordings(Settings(audio=AudioSettings(roots=(root,))))
    recordings.open(str(inside)).file.close()
    really_open = os.open

    def exchanged(path, flags):
        (root / "day").rename(root / "was")
        (root / "day").symlink_to(outside)
        return really_open(path, flags)

    monkeypatch.setattr(os, "open", exchanged)
    with pytest.raises(SourceForbidden):
        recordings.open(str(inside))


def test_a_share_that_is_mounted_elsewhere_is_found(tmp_path):
    """`audio.path_map` says where; roots are those of this machine."""
    root = tmp_path / "here"
    write_tone(root / "a.wav", 1)
    audio = AudioSettings(roots=(root,), path_map=(f"/Volumes/Archive={root}",))
    recordings = Recordings(Settings(audio=audio))
    opened = recordings.open("/Volumes/Archive/a.wav")
    opened.file.close()
    assert opened.media_type == "audio/wav"
    for source in ("/Volumes/Archive/../secret.wav", "/Volumes/Archiver/a.wav"):
        with pytest.raises(SourceForbidden):
            recordings.open(source)
