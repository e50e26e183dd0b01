"""The light side of scribefarm: enqueue recordings, read transcripts."""
