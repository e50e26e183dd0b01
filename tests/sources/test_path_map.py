"""One share, mounted in different places."""

import pytest
from pydantic import ValidationError

from producer.path_map import PathMap
from producer.settings import AudioSettings
from tests.stage.farm import wait_until
from worker.sources.file import SourceCheck

RULES = ("/Volumes/Archive=/mnt/archive", "/Volumes/Archive/new=/srv/new", "/a=b=/c")


@pytest.mark.parametrize(
    ("path", "here"),
    [
        ("/Volumes/Archive/x/a.wav", "/mnt/archive/x/a.wav"),
        ("/Volumes/Archive/new/a.wav", "/srv/new/a.wav"),
        ("/Volumes/Archive", "/mnt/archive"),
        ("/Volumes/Archive 2/a.wav", "/Volumes/Archive 2/a.wav"),
        ("/a=b/x", "/c/x"),
        ("Volumes/Archive/a.wav", "Volumes/Archive/a.wav"),
        ("/elsewhere", "/elsewhere"),
        ("/Volumes/Archive/caf\udce9.wav", "/mnt/archive/caf\udce9.wav"),
    ],
)
def test_the_longest_folder_wins(path, here):
    """Folders are compared, not letters; bytes that are no text pass through."""
    assert PathMap(RULES).apply(path) == here


def test_the_path_here_is_held_against_the_roots(tmp_path):
    """The rules are a worker's own: a job cannot leave the roots by them."""
    (tmp_path / "a.wav").touch()
    check, answers = SourceCheck((tmp_path,), [f"/Volumes/Archive={tmp_path}"]), {}
    check.submit("good", "/Volumes/Archive/a.wav")
    check.submit("bad", "/Volumes/Archive/../a.wav")
    check.submit("address", "https://a.example/a.wav")
    wait_until(lambda: answers.update(check.poll()) or len(answers) == 3)
    assert answers["good"] == str(tmp_path / "a.wav")
    assert answers["bad"].code == "source_forbidden"
    assert answers["address"] == "https://a.example/a.wav"


@pytest.mark.parametrize("rule", ["/a", "a=/b", "/a=b", "=/b", ""])
def test_a_rule_is_two_absolute_folders(rule):
    with pytest.raises(ValidationError):
        AudioSettings(path_map=(rule,))
