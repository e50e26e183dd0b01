"""A recording's file becomes 16 kHz samples, in threads of their own. NumPy; no MLX, no Redis."""
