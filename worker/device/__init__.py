"""MLX: the fused batched decode, sampling, logit rules, memory."""
