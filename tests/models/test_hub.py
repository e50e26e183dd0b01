"""Models from a hub: a small server that answers as the Hugging Face hub does stands in for it."""

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub.constants
import pytest
from typer.testing import CliRunner

from producer.errors import InvalidModel, ModelUnreachable
from producer.settings import Settings
from tests.stage.tiny_models import same_arrays, tiny_random_whisper, write_huggingface, write_mlx
from tests.stage.tiny_parakeets import WRITERS, random_parakeet, tiny_config
from worker.cli.models import app
from worker.models import hub
from worker.models.load import load_family
from worker.models.routing import family_module
from worker.models.whisper.weights.config import is_ours
from worker.models.whisper.weights.load import load_weights

REPOSITORY = "someone/whisper-small-test"


class Hub(ThreadingHTTPServer):
    """Serves one repository; keeps the requests, and can cut a download off once."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.commits = {}
        self.main = None
        self.requests = []
        self.cut_once = set()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def commit(self, folder):
        """Publish a folder as the main branch's next commit and return its hash."""
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
        commit = hashlib.sha1(b"".join(files.values())).hexdigest()
        self.commits[commit] = files
        self.main = commit
        return commit


class Handler(BaseHTTPRequestHandler):
    """The four endpoints that `snapshot_download` uses."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        """Keep the test's output quiet."""

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, *, with_body):
        self.server.requests.append((self.command, self.path, self.headers.get("Range")))
        path = self.path.split("?")[0]
        routes = (
            (rf"/api/models/{REPOSITORY}(?:/revision/([^/]+))?", self.info),
            (rf"/api/models/{REPOSITORY}/tree/([^/]+)", self.tree),
            (rf"/{REPOSITORY}/resolve/([^/]+)/(.+)", self.file),
        )
        for pattern, handler in routes:
            if match := re.fullmatch(pattern, path):
                commit = self.server.main if match[1] in {None, "main"} else match[1]
                if commit not in self.server.commits:
                    self.refuse("RevisionNotFound")
                elif handler == self.file:
                    self.file(commit, match[2], with_body=with_body)
                else:
                    handler(commit)
                return
        self.refuse("RepoNotFound")

    def info(self, commit):
        self.json({"id": REPOSITORY, "modelId": REPOSITORY, "sha": commit, "siblings": []})

    def tree(self, commit):
        files = self.server.commits[commit]
        self.json(
            [
                {
                    "type": "file",
                    "path": name,
                    "size": len(data),
                    "oid": hashlib.sha1(data).hexdigest(),
                }
                for name, data in files.items()
            ]
        )

    def file(self, commit, name, *, with_body):
        data = self.server.commits[commit][name]
        start = int((self.headers.get("Range") or "bytes=0-").split("=")[1].split("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("X-Repo-Commit", commit)
        self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
        self.send_header("Content-Length", str(len(data) - start))
        self.send_header("Accept-Ranges", "bytes")
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if with_body and name in self.server.cut_once:
            self.server.cut_once.remove(name)
            self.wfile.write(data[: len(data) // 2])
            self.close_connection = True
        elif with_body:
            self.wfile.write(data[start:])

    def json(self, content):
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, code):
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture
def weights():
    """A model of 16 channels."""
    return tiny_random_whisper(width=16)


@pytest.fixture
def server(weights, tmp_path, monkeypatch):
    """A running hub with one model, and huggingface_hub pointed at it."""
    running = Hub()
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    point_at(running.url, monkeypatch)
    running.commit(write_huggingface(weights, tmp_path / "published", shards=2))
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


def test_a_hub_model_loads_and_says_its_commit(server, weights, tmp_path):
    """By its id, through huggingface_hub."""
    loaded = load_weights(REPOSITORY, cache_dir=tmp_path / "cache")
    assert same_arrays(weights.arrays, loaded.arrays) == []
    assert loaded.revision == server.main
    assert loaded.name == REPOSITORY


def test_only_the_files_that_we_read_are_downloaded(server, weights, tmp_path):
    """Not the same weights again for torch, flax or onnx."""
    folder = write_mlx(weights, tmp_path / "both")
    (folder / "pytorch_model.bin").write_bytes(b"x" * 1000)
    server.commit(folder)
    load_weights(REPOSITORY, cache_dir=tmp_path / "cache")
    assert not [path for _, path, _ in server.requests if "pytorch_model" in path]


def test_a_fetched_model_needs_no_hub(server, weights, tmp_path):
    """The second load asks nobody."""
    load_weights(REPOSITORY, cache_dir=tmp_path / "cache")
    asked = len(server.requests)
    loaded = load_weights(REPOSITORY, cache_dir=tmp_path / "cache")
    assert same_arrays(weights.arrays, loaded.arrays) == []
    assert len(server.requests) == asked


def test_the_commit_is_pinned_on_first_use(server, tmp_path):
    """A branch that moves on does not change an archive's model; a refresh does."""
    cache = tmp_path / "cache"
    first = load_weights(REPOSITORY, cache_dir=cache).revision
    newer = write_huggingface(tiny_random_whisper(width=16, seed=1), tmp_path / "newer")
    second = server.commit(newer)
    assert load_weights(REPOSITORY, cache_dir=cache).revision == first
    assert hub.fetch(REPOSITORY, None, cache, refresh=True)[1] == second
    assert load_weights(REPOSITORY, cache_dir=cache).revision == second
    assert load_weights(REPOSITORY, revision=first, cache_dir=cache).revision == first


def test_a_download_that_is_cut_off_goes_on_where_it_stopped(
    server, weights, tmp_path, monkeypatch
):
    """The second request asks for the rest only."""
    # huggingface_hub writes blocks of 10 MB; this model is smaller than one.
    monkeypatch.setattr(huggingface_hub.constants, "DOWNLOAD_CHUNK_SIZE", 4096)
    shard = "model-00001-of-00002.safetensors"
    server.cut_once.add(shard)
    loaded = load_weights(REPOSITORY, cache_dir=tmp_path / "cache")
    assert same_arrays(weights.arrays, loaded.arrays) == []
    ranges = [wanted for _, path, wanted in server.requests if path.endswith(shard) and wanted]
    assert any(re.fullmatch(r"bytes=[1-9]\d*-.*", wanted) for wanted in ranges)


def test_an_incomplete_download_is_completed_later(server, weights, tmp_path):
    """A worker killed while fetching leaves nothing that is taken for a model."""
    cache = tmp_path / "cache"
    folder, _ = hub.fetch(REPOSITORY, None, cache)
    (folder / "model-00002-of-00002.safetensors").unlink()
    loaded = load_weights(REPOSITORY, cache_dir=cache)
    assert same_arrays(weights.arrays, loaded.arrays) == []


@pytest.mark.parametrize("name", ["someone/no-such-model", "someone/../up", "-x/.."])
def test_a_model_that_the_hub_does_not_have_is_refused(server, name, tmp_path):
    """With the name that was asked for."""
    with pytest.raises(InvalidModel) as refused:
        load_weights(name, cache_dir=tmp_path / "cache")
    assert refused.value.value == name


def test_a_revision_that_the_hub_does_not_have_is_refused(server, tmp_path):
    """With the revision that was asked for."""
    with pytest.raises(InvalidModel, match=f"{REPOSITORY} at {'0' * 40}"):
        load_weights(REPOSITORY, revision="0" * 40, cache_dir=tmp_path / "cache")


def test_a_hub_that_does_not_answer_is_worth_another_try(tmp_path, monkeypatch):
    """Nothing listens on port 9 here: a transient error that names the model."""
    point_at("http://127.0.0.1:9", monkeypatch)
    with pytest.raises(ModelUnreachable, match=REPOSITORY):
        load_weights(REPOSITORY, cache_dir=tmp_path / "cache")


def test_fetch_and_list_on_the_command_line(server, tmp_path, monkeypatch):
    """A model that was fetched is listed with its size."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    fetched = CliRunner().invoke(app, ["fetch", REPOSITORY])
    assert fetched.exit_code == 0, fetched.output
    assert server.main in fetched.output
    listed = CliRunner().invoke(app, ["list"])
    assert re.search(rf"{REPOSITORY}\W+hub\W+\d", listed.output), listed.output


@pytest.mark.parametrize("layout", ["transformers", "mlx", "nemo"])
def test_a_parakeet_is_fetched_in_whichever_layout_it_is_published(
    server, tmp_path, monkeypatch, layout
):
    """NVIDIA's archive is taken where there is nothing else; never beside the same weights."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    published = tmp_path / "parakeet"
    WRITERS[layout](random_parakeet(tiny_config()), published)
    if layout != "nemo":
        (published / "model.nemo").write_bytes(b"the same again")
    commit = server.commit(published)
    fetched = CliRunner().invoke(app, ["fetch", REPOSITORY])
    assert fetched.exit_code == 0, fetched.output
    assert commit in fetched.output
    asked = {path.split("?")[0].rpartition("/")[2] for _, path, _ in server.requests}
    assert ("model.nemo" in asked) == (layout == "nemo")
    num_requests = len(server.requests)
    assert family_module(REPOSITORY) == "worker.models.parakeet.family"
    assert re.search(rf"{REPOSITORY}\W+hub\W+\d", CliRunner().invoke(app, ["list"]).output)
    family = load_family(Settings(model={"name": REPOSITORY, "dtype": "float32"}))
    assert (family.name, family.model.revision) == ("parakeet", commit)
    assert len(server.requests) == num_requests


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlanguage: en\nlicense: apache-2.0\n---\n# Model\n", "apache-2.0"),
        ("# Model\n\nlicense: mit\n", None),
        ("---\nlicense:\n- mit\n---\n", None),
        (None, None),
    ],
)
def test_the_licence_is_that_of_the_models_card(tmp_path, card, licence):
    """What the card's header does not say in a word is left to its page."""
    if card is not None:
        (tmp_path / "README.md").write_text(card)
    assert hub.licence_of(tmp_path) == licence


def test_the_list_has_every_whisper_model_and_no_other_programs_models(tmp_path, monkeypatch):
    """Known by the config, not by the name: MLX's, CTranslate2's and Hugging Face's."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    cached(tmp_path, "mlx-community/distil-large", '{"n_mels": 80}')
    cached(tmp_path, "Systran/faster-tiny", '{"alignment_heads": [], "lang_ids": []}')
    cached(tmp_path, "openai/small", '{"model_type": "whisper"}')
    cached(tmp_path, "meta/llama", '{"model_type": "llama"}')
    cached(tmp_path, "someone/damaged", "[")
    cached(tmp_path, "someone/list", "[]")
    assert [each.name for each in hub.fetched(is_ours)] == [
        "Systran/faster-tiny",
        "mlx-community/distil-large",
        "openai/small",
    ]


def cached(cache, name, config):
    """Leave a model in the hub's cache as huggingface_hub does."""
    snapshot = cache / f"models--{name.replace('/', '--')}" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text(config)


def point_at(url, monkeypatch):
    """Do what HF_ENDPOINT does, which is read when huggingface_hub is imported."""
    template = url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
