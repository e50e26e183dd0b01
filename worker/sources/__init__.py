"""From the source that a job names to a path on this machine. Never MLX, never the engine."""
