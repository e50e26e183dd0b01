"""Many recordings over one model, in one thread. Policy only: no MLX, no Redis."""
