"""Parakeet weights from every layout they are published in."""
