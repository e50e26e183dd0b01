"""A pytest plugin that starts the tests as the worker starts itself: with an optimised BLAS.

It is loaded with `-p`, before pytest redirects the output, since the program starts anew.
"""

import os

from worker.device import blas

blas.preload()
# Only this process computes; programs that the tests start choose for themselves.
if "openblas" in os.environ.get("LD_PRELOAD", ""):
    del os.environ["LD_PRELOAD"]
