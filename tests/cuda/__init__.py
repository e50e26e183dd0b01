"""CUDA's own kernels against their twins; a GPU of NVIDIA's is needed: `python -m tests.cuda`."""
