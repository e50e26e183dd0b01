"""Reads recordings of any format as 16 kHz samples. NumPy; never MLX or Redis."""
