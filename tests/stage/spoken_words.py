"""Words with times for tests, short to write, and as the stored vectors describe them."""

from worker.models.whisper.word_timing import WordTiming


def timing(word, start=0.0, end=0.3, probability=0.9, tokens=(1,)):
    """Return one word."""
    return WordTiming(word, tuple(tokens), start, end, probability)


def timings(stored):
    """Return the words of a stored alignment."""
    return [timing(word, start, end, p, tokens) for word, tokens, start, end, p in stored]


def described(words):
    """Return words as the stored vectors hold them."""
    return [[word.word, word.start, word.end, word.probability] for word in words]
