"""Pages: nothing lost, nothing read ahead."""

from itertools import count

from producer.paging import pages


def test_the_last_page_is_shorter_and_an_empty_stream_has_none():
    """Order is kept."""
    assert list(pages(range(5), 2)) == [[0, 1], [2, 3], [4]]
    assert list(pages([], 2)) == []


def test_a_page_is_read_when_it_is_asked_for():
    """So a stream without an end is fine."""
    numbers = count()
    stream = pages(numbers, 3)
    assert next(stream) == [0, 1, 2]
    assert next(numbers) == 3
