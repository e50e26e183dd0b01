"""Greedy TDT decoding: rows of unrelated pieces advance together, many labels a host sync."""
