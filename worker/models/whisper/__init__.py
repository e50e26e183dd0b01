"""Whisper: its network, its seek loop, its tokens and times."""
