"""What Prometheus scrapes: counters that the scripts keep, and how the farm stands now."""
