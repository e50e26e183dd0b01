"""A minute of chaos; `make chaos` runs more of it."""

import pytest

from tests.chaos.run import Chaos
from tests.chaos.surroundings import Surroundings


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_minute_of_kills_freezes_and_lost_replies_loses_nothing_and_repeats_no_commit(tmp_path):
    """Three workers, 1,500 jobs, every kind of fault: one right result each, whatever dies."""
    report = Chaos(tmp_path, num_jobs=1500, seed=1).run(limit_s=240, faults_for_s=45)
    print(report.table())
    assert report.problems == []
    assert report.results == 1500
    # How many there are depends on how fast the machine is done; each kind must have struck.
    assert {"kill -9", "SIGTERM", "SIGSTOP", "server kill -9", "server freeze"} <= set(
        report.faults
    )
    assert report.lost_replies > 0
    # `problems` holds the last one to results and events.
    assert report.scrapes - report.scrapes_without_server > 20


@pytest.mark.slow
@pytest.mark.timeout(420)
def test_a_minute_of_bad_shares_disks_clocks_and_models_gives_every_right_text(tmp_path):
    """Four workers of two models: one right text a job; what cannot be done here is named."""
    outcome = Surroundings(tmp_path, num_files=60, seed=1).run(limit_s=360, faults_for_s=45)
    print(outcome.table())
    assert outcome.problems == []
    assert outcome.succeeded == {"toy-english": 60, "toy-german": 60}
    assert {"kill -9", "other model"} <= set(outcome.faults)
