"""The BLAS in NumPy's wheel, which starts a thread for each processor at every product."""

import functools

import threadpoolctl


@functools.cache
def keep_blas_to_its_caller() -> None:
    """Let NumPy multiply in the thread that asks, from now on and in the whole process.

    Our threads multiply beside each other: with threads of the BLAS's own they wait for each other
    in loops (16 cores: 14.7 of them did nothing else, and reading took seven times as long).
    """
    for library in threadpoolctl.ThreadpoolController().lib_controllers:
        if "numpy" in library.filepath:
            library.set_num_threads(1)
