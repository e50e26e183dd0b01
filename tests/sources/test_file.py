"""Paths below `audio.roots`, and the check that never blocks its caller."""

import unicodedata
from pathlib import Path

import pytest

from producer.errors import SourceForbidden
from producer.roots import within_roots
from tests.stage.farm import wait_until
from worker.sources.file import SourceCheck


def test_without_roots_every_path_is_returned_as_it_is():
    """Nothing is resolved, so nothing can wait for a share; the answer is there at once."""
    assert within_roots("../a.wav", ()) == "../a.wav"
    check = SourceCheck(())
    check.submit("e", "../a.wav")
    assert check.poll() == [("e", "../a.wav")]
    assert check.poll() == []


def test_a_path_below_a_root_is_returned_with_its_links_resolved(tmp_path):
    """The engine must open what was checked, not what a link points to later."""
    (tmp_path / "a.wav").write_text("")
    (tmp_path / "link.wav").symlink_to(tmp_path / "a.wav")
    assert within_roots(str(tmp_path / "link.wav"), (tmp_path,)) == str(tmp_path / "a.wav")


def test_a_root_is_the_folder_that_the_file_system_says_it_is(tmp_path, monkeypatch):
    """As on a Mac, where case and the form of an umlaut make no other folder."""

    def samefile(one, other):
        return folded(one) == folded(other)

    def folded(path):
        return unicodedata.normalize("NFC", str(path)).casefold()

    root, job = tmp_path / "Gespra\u0308che", tmp_path / "gespr\u00e4che" / "a.wav"
    with pytest.raises(SourceForbidden):
        within_roots(str(job), (root,))
    monkeypatch.setattr(Path, "samefile", samefile)
    assert within_roots(str(job), (root,)) == str(job)
    with pytest.raises(SourceForbidden):
        within_roots(str(tmp_path / "elsewhere" / "a.wav"), (root,))


@pytest.mark.parametrize("name", ["../b.wav", "../archive-2/b.wav", "/etc/passwd", "\0"])
def test_a_path_elsewhere_is_forbidden(tmp_path, name):
    """Also one whose text begins with a root's, and one that is no path."""
    root = tmp_path / "archive"
    root.mkdir()
    with pytest.raises(SourceForbidden):
        within_roots(str(root / name), (root,))


def test_with_roots_the_answers_come_later_and_each_names_its_execution(tmp_path):
    """A thread each: in which order they end is open."""
    check, answers = SourceCheck((tmp_path,)), {}
    check.submit("good", str(tmp_path / "a.wav"))
    check.submit("bad", str(Path(tmp_path.anchor) / "elsewhere.wav"))
    wait_until(lambda: answers.update(check.poll()) or len(answers) == 2)
    assert answers["good"] == str(tmp_path / "a.wav")
    assert isinstance(answers["bad"], SourceForbidden)
