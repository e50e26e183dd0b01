"""A source that a job names becomes a local path."""
