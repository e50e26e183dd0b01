"""Output files: no two recordings share one, none lies outside the folder, each is whole."""

import os
import re
import unicodedata
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.errors import InvalidOptions
from producer.formats import FORMATS
from producer.output_files import OutputStems, output_path, write_whole

PIECES = [*"aAbBéE\u0301./ 1", ".timed", ".txt/", ".srt"]
names = st.lists(
    st.lists(st.sampled_from(PIECES), min_size=1, max_size=8)
    .map("".join)
    .filter(
        lambda name: (
            PurePosixPath(name).name and ".." not in PurePosixPath(name).parts and name[0] != "/"
        )
    ),
    unique=True,
)


def output_stems(recordings):
    with OutputStems(recordings) as stems:
        return {name: stems.of(name) for name in recordings}


@given(names)
def test_no_two_recordings_share_an_output_whatever_the_file_system(recordings):
    """Neither case nor accents nor extensions make two names one."""
    stems = output_stems(recordings)
    assert stems.keys() == set(recordings)
    outputs = [outputs_of(stem) for stem in stems.values()]
    assert sum(map(len, outputs)) == len(set().union(*outputs))
    folders = {folder for each in outputs for path in each for folder in path.parents}
    assert not folders & set().union(*outputs)


def outputs_of(stem):
    """Return the output files of a recording in all formats, as a file system without case has them."""
    paths = (output_path(Path("/"), stem, name) for name in FORMATS)
    return {Path(unicodedata.normalize("NFC", str(path)).casefold()) for path in paths}


@pytest.mark.parametrize(
    ("names", "stems"),
    [
        (["a.wav", "./a.wav"], [r"a\.wav\.\w{12}", r"a\.wav\.\w{12}"]),
        (["x//b.wav", "x/b.wav", "x/c.wav"], [r"x/b\.wav\.\w{12}", r"x/b\.wav\.\w{12}", "x/c"]),
        (["talk.timed.wav", "talk.wav"], [r"talk\.timed\.wav", r"talk\.wav"]),
        (["a.wav", "a.txt/b.wav"], [r"a\.wav", r"a\.txt/b"]),
        (["A.wav", "a.TXT/b.wav"], [r"A\.wav", r"a\.TXT/b"]),
    ],
)
def test_names_that_meet_in_one_output_each_get_their_own(names, stems):
    """In whatever order they come."""
    found = output_stems(names)
    assert output_stems(names[::-1]) == found
    assert len(set(found.values())) == len(names)
    for name, pattern in zip(names, stems, strict=True):
        assert re.fullmatch(pattern, found[name]), found


def test_recordings_of_one_stem_keep_their_extensions():
    """A lone one gets the short name that players look for."""
    stems = output_stems(["x/a.wav", "x/a.mp3", "x/b.wav", "x/a.wav.flac", "y/A.wav"])
    assert stems == {
        "x/a.wav": f"x/a.wav.{stems['x/a.wav'][-12:]}",
        "x/a.mp3": "x/a.mp3",
        "x/b.wav": "x/b",
        "x/a.wav.flac": "x/a.wav.flac",
        "y/A.wav": "y/A",
    }


@pytest.mark.parametrize("stem", ["../a", "/etc/passwd", "a/../../b", "a\0b", ""])
def test_a_name_cannot_lead_out_of_the_output_folder(stem, tmp_path):
    """Names come from the queue, so from strangers."""
    with pytest.raises(InvalidOptions):
        output_path(tmp_path, stem, "txt")


def test_names_too_long_for_a_file_system_are_cut_and_stay_apart(tmp_path):
    """255 bytes and an extension, in letters of several bytes."""
    first, second = (output_path(tmp_path, "ü" * 127 + tail, "json") for tail in ("a", "b"))
    assert first != second
    assert {
        write_whole(path, "x", within=tmp_path, overwrite=False) for path in (first, second)
    } == {"written"}


def test_a_file_is_replaced_only_on_request_and_never_half(tmp_path):
    """The same content is left alone; no draft stays behind."""
    path = tmp_path / "new folder" / "a.txt"
    assert write_whole(path, "one", within=tmp_path, overwrite=False) == "written"
    assert write_whole(path, "one", within=tmp_path, overwrite=True) == "unchanged"
    assert write_whole(path, "two", within=tmp_path, overwrite=False) == "kept"
    assert path.read_text() == "one"
    assert write_whole(path, "two", within=tmp_path, overwrite=True) == "written"
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]
    assert path.read_text() == "two"


def test_nothing_is_written_through_planted_links(tmp_path):
    """Neither where drafts are, nor where the output is, nor where a folder is."""
    outside = tmp_path / "outside"
    outside.mkdir()
    victim = outside / "victim"
    victim.write_text("mine")
    out = tmp_path / "out"
    out.mkdir()
    (out / f".scribefarm-{os.getpid()}").symlink_to(victim)
    (out / "a.txt").symlink_to(victim)
    (out / "folder").symlink_to(outside)
    assert write_whole(out / "a.txt", "text", within=out, overwrite=False) == "kept"
    assert write_whole(out / "a.txt", "text", within=out, overwrite=True) == "written"
    with pytest.raises(OSError, match="Not a directory"):
        write_whole(out / "folder/b.txt", "text", within=out, overwrite=True)
    assert (out / "a.txt").read_text() == "text"
    assert not (out / "a.txt").is_symlink()
    assert victim.read_text() == "mine"
    assert [path.name for path in outside.iterdir()] == ["victim"]


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_what_is_no_regular_file_is_not_read(tmp_path, kind):
    """A pipe would wait for ever, a device never ends."""
    path = tmp_path / "a.txt"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    assert write_whole(path, "text", within=tmp_path, overwrite=False) == "kept"
    if kind != "folder":
        assert write_whole(path, "text", within=tmp_path, overwrite=True) == "written"
        assert path.read_text() == "text"


def test_outputs_have_the_rights_that_the_mask_gives(tmp_path):
    """So that others may read a shared folder."""
    mask = os.umask(0o022)
    try:
        write_whole(tmp_path / "a.txt", "text", within=tmp_path, overwrite=False)
    finally:
        os.umask(mask)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o644
