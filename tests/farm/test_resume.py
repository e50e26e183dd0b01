"""A long recording survives its worker: the real model, real processes, kill -9.

`python -m tests.chaos --real ../shared/data/audio/english` does the same with 13 minutes.
"""

import pytest

from tests.chaos.resume import join_recordings, kill_and_resume


@pytest.mark.slow
@pytest.mark.archive
@pytest.mark.weights
@pytest.mark.timeout(600)
def test_a_killed_workers_recording_is_resumed_past_the_checkpoint_with_the_same_text(
    tmp_path, shared_data
):
    """Two and a half minutes of speech; the peer decodes only what is left."""
    english = shared_data / "audio" / "english"
    recording = join_recordings(english, tmp_path / "joined.wav", 150)
    resumed = kill_and_resume(tmp_path, recording, timeout_s=250)
    assert resumed.resumed_text == resumed.peaceful_text
    assert len(resumed.resumed_text) > 1500
    assert resumed.checkpoint_s > 0
    assert resumed.windows_of_peer < resumed.windows_in_peace
