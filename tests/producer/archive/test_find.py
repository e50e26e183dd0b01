"""Finding recordings: what is taken, how it is named, what is listed as a problem."""

import contextlib
import errno
import io
import os
import sys
from pathlib import Path, PurePath

import pytest

from producer.archive.find import Duplicate, Ignored, Problem, find, read_list
from producer.archive.patterns import Patterns
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
    assert second == Duplicate(str(path), "talks/a.wav")


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


def test_files_that_a_folder_passes_over_are_named_with_the_reason(folder, names):
    """By extension, without one, hidden, a Mac's companion, excluded, or behind a link."""
    kinds = {
        "a.AAX": ".aax",
        "noext": "no extension",
        ".hidden.wav": "hidden",
        "._b.wav": "AppleDouble",
        "drafts/c.wav": "excluded",
        "raw.ul": ".ul",
    }
    for name in ("b.wav", ".git/d.wav", "x/y/z/e.wav", *kinds):
        record(folder / "talks" / name)
    (folder / "talks/loop").symlink_to(folder / "talks")
    found = list(find(["talks"], names, Patterns(exclude=("drafts",))))
    talks = f"{folder}/talks/"
    ignored = {
        each.path.removeprefix(talks): each.kind for each in found if isinstance(each, Ignored)
    }
    assert ignored == kinds | {".git": "hidden folder", "loop": "link to a folder"}
    assert found_names(found) == ["talks/b.wav", "talks/x/y/z/e.wav"]


def test_a_link_that_leads_to_itself_is_a_problem_of_that_path_alone(folder, names):
    """In a folder, on the command line and in a pattern; one of another kind is passed over."""
    record(folder / "talks/a.wav")
    for name in ("loop.flac", "loop.txt"):
        (folder / "talks" / name).symlink_to(name)
    found = list(find(["talks", "talks/loop.flac", "talks/*.flac"], names))
    assert found_names(found) == ["talks/a.wav"]
    problems = [each for each in found if isinstance(each, Problem)]
    assert {each.path for each in problems} == {str(folder / "talks/loop.flac")}
    assert len(problems) == 3
    assert [each.kind for each in found if isinstance(each, Ignored)] == [".txt"]


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.ELOOP, errno.EACCES])
@pytest.mark.parametrize("where", ["scandir", "is_dir", "stat"])
def test_an_error_of_a_share_is_a_problem_of_that_path_alone(
    folder, names, monkeypatch, where, number
):
    """Of a folder that cannot be listed, or of one entry that cannot be looked at."""
    for name in ("a.wav", "sick/b.wav", "z/c.wav"):
        record(folder / "talks" / name)
    sick = "sick" if where == "scandir" else "a.wav"
    fail_at(monkeypatch, where, str(folder / "talks" / sick), number)
    found = list(find(["talks"], names))
    rest = {"talks/a.wav", "talks/sick/b.wav", "talks/z/c.wav"}
    lost = "talks/sick/b.wav" if where == "scandir" else "talks/a.wav"
    assert found_names(found) == sorted(rest - {lost})
    (problem,) = (each for each in found if isinstance(each, Problem))
    assert problem.path == str(folder / "talks" / sick)
    code = "source_forbidden" if number == errno.EACCES else "source_unreachable"
    assert problem.error.code == code


@pytest.mark.parametrize(
    ("platform", "code"), [("darwin", "privacy_denied"), ("linux", "source_forbidden")]
)
def test_on_a_mac_not_permitted_names_the_privacy_settings(
    folder, names, monkeypatch, platform, code
):
    """A terminal program that nobody allowed to read the share."""
    record(folder / "talks" / "kept" / "a.wav")
    fail_at(monkeypatch, "scandir", str(folder / "talks" / "kept"), errno.EPERM)
    monkeypatch.setattr(sys, "platform", platform)
    (problem,) = (each for each in find(["talks"], names) if isinstance(each, Problem))
    assert problem.error.code == code


def fail_at(monkeypatch, where, path, number):
    """Let one system call fail for one path, as a share does that is going away."""

    class SickEntry:
        """An entry of `os.scandir` whose type the file system does not tell."""

        def __init__(self, entry):
            self.name, self.path, self._entry = entry.name, entry.path, entry

        def is_symlink(self):
            return self._entry.is_symlink()

        def is_dir(self, *, follow_symlinks=True):
            if self.path == path:
                raise OSError(number, os.strerror(number))
            return self._entry.is_dir(follow_symlinks=follow_symlinks)

    real_scandir, real_stat = os.scandir, Path.stat

    @contextlib.contextmanager
    def scandir(folder):
        if where == "scandir" and os.fspath(folder) == path:
            raise OSError(number, os.strerror(number))
        with real_scandir(folder) as entries:
            yield (SickEntry(entry) for entry in entries) if where == "is_dir" else entries

    def stat(self, **options):
        if where == "stat" and str(self) == path:
            raise OSError(number, os.strerror(number))
        return real_stat(self, **options)

    monkeypatch.setattr(os, "scandir", scandir)
    monkeypatch.setattr(Path, "stat", stat)


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


def test_what_a_pattern_passes_over_is_ignored_and_not_silent(folder, names):
    """With the patterns of a command; folders that it matches are no files."""
    for name in ("talks/a.wav", "talks/a.aax", "talks/b/c.txt"):
        record(folder / name)
    found = list(find(["talks/**"], names, Patterns()))
    assert found_names(found) == ["talks/a.wav"]
    ignored = {(item.path, item.kind) for item in found if isinstance(item, Ignored)}
    assert ignored == {
        (str(folder / "talks/a.aax"), ".aax"),
        (str(folder / "talks/b/c.txt"), ".txt"),
    }


def test_a_recording_is_no_list():
    """Nor is what `find -print0` prints, unless that is said."""
    with pytest.raises(InvalidOptions, match="scribefarm transcribe -"):
        list(read_list(io.BytesIO(b"RIFF\x24\0\0\0WAVEfmt ")))
    assert list(read_list(io.BytesIO(b"a.wav\0b.wav\0"), b"\0")) == ["a.wav", "b.wav"]
