"""Active hours with a fake clock: over midnight, both daylight-saving changes, other time zones."""

import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.active_hours import is_active, next_change
from producer.errors import InvalidSettings

BERLIN = "Europe/Berlin"


def berlin(*wall, fold=0):
    return datetime(*wall, tzinfo=ZoneInfo(BERLIN), fold=fold)


@pytest.fixture
def machine_in_tokyo(monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("hour", "minute", "active"),
    [(21, 59, False), (22, 0, True), (0, 0, True), (5, 59, True), (6, 0, False), (12, 0, False)],
)
def test_a_window_over_midnight_is_open_on_both_sides_of_it(hour, minute, active):
    """The opening minute is in, the closing minute is out."""
    now = berlin(2025, 1, 15, hour, minute)
    assert is_active("22:00-06:00", BERLIN, now) is active


def test_a_window_within_a_day_is_closed_at_night():
    """09:00-17:00 does not run over midnight; 24:00 closes at midnight."""
    assert is_active("09:00-17:00", BERLIN, berlin(2025, 1, 15, 9, 0))
    assert not is_active("09:00-17:00", BERLIN, berlin(2025, 1, 15, 17, 0))
    assert is_active("18:00-24:00", BERLIN, berlin(2025, 1, 15, 23, 59))
    assert not is_active("18:00-24:00", BERLIN, berlin(2025, 1, 16, 0, 0))


def test_without_a_spec_the_farm_always_works():
    """No active hours: always active, and nothing ever changes."""
    now = datetime(2025, 1, 1, tzinfo=UTC)
    assert is_active(None, None, now)
    assert next_change(None, None, now) is None


def test_the_next_change_is_the_end_of_an_open_window_or_the_start_of_the_next():
    """Inside the window it closes next, outside it opens next."""
    assert next_change("22:00-06:00", BERLIN, berlin(2025, 1, 15, 23, 0)) == berlin(2025, 1, 16, 6)
    assert next_change("22:00-06:00", BERLIN, berlin(2025, 1, 15, 12, 0)) == berlin(2025, 1, 15, 22)


def test_a_night_is_an_hour_shorter_when_clocks_jump_forward():
    """2025-03-30 in Berlin, 02:00 becomes 03:00: 22:00-06:00 lasts seven hours."""
    opens = berlin(2025, 3, 29, 22, 0).astimezone(UTC)
    assert next_change("22:00-06:00", BERLIN, opens) - opens == timedelta(hours=7)


def test_a_night_is_an_hour_longer_when_clocks_fall_back():
    """2025-10-26 in Berlin, 03:00 becomes 02:00: 22:00-06:00 lasts nine hours."""
    opens = berlin(2025, 10, 25, 22, 0).astimezone(UTC)
    assert next_change("22:00-06:00", BERLIN, opens) - opens == timedelta(hours=9)


def test_a_window_that_opens_in_the_skipped_hour_opens_at_the_jump():
    """02:30 does not exist on 2025-03-30: the window opens at 03:00 summer time, 01:00 UTC."""
    jump = datetime(2025, 3, 30, 1, 0, tzinfo=UTC)
    assert not is_active("02:30-06:00", BERLIN, jump - timedelta(seconds=1))
    assert is_active("02:30-06:00", BERLIN, jump)
    assert next_change("02:30-06:00", BERLIN, jump - timedelta(hours=2)) == jump


def test_a_window_within_the_skipped_hour_does_not_open_that_day():
    """02:15-02:45 is swallowed on 2025-03-30 and opens again on the next day."""
    before = datetime(2025, 3, 30, 0, 0, tzinfo=UTC)
    assert next_change("02:15-02:45", BERLIN, before) == berlin(2025, 3, 31, 2, 15)


def test_a_window_does_not_open_or_close_twice_in_the_repeated_hour():
    """On 2025-10-26 02:30 is shown twice in Berlin; the first time counts."""
    first, second = berlin(2025, 10, 26, 2, 30), berlin(2025, 10, 26, 2, 15, fold=1)
    assert is_active("02:30-06:00", BERLIN, first)
    assert is_active("02:30-06:00", BERLIN, second)
    assert not is_active("22:00-02:30", BERLIN, first)
    assert not is_active("22:00-02:30", BERLIN, second)


def test_daylight_saving_of_the_southern_hemisphere_is_followed():
    """In Sydney clocks jump forward on 2025-10-05: the night has seven hours there."""
    opens = datetime(2025, 10, 4, 22, 0, tzinfo=ZoneInfo("Australia/Sydney")).astimezone(UTC)
    assert next_change("22:00-06:00", "Australia/Sydney", opens) - opens == timedelta(hours=7)


@pytest.mark.usefixtures("machine_in_tokyo")
def test_a_named_time_zone_wins_over_the_machines():
    """At 22:00 in Berlin it is 06:00 in Tokyo, where the machine stands."""
    now = berlin(2025, 1, 15, 22, 0)
    assert is_active("22:00-06:00", BERLIN, now)
    assert not is_active("22:00-06:00", None, now)
    assert is_active("06:00-07:00", None, now)


def test_the_machines_own_daylight_saving_is_followed(monkeypatch):
    """Without a named zone the machine's zone counts, its jumps included."""
    monkeypatch.setenv("TZ", BERLIN)
    time.tzset()
    try:
        jump = datetime(2025, 3, 30, 1, 0, tzinfo=UTC)
        assert next_change("02:30-06:00", None, jump - timedelta(hours=2)) == jump
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    "spec", ["", "22-06", "22:00", "25:00-06:00", "22:60-06:00", "6:00-7:00", "22:00-22:00"]
)
def test_a_spec_that_is_not_understood_is_refused_by_name(spec):
    """The error names the setting and the value."""
    with pytest.raises(InvalidSettings, match=r"worker\.active_hours") as caught:
        is_active(spec, None, datetime.now(UTC))
    assert caught.value.value == spec


@pytest.mark.parametrize("timezone", ["Mars/Olympus", "", "../etc/passwd"])
def test_an_unknown_time_zone_is_refused_by_name(timezone):
    """The error names the setting and the value."""
    with pytest.raises(InvalidSettings, match=r"worker\.timezone"):
        is_active("22:00-06:00", timezone, datetime.now(UTC))


@given(
    minutes=st.integers(0, 2 * 366 * 24 * 60),
    opens=st.integers(0, 24 * 60 - 1),
    closes=st.integers(0, 24 * 60 - 1),
    zone=st.sampled_from([BERLIN, "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"]),
)
def test_activity_turns_over_exactly_at_the_next_change(minutes, opens, closes, zone):
    """Until the next change nothing changes, and at it `is_active` flips."""
    if opens == closes:
        closes = (closes + 1) % (24 * 60)
    spec = f"{opens // 60:02d}:{opens % 60:02d}-{closes // 60:02d}:{closes % 60:02d}"
    now = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(minutes=minutes)
    change = next_change(spec, zone, now)
    assert change > now
    assert is_active(spec, zone, change - timedelta(seconds=1)) is is_active(spec, zone, now)
    assert is_active(spec, zone, change) is not is_active(spec, zone, now)
