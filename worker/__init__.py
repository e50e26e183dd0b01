"""The heavy side of scribefarm: one pinned MLX speech model that turns recordings into text."""
