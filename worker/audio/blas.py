"""The BLAS in NumPy's wheel, which starts a thread for each processor."""

import functools

import threadpoolctl


@functools.cache
def keep_blas_to_its_caller() -> None:
    """Let NumPy's BLAS multiply in the thread that asks, from now on and in the whole process.

    Threads of ours multiply beside each other, also those that read and listen beside a GPU: with
    threads of the BLAS's own they wait for each other in loops (16 cores beside an H200: 14.7 of
    them did nothing else).
    """
    for library in threadpoolctl.ThreadpoolController().lib_controllers:
        if "numpy" in library.filepath:
            library.set_num_threads(1)
