"""When a file that is put into a folder is taken: once nobody writes to it any more."""

import os

import pytest

from producer.archive.patterns import Patterns
from producer.archive.settled_files import SettledFiles


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def files(folder, clock):
    return SettledFiles(folder, Patterns(), 10.0, clock)


def look(files, clock, after_s=0.0):
    clock.now += after_s
    return sorted(path.name for path in files.look())


def test_a_file_is_given_once_when_it_has_not_changed_for_a_while(folder, files, clock):
    """Not before, and not again."""
    (folder / "a.wav").write_bytes(b"x")
    looks = [look(files, clock, after_s) for after_s in (0, 5, 4.9, 0.1, 100)]
    assert looks == [[], [], [], ["a.wav"], []]


def test_a_file_that_grows_is_waited_for(folder, files, clock):
    """A copy over the network that rests for less than that."""
    path = folder / "a.wav"
    for size in (1, 2, 3):
        path.write_bytes(b"x" * size)
        assert look(files, clock, 9) == []
    assert look(files, clock, 10) == ["a.wav"]


def test_a_file_that_changes_later_is_given_again(folder, files, clock):
    """Its time is enough: the size may be the same."""
    path = folder / "a.wav"
    path.write_bytes(b"x")
    look(files, clock)
    assert look(files, clock, 10) == ["a.wav"]
    os.utime(path, (1, 1))
    assert [look(files, clock, after_s) for after_s in (0, 10, 10)] == [[], ["a.wav"], []]


def test_an_empty_file_is_waited_for(folder, files, clock):
    (folder / "a.wav").touch()
    assert [look(files, clock, 20) for _ in range(3)] == [[], [], []]
    (folder / "a.wav").write_bytes(b"x")
    assert [look(files, clock, 20) for _ in range(2)] == [[], ["a.wav"]]


@pytest.mark.parametrize(
    "name",
    [
        "a.wav.part",
        "a.wav.crdownload",
        "a.wav~",
        "._a.wav",
        ".a.wav.Xy12",
        "a.txt",
        ".hidden/a.wav",
    ],
)
@pytest.mark.parametrize("include", [(), ("*",)])
def test_unfinished_and_foreign_files_are_passed_over(folder, clock, name, include):
    """Under the names that browsers, rsync, editors and Macs give them; also if all is included."""
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"x")
    files = SettledFiles(folder, Patterns(include), 10.0, clock)
    taken = [look(files, clock, 20) for _ in range(3)]
    assert taken == [[], [name] if include and name == "a.txt" else [], []]


def test_a_download_that_is_renamed_at_its_end_is_taken(folder, files, clock):
    """The name is new, and settles from then on."""
    (folder / "a.wav.part").write_bytes(b"x")
    look(files, clock)
    (folder / "a.wav.part").rename(folder / "a.wav")
    assert [look(files, clock, 10) for _ in range(2)] == [[], ["a.wav"]]


def test_folders_below_are_looked_through_and_links_to_folders_are_not(folder, files, clock):
    (folder / "deep/er").mkdir(parents=True)
    (folder / "deep/er/a.wav").write_bytes(b"x")
    (folder / "link").symlink_to(folder / "deep")
    (folder / "circle").symlink_to(folder)
    (folder / "gone.wav").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "pipe.wav")
    assert [look(files, clock, 10) for _ in range(2)] == [[], ["a.wav"]]


def test_a_file_that_vanishes_is_forgotten(folder, files, clock):
    """Put there again, it is new."""
    path = folder / "a.wav"
    path.write_bytes(b"x")
    look(files, clock)
    path.unlink()
    look(files, clock)
    assert files._seen == {}
    path.write_bytes(b"x")
    assert [look(files, clock, 10) for _ in range(2)] == [[], ["a.wav"]]


def test_while_the_share_is_away_nothing_is_forgotten(folder, files, clock):
    """When it is back, what was taken is not taken again."""
    (folder / "a.wav").write_bytes(b"x")
    look(files, clock)
    assert look(files, clock, 10) == ["a.wav"]
    folder.rename(folder.parent / "away")
    assert look(files, clock, 10) == []
    assert isinstance(files.error, FileNotFoundError)
    (folder.parent / "away").rename(folder)
    assert [look(files, clock, 10) for _ in range(2)] == [[], []]
    assert files.error is None


def test_what_could_not_be_taken_is_given_again(folder, files, clock):
    (folder / "a.wav").write_bytes(b"x")
    look(files, clock)
    look(files, clock, 10)
    files.give_again(folder / "a.wav")
    assert look(files, clock) == ["a.wav"]
