"""CUDA kernels of our own, compiled by NVRTC when they are first used; no other device runs them.

Each has a twin in MLX's own operations, which all other devices run (`step_kernels.py`, `layers.gelu`)
and against which it is tested on a GPU (`python -m tests.cuda`). MLX's own kernels for a decoder's
step are some 130 launches, and the engine's thread pays for each.
"""
