"""Upper bounds of the histograms that the scripts keep, in seconds."""

# From submission to claim: a queue that is empty, a busy one, a night's, a week's.
WAIT_BOUNDS_S = (1, 5, 15, 60, 300, 900, 1800, 3600, 7200, 14_400, 28_800, 43_200, 86_400)
# From claim to end: a clip on a fast machine, an hour on a slow one.
JOB_BOUNDS_S = (1, 2, 5, 10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200)
