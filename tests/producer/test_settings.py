"""Settings: who wins, and what is said when something is wrong."""

import itertools
import json
import math
import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.errors import InvalidSettings
from producer.masking import mask_url
from producer.settings import Settings, load_settings, setting_keys
from producer.settings_sources import variable_of

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Work in an empty folder, so that no settings.toml is found by chance."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def origins(settings):
    """Return where each setting that is no default came from."""
    return {
        setting.key: setting.origin
        for setting in settings.effective()
        if setting.origin != "default"
    }


def test_init_beats_environment_beats_file_beats_default(folder, monkeypatch):
    """Each source overrides the ones below it key by key, not section by section."""
    text = "[queue]\nmax_queued = 1\nmax_attempts = 1\nresult_ttl_s = 1\n"
    (folder / "settings.toml").write_text(text)
    monkeypatch.setenv("SCRIBEFARM_QUEUE__MAX_QUEUED", "2")
    monkeypatch.setenv("SCRIBEFARM_QUEUE__MAX_ATTEMPTS", "2")
    settings = load_settings(queue={"max_queued": 3})
    assert (settings.queue.max_queued, settings.queue.max_attempts) == (3, 2)
    assert (settings.queue.result_ttl_s, settings.queue.poison_after) == (1, 2)
    assert origins(settings) == {
        "queue.max_queued": "init",
        "queue.max_attempts": "env SCRIBEFARM_QUEUE__MAX_ATTEMPTS",
        "queue.result_ttl_s": "file settings.toml",
    }


def test_lists_and_none_come_from_the_environment_as_json(monkeypatch):
    """Values that are not plain text or numbers are JSON; null stands for none."""
    monkeypatch.setenv("SCRIBEFARM_WORKER__QUEUES", '["night", "day"]')
    monkeypatch.setenv("SCRIBEFARM_OPTIONS__LOGPROB_THRESHOLD", "null")
    settings = load_settings()
    assert settings.worker.queues == ("night", "day")
    assert settings.options.logprob_threshold is None


def test_an_empty_variable_counts_as_unset(monkeypatch):
    """A compose file hands over unset variables as empty ones."""
    monkeypatch.setenv("SCRIBEFARM_REDIS__URL", "")
    assert load_settings().redis.url is None


def test_the_file_is_found_here_or_by_variable_or_by_name(folder, monkeypatch):
    """--settings beats $SCRIBEFARM_SETTINGS, which beats ./settings.toml."""
    for number, name in enumerate(("settings.toml", "by_variable.toml", "by_name.toml"), 1):
        (folder / name).write_text(f"[queue]\nmax_queued = {number}\n")
    assert load_settings().queue.max_queued == 1
    monkeypatch.setenv("SCRIBEFARM_SETTINGS", "by_variable.toml")
    assert load_settings().queue.max_queued == 2
    assert load_settings(Path("by_name.toml")).queue.max_queued == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[queue]\nmax_queued = 0", ["bad.toml", "queue.max_queued", "greater than 0", "got 0"]),
        (
            "[queue]\nmax_queud = 9",
            ["bad.toml", "queue.max_queud", "did you mean queue.max_queued"],
        ),
        ("[quue]\nmax_queued = 9", ["bad.toml", "quue", "did you mean queue?"]),
        ("[worker]\nslots = 'many'", ["bad.toml", "worker.slots", "integer", "got many"]),
        ("[options]\ntemperatures = [0, 3]", ["options.temperatures.1", "equal to 2", "got 3"]),
        ("[worker]\nlease_s = 6", ["bad.toml", "worker.lease_s", "2 times worker.heartbeat_s"]),
        ("[redis]\nurl = ''", ["bad.toml", "redis.url", "at least 1"]),
        ("queue = 5", ["bad.toml", "must be a section with keys, [queue]", "got 5"]),
        ("[queue", ["bad.toml", "TOML", "table declaration"]),
        ("\xff", ["bad.toml", "TOML"]),
    ],
)
def test_a_wrong_file_is_named_with_key_value_and_bound(folder, text, said):
    """The message is all that is needed to mend the file."""
    (folder / "bad.toml").write_text(text, encoding="latin-1")
    with pytest.raises(InvalidSettings) as caught:
        load_settings(Path("bad.toml"))
    for part in said:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("SCRIBEFARM_QUEUE__MAX_QUEUED", "-3", ["queue.max_queued", "greater than 0", "got -3"]),
        ("SCRIBEFARM_QUEUE__MAX_QUEUD", "3", ["did you mean SCRIBEFARM_QUEUE__MAX_QUEUED"]),
        ("SCRIBEFARM_QEUE__MAX_QUEUED", "3", ["no such setting"]),
        ("SCRIBEFARM_DEBUG", "1", ["no such setting"]),
        ("SCRIBEFARM_WORKER__QUEUES", "high,low", ["JSON", "got high,low"]),
        ("SCRIBEFARM_QUEUE", '{"max_queued": 0}', ["queue.max_queued", "greater than 0"]),
        ("SCRIBEFARM_QUEUE", "{", ["JSON", "got {"]),
        ("SCRIBEFARM_SETTINGS", "nowhere.toml", ["existing file", "nowhere.toml"]),
    ],
)
def test_a_wrong_variable_is_named_with_value_and_bound(monkeypatch, variable, value, said):
    """A variable with our prefix sets something or is an error."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidSettings) as caught:
        load_settings()
    for part in (variable, *said):
        assert part in str(caught.value)


def test_a_named_file_that_is_absent_is_an_error():
    """A typing mistake must not run with the defaults."""
    with pytest.raises(InvalidSettings, match=r"--settings: .*existing file .*nowhere\.toml"):
        load_settings(Path("nowhere.toml"))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://farm:6379/0", "redis://farm:6379/0"),
        ("redis://user:secret@farm:6379/0", "redis://***@farm:6379/0"),
        ("rediss://:secret@farm?password=secret", "rediss://***@farm?***"),
        ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        ("redis://:secret@farm:port", "***"),
        ("secret", "***"),
    ],
)
def test_secrets_of_an_address_are_masked(url, shown):
    """What is left helps to find the server."""
    assert mask_url(url) == shown
    assert load_settings(redis={"url": url}).redis.url.get_secret_value() == url
    setting = next(
        setting for setting in load_settings(redis={"url": url}).effective() if setting.value
    )
    assert setting.shown() == shown


def test_no_error_message_holds_a_password(monkeypatch):
    """Also not where the key is misspelt or the value is no JSON."""
    for variable, value in [
        ("SCRIBEFARM_REDIS", '{"urll": "redis://:hush@farm"}'),
        ("SCRIBEFARM_REDIS", '{"url": "redis://:hush@farm"'),
    ]:
        monkeypatch.setenv(variable, value)
        with pytest.raises(InvalidSettings) as caught:
            load_settings()
        assert "hush" not in str(caught.value)


def test_a_child_process_gets_the_very_same_settings(folder, monkeypatch):
    """Whatever came from init, file and environment travels by environment alone."""
    (folder / "settings.toml").write_text("[model]\nrevision = 'abc'\n[queue]\nmax_queued = 7\n")
    parent = load_settings(
        redis={"url": "redis://:p@h", "embedded_dir": "/a b"},
        model={"revision": None},
        audio={"roots": ["/x y", "/z"]},
        options={"language": "de", "temperatures": [0.0], "initial_prompt": 'say "hi"'},
    )
    for variable, value in parent.to_environment().items():
        monkeypatch.setenv(variable, value)
    assert load_settings().model_dump() == parent.model_dump()


def documented():
    """Return what settings.toml says: values set, and the forms shown in comments."""
    text = (ROOT / "settings.toml").read_text()
    shown = re.sub(r"^# (\w+ = )", r"\1", text, flags=re.MULTILINE)
    return tomllib.loads(text), tomllib.loads(shown)


def test_settings_toml_lists_every_setting_with_its_default():
    """The file is the reference of all settings, so it must be complete and true."""
    values, shown = documented()
    listed = {(section, key) for section, keys in shown.items() for key in keys}
    assert listed == set(setting_keys())
    assert Settings(**values).model_dump() == Settings().model_dump()
    for section, key in setting_keys():
        default = getattr(getattr(Settings(), section), key)
        assert (key in values.get(section, {})) == (default is not None)


def test_the_forms_shown_in_settings_toml_are_valid():
    """Taking away a comment sign gives a setting that is accepted."""
    _values, shown = documented()
    shown["options"]["word_timestamps"] = True
    settings = Settings(**shown)
    assert settings.worker.active_hours == "22:00-06:00"
    assert settings.redis.url.get_secret_value() == shown["redis"]["url"]


def test_every_line_of_settings_toml_has_a_comment():
    """One comment line says what each setting is for."""
    lines = (ROOT / "settings.toml").read_text().splitlines()
    for before, line in itertools.pairwise(lines):
        if re.match(r"(# )?\w+ = ", line):
            assert re.match(r"# \S", before), line
            assert not re.match(r"# \w+ = ", before), line


def test_each_setting_has_a_variable():
    """The rule from key to variable is the documented one."""
    assert variable_of("queue.max_queued") == "SCRIBEFARM_QUEUE__MAX_QUEUED"


def numeric_settings():
    """Return (section, key, is a list) of every setting that holds numbers."""

    def holds_numbers(annotation):
        return annotation in {int, float} or any(map(holds_numbers, get_args(annotation)))

    found = []
    for section, key in setting_keys():
        default = getattr(Settings(), section)
        if holds_numbers(type(default).model_fields[key].annotation):
            found.append((section, key, isinstance(getattr(default, key), tuple)))
    return found


# What some options are refused without.
NEEDED = {
    "hallucination_silence_threshold": {"word_timestamps": True},
    "patience": {"beam_size": 5},
}


def numbers_in(value):
    return value if isinstance(value, tuple) else (value,)


def try_setting(section, key, value):
    """Return the numbers that a setting then has; none if the value was refused by name."""
    more = NEEDED.get(key, {})
    refused = None
    try:
        loaded = load_settings(**{section: {key: value, **more}})
    except InvalidSettings as error:
        refused = error
    if refused is None:
        return numbers_in(getattr(getattr(loaded, section), key))
    assert f"{section}." in str(refused)
    return ()


@settings(max_examples=400)
@given(
    st.sampled_from(numeric_settings()),
    st.one_of(
        st.floats(),
        st.integers(),
        st.sampled_from([math.nan, math.inf, -math.inf, "1e400", "nan", "-inf", 10**400, -1]),
    ),
)
def test_no_number_is_taken_that_is_not_finite_and_within_bounds(which, value):
    """Whatever is written, it is refused when settings are read, or computes."""
    section, key, is_list = which
    taken = try_setting(section, key, [value, value] if is_list else value)
    for number in taken:
        assert number in {None, "auto"} or math.isfinite(number)
        assert section == "options" or number in {None, "auto"} or 0 <= number <= 2**50


@pytest.mark.parametrize(("section", "key", "is_list"), numeric_settings())
@pytest.mark.parametrize("text", ["1e400", "NaN", "-Infinity", "-1e30", "1e300"])
def test_every_number_has_bounds_in_the_environment_too(monkeypatch, section, key, is_list, text):
    """A typing error of some zeros ends in a message, not in a worker that waits for ever."""
    value = json.dumps([json.loads(text)] * 2) if is_list else text
    monkeypatch.setenv(variable_of(f"{section}.{key}"), value)
    if section == "options":
        more = NEEDED.get(key, {})
        try:
            loaded = load_settings(options=more)
        except InvalidSettings:
            return
        assert all(map(math.isfinite, numbers_in(getattr(loaded.options, key))))
        return
    with pytest.raises(InvalidSettings, match=re.escape(f"{section}.{key}")):
        load_settings()


@pytest.mark.parametrize(
    ("key", "value", "limit"),
    [
        ("timezone", "Nowhere/Nothing", "must be an IANA name such as Europe/Berlin"),
        ("timezone", "../../etc/passwd", "must be an IANA name"),
        ("active_hours", "10 to 6", "must look like 22:00-06:00"),
        ("active_hours", "25:00-06:00", "hours are 00 to 23"),
        ("active_hours", "06:00-06:00", "must open and close at different times"),
    ],
)
def test_hours_and_zone_are_checked_when_settings_are_read(key, value, limit):
    """Not by a worker that has already loaded its model and then ends again and again."""
    with pytest.raises(InvalidSettings, match=limit) as caught:
        load_settings(worker={key: value})
    assert f"init: worker.{key}" in str(caught.value)
    assert value in str(caught.value)
