"""Seeds for the samples of one job."""

import hashlib


def derive_seed(seed: int, *path: int) -> int:
    """Return a 64-bit seed for one branch of a job: its window, attempt, candidate.

    Unlike sums of small numbers, no two paths of one job or of neighbouring seeds share a stream.
    """
    text = ",".join(str(part) for part in (seed, *path))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
