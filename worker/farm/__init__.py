"""Jobs, leases, fences and results in Redis. Never MLX."""
