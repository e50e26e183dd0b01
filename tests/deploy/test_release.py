"""What is released: the package's page, its files, the changelog's entry, the image's recipe."""

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import HeaderParser
from html.parser import HTMLParser
from pathlib import Path

import pytest
from readme_renderer import markdown

from producer import deployment
from producer.errors import InvalidOptions
from tests.stage.packages import UV, build

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
URL = "https://forge.example/farm/scribefarm"


class Links(HTMLParser):
    """Collects where a page's links lead."""

    def __init__(self, html):
        super().__init__()
        self.targets = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        if tag in {"a", "img"} and (target := found.get("href") or found.get("src")):
            self.targets.append(target)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Return the folder of a wheel that was built from the sources' archive, as an index has it."""
    return build(tmp_path_factory.mktemp("dist"))


def metadata(folder):
    """Return the headers of a wheel, and the page below them."""
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        name = next(each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        found = HeaderParser().parsestr(archive.read(name).decode())
    return found, found.get_payload()


@pytest.mark.slow
def test_the_page_on_an_index_has_no_link_that_dies_there(built, tmp_path):
    """Without a repository's address relative links are text; with it they lead into that release."""
    _, text = metadata(built)
    plain = Links(markdown.render(text)).targets
    assert plain
    assert all(target.startswith(("https://", "#")) for target in plain), plain
    headers, text = metadata(build(tmp_path, "--wheel", url=f"{URL}/"))
    at = f"{URL}/blob/v{PROJECT['version']}"
    ours = [each for each in Links(markdown.render(text)).targets if each.startswith(URL)]
    assert len(ours) > 10
    for target in ours:
        assert target.startswith(f"{at}/")
        assert (ROOT / target.removeprefix(f"{at}/").partition("#")[0]).is_file(), target
    urls = dict(each.split(", ") for each in headers.get_all("Project-URL"))
    assert urls["Repository"] == URL
    assert urls["Changelog"] == f"{at}/CHANGELOG.md"


@pytest.mark.slow
def test_the_metadata_say_what_is_known_and_name_no_made_up_address(built):
    """The repository's address is its owner's to give."""
    headers, _ = metadata(built)
    assert headers.get_all("Project-URL") is None
    assert headers["License-Expression"] == "MIT"
    assert headers["Description-Content-Type"] == "text/markdown"
    assert "Typing :: Typed" in headers.get_all("Classifier")
    versions = re.findall(r":: (3\.\d+)$", "\n".join(PROJECT["classifiers"]), re.MULTILINE)
    assert versions == ["3.11", "3.12", "3.13"]


@pytest.mark.slow
def test_wheel_and_sources_have_what_an_installer_needs(built):
    """Marks of types, scripts, files of workers; neither caches nor anything of a developer's."""
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        modes = {each.filename: each.external_attr >> 16 for each in archive.infolist()}
    shipped = {f"producer/shipped/{name}" for name in deployment.ROOT_FILES}
    assert names >= shipped | {"producer/py.typed", "worker/py.typed", "producer/lua/submit.lua"}
    assert modes["producer/shipped/deploy/install"] & 0o111
    assert not [name for name in names if name.endswith(".pyc") or name.startswith("tests")]
    (sources,) = built.glob("*.tar.gz")
    with tarfile.open(sources) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    needed = {"deploy/install", "settings.toml", "uv.lock", "Makefile", "LICENSE", "CHANGELOG.md"}
    assert inside >= needed | {"tests/conftest.py", ".ci/run", ".github/workflows/release.yml"}
    assert wheel.stat().st_size < 2_000_000


def tree(folder):
    """Return the files below a folder with their text."""
    files = (
        path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    )
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_deploy_files_writes_what_a_clone_has(scribefarm, tmp_path):
    """The installer, its settings, lock file and sources; a program stays one."""
    done = scribefarm("deploy", "files", "farm")
    assert done.returncode == 0, done.stderr
    written = tree(tmp_path / "farm")
    assert {f"farm/{name}" for name in written} == set(done.stdout.split())
    for folder in deployment.FOLDERS:
        there = {f"{folder}/{name}": text for name, text in tree(ROOT / folder).items()}
        assert {name: written[name] for name in written if name.startswith(f"{folder}/")} == there
    assert written["uv.lock"] == (ROOT / "uv.lock").read_bytes()
    assert (tmp_path / "farm" / "deploy" / "install").stat().st_mode & 0o111


def test_deploy_files_overwrites_nothing(scribefarm, tmp_path):
    """An older farm's settings may be there, with a password in them."""
    (tmp_path / "farm").mkdir()
    (tmp_path / "farm" / "settings.toml").write_text("mine")
    done = scribefarm("deploy", "files", "farm")
    assert (done.returncode, done.stdout) == (InvalidOptions.exit_code, "")
    assert "new or empty folder" in done.stderr
    assert (tmp_path / "farm" / "settings.toml").read_text() == "mine"


def test_the_dockerfile_lints():
    """Pinned versions, no root at work, exec form."""
    done = subprocess.run(
        [BIN / "hadolint", ROOT / "deploy" / "Dockerfile"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_steps_of_the_dockerfile_make_a_worker(tmp_path):
    """Its COPY and RUN of the first stage, in a folder as `deploy files` writes it; no Docker here."""
    source, image = tmp_path / "farm", tmp_path / "image"
    list(deployment.write_files(source))
    image.mkdir()
    text = (ROOT / "deploy" / "Dockerfile").read_text().replace("\\\n", " ")
    _, first, second = re.split(r"\nFROM .*\n", text)
    for step, rest in re.findall(r"^(COPY|RUN) (.+)$", first, re.MULTILINE):
        if step == "COPY":
            *names, target = rest.split()
            for name in names:
                subprocess.run(["cp", "-r", source / name, image / target], check=True)
        elif not rest.startswith("pip install"):
            command = rest.replace("uv ", f"{UV} ", 1)
            subprocess.run(["bash", "-c", command], cwd=image, check=True, capture_output=True)
    shutil.rmtree(source)
    (venv,) = re.findall(r"COPY --from=build /opt/scribefarm/(\S+) ", second)
    (program,) = re.findall(r'ENTRYPOINT \["(\S+)"\]', second)
    done = subprocess.run(
        [image / venv / "bin" / program, "models", "list"], cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "tiny.en" in done.stdout
    assert (Path(UV).name, "uv==" in first) == ("uv", True)


def notes(root, tag):
    """Run the release's step in a folder."""
    command = [sys.executable, "deploy/release_notes.py", tag]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def test_the_version_has_an_entry_in_the_changelog():
    """A release would use it: only its date may be missing."""
    done = notes(ROOT, f"v{PROJECT['version']}")
    assert done.returncode == 0 or "must have its date (got unreleased)" in done.stderr
    assert notes(ROOT, "v9.9.9").returncode == 1


@pytest.mark.parametrize(
    ("heading", "said"),
    [
        ("[1.2.3] - 2026-01-02", None),
        ("[1.2.3] - unreleased", "must have its date"),
        ("[1.2.4] - 2026-01-02", "must have an entry"),
        ("[1.2.3] - 2026-01-02\n\n## [1.2.2] - 2026-01-01", "must have an entry"),
    ],
)
def test_notes_of_a_release_are_the_entry_of_its_tag(tmp_path, heading, said):
    """No tag without an entry, none with that of another version or without a date."""
    (tmp_path / "deploy").mkdir()
    shutil.copy(ROOT / "deploy" / "release_notes.py", tmp_path / "deploy")
    (tmp_path / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    (tmp_path / "CHANGELOG.md").write_text(
        f"# C\n\n## {heading}\n\n- one\n\n## [0.9.0] - 2025-01-01\n\n- old\n"
    )
    done = notes(tmp_path, "v1.2.3")
    if said is None:
        assert (done.returncode, done.stdout) == (0, "- one\n")
    else:
        assert (done.returncode, done.stdout) == (1, "")
        assert said in done.stderr
