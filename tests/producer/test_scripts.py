"""Scripts: named arguments in, one atomic step, the answer out."""

import json

import pytest
import redis

from producer.scripts import LUA_FOLDER, Scripts
from producer.states import ENDED_BADLY, STATE_OF_RQ_STATUS


def test_arguments_come_by_name_and_bytes_behind_them(connection, tmp_path):
    """Text of any alphabet, numbers, lists, and bytes that are no text."""
    (tmp_path / "echo.lua").write_text("return {args.text, args.list[2], args.on and 1, ARGV[2]}")
    answer = Scripts(connection, tmp_path).run(
        "echo", b"\xff\0", text="Ü \U0001f399 \0", list=["a", 7], on=True
    )
    assert answer == ["Ü \U0001f399 \0".encode(), 7, 1, b"\xff\0"]


def test_an_argument_that_is_none_is_nil_in_lua(connection, tmp_path):
    """JSON's null would be true there."""
    (tmp_path / "none.lua").write_text("return type(args.batch)")
    assert Scripts(connection, tmp_path).run("none", batch=None) == b"nil"


def test_a_shared_file_stands_in_front_of_each_script(connection, tmp_path):
    """It sees the prelude, and the script sees both."""
    (tmp_path / "both.lua").write_text("local function double() return 2 * args.number end\n")
    (tmp_path / "use.lua").write_text("return double()")
    assert Scripts(connection, tmp_path, shared="both").run("use", number=21) == 42


def test_a_script_is_sent_once_and_again_to_a_server_that_forgot_it(connection, tmp_path):
    """A server that restarts has no scripts."""
    (tmp_path / "one.lua").write_text("return 1")
    scripts = Scripts(connection, tmp_path)
    assert scripts.run("one") == 1
    connection.script_flush()
    assert scripts.run("one") == 1


def test_an_error_in_a_script_is_an_error_of_the_server(connection, tmp_path):
    """Nothing is swallowed."""
    (tmp_path / "bad.lua").write_text("return redis.call('NOSUCH')")
    with pytest.raises(redis.ResponseError):
        Scripts(connection, tmp_path).run("bad")


def test_lua_and_python_agree_on_jobs_that_ended_badly(connection, tmp_path):
    """Submit and retry decide by them in the server, waiting and planning here."""
    code = "local names = {} for name in pairs(ENDED_BADLY) do names[#names + 1] = name end return names"
    (tmp_path / "ended.lua").write_text(code)
    assert {name.decode() for name in Scripts(connection, tmp_path).run("ended")} == ENDED_BADLY


def test_lua_and_python_agree_on_states(connection, tmp_path):
    """Counts and reports speak of ours, RQ of its own."""
    (tmp_path / "states.lua").write_text("return cjson.encode(STATE_OF)")
    assert json.loads(Scripts(connection, tmp_path).run("states")) == STATE_OF_RQ_STATUS


def test_a_stamp_is_read_back_as_it_was_written(connection, tmp_path):
    """Also of leap days; what is no stamp is none."""
    code = """
    local times = {0, 951782399.25, 951827696.5, 1709164800, 1764000000.123456, 4107542400}
    for _, time in ipairs(times) do
      if math.abs(seconds_of(stamp(time)) - time) > 1e-6 then return time end
    end
    for _, text in ipairs({'', 'x', '2026-11-24', '2026-11-24 07:00:00Z', false}) do
      if seconds_of(text) then return text end
    end
    return "ok"
    """
    (tmp_path / "times.lua").write_text(code)
    assert Scripts(connection, tmp_path).run("times") == b"ok"


def test_the_lua_files_are_part_of_the_package():
    """They are read from the package's folder."""
    assert {path.stem for path in LUA_FOLDER.glob("*.lua")} == {
        "prelude",
        "submit",
        "cancel",
        "requeue",
        "counts",
        "ended",
        "survey",
        "taken_over",
        "read_counts",
        "start_run",
        "end_submission",
        "metrics",
        "roster",
        "workers",
        "lost",
        "pause_worker",
        "pause_farm",
        "scrape",
        "take_room",
    }
