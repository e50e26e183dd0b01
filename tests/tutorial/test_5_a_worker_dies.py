"""5. A worker dies: its recording is not lost, not done twice, and not begun anew.

Server, queue, farm workers and processes are real; a fake engine makes a long recording short.
"""

import signal

from producer.keys import checkpoint_key
from producer.queue import read_result
from tests.stage.fake_engine import FakeEngine, expected_text, job
from tests.stage.farm import wait_until


def test_a_peer_goes_on_where_the_killed_worker_was(farm, connection):
    """Lease, checkpoint, fence: what each of the three is for."""
    # In this farm a worker that is silent for a second counts as dead.
    farm.configure(lease_s=1.0, heartbeat_s=0.2, reap_s=0.2)

    # A long recording: 40 windows of 30 seconds. A worker of its own process takes it.
    victim = farm.start_process()
    talk = job("talk", windows=40, window_s=0.1)
    (job_id,) = farm.submit(talk)

    # With each heartbeat it renews its lease and stores how far it is: the checkpoint.
    wait_until(lambda: connection.exists(checkpoint_key(job_id)))

    # kill -9, a power cut, a closed lid: no worker says goodbye. For now nobody knows of it.
    fence = farm.field(job_id, "fence")
    victim.signal(signal.SIGKILL)
    assert victim.wait() == -signal.SIGKILL
    assert (farm.state(job_id), read_result(connection, job_id)) == ("started", None)

    # A peer looks after the others. When the lease has ended, it takes the recording up, with a
    # fence of its own: had the victim only slept, it could not commit any more.
    engine = FakeEngine()
    farm.start(engine)
    result = farm.result(job_id)
    assert farm.field(job_id, "fence") != fence

    # It did not begin anew: windows before the checkpoint came with it. The text is whole.
    (ticket,) = engine.seen
    assert ticket.checkpoint is not None
    assert result.timing.windows == 40 - len(ticket.checkpoint.segments)
    assert result.text == expected_text(talk.source)

    # One result, one event, and nothing is left behind.
    assert farm.commits() == {job_id: 1}
    wait_until(lambda: farm.leftovers() == [])
