"""What a person runs on a machine: bench, doctor, models."""
