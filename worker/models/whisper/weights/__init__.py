"""Whisper weights from every format they are published in."""
