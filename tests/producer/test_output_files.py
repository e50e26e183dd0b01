"""Output files: no two recordings share one, none lies outside the folder, each is whole."""

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.errors import InvalidOptions
from producer.output_files import OutputStems, output_path, write_whole

names = st.lists(
    st.text(st.sampled_from("aAbBéE\u0301./ 1"), min_size=1).filter(
        lambda name: PurePosixPath(name).name not in {"", ".."}
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
    folded = {stem.casefold() for stem in stems.values()}
    assert len(folded) == len(recordings)


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
    assert {write_whole(path, "x", overwrite=False) for path in (first, second)} == {"written"}


def test_a_file_is_replaced_only_on_request_and_never_half(tmp_path):
    """The same content is left alone; no draft stays behind."""
    path = tmp_path / "new folder" / "a.txt"
    assert write_whole(path, "one", overwrite=False) == "written"
    assert write_whole(path, "one", overwrite=True) == "unchanged"
    assert write_whole(path, "two", overwrite=False) == "kept"
    assert path.read_text() == "one"
    assert write_whole(path, "two", overwrite=True) == "written"
    assert [file.name for file in path.parent.iterdir()] == ["a.txt"]
    assert path.read_text() == "two"
