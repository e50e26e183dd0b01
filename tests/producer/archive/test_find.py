"""Finding recordings: what is taken, how it is named, what is listed as a problem."""

import io
import os
from pathlib import PurePath

import pytest

from producer.archive.find import Duplicate, Patterns, Problem, find, read_list
from producer.errors import InvalidOptions
from tests.producer.archive.recordings import found_names, record


def test_a_folder_gives_all_audio_below_it_named_from_the_folder_on(folder, names):
    """Other files, hidden ones and AppleDouble companions are passed over."""
    for name in (
        "a.wav",
        "b/c.MP3",
        "b/d.mkv",
        "notes.txt",
        ".hidden.wav",
        "b/._c.mp3",
        ".x/e.wav",
    ):
        record(folder / "talks" / name)
    assert found_names(find(["talks"], names)) == ["talks/a.wav", "talks/b/c.MP3", "talks/b/d.mkv"]


def test_a_pattern_matches_a_name_in_either_form_of_its_umlaut():
    """Typed text is composed; names from old Macs, zip and rsync are decomposed."""
    decomposed, composed = "Gespra\u0308ch.wav", "gespr\u00e4ch*"
    for name, pattern in ((decomposed, composed), (composed.replace("*", ".wav"), decomposed)):
        assert Patterns(include=(pattern,)).accept(PurePath(name))
        assert not Patterns(exclude=(f"{pattern}",)).accept(PurePath(name))


def test_patterns_include_and_exclude_files_of_a_folder(folder, names):
    """Patterns without a slash look at names of files and folders, with one at the path."""
    for name in ("a.wav", "a.flac", "drafts/b.wav", "x/y/c.wav", "x/d.dat"):
        record(folder / "talks" / name)
    patterns = Patterns(include=("*.WAV", "*.dat"), exclude=("drafts", "x/y/*"))
    assert found_names(find(["talks"], names, patterns)) == ["talks/a.wav", "talks/x/d.dat"]


def test_files_patterns_and_lists_are_named_from_the_current_folder_on(folder, names, tmp_path):
    """A file elsewhere is named by its whole path."""
    record(folder / "one.dat")
    record(folder / "talks/two.wav")
    elsewhere = record(tmp_path / "else/three.wav")
    found = find(["one.dat", "talks/**/*.wav", str(elsewhere)], names)
    assert found_names(found) == sorted(
        ["one.dat", "talks/two.wav", str(elsewhere).removeprefix("/")]
    )


def test_two_folders_of_one_name_do_not_share_names(folder, names, tmp_path):
    """The second file of a name is named by its whole path."""
    record(folder / "talks/a.wav")
    record(tmp_path / "else/talks/a.wav")
    found = list(find(["talks", str(tmp_path / "else/talks")], names))
    assert len({item.name for item in found}) == 2


def test_a_file_found_twice_is_taken_once(folder, names):
    """By folder and by name: the second time it is a duplicate, not a problem."""
    path = record(folder / "talks/a.wav")
    first, second = find(["talks", "talks/a.wav"], names)
    assert first.path == path
    assert second == Duplicate(str(path))


def test_what_cannot_be_used_is_listed_and_the_rest_goes_on(folder, names):
    """A missing file, a pattern without a match, a pipe and a dangling link."""
    record(folder / "fine.wav")
    os.mkfifo(folder / "pipe.wav")
    (folder / "link.wav").symlink_to("nowhere")
    arguments = ["missing.wav", "*.ogg", "pipe.wav", "link.wav", "nul\0.wav", "fine.wav"]
    found = list(find(arguments, names))
    codes = [item.error.code for item in found if isinstance(item, Problem)]
    assert codes == [
        "source_not_found",
        "source_not_found",
        "unsupported_format",
        "source_not_found",
        "source_not_found",
    ]
    assert found_names(found) == ["fine.wav"]


def test_links_to_folders_are_not_followed(folder, names):
    """A folder that links to itself is searched once."""
    record(folder / "talks/a.wav")
    (folder / "talks/loop").symlink_to(folder / "talks")
    assert found_names(find(["talks"], names)) == ["talks/a.wav"]


@pytest.mark.parametrize("separator", [b"\n", b"\0"])
def test_a_list_is_read_in_blocks_and_may_lack_its_last_separator(separator):
    """Paths longer than a block and bytes that are not UTF-8 survive."""
    paths = [b"a", b"b" * 100_000, b"c d", b"\xff\xfe.wav"]
    stream = io.BufferedReader(io.BytesIO(separator.join([*paths[:2], b"", *paths[2:]])))
    assert [os.fsencode(path) for path in read_list(stream, separator)] == paths


def test_a_list_line_that_is_no_path_is_refused_before_it_fills_the_memory():
    """Two megabytes without a separator are a mistake."""
    stream = io.BufferedReader(io.BytesIO(b"x" * 2_200_000))
    with pytest.raises(InvalidOptions, match="list"):
        list(read_list(stream))
