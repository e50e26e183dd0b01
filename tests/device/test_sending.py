"""Numbers on their way to the device, with a device that is slow; CUDA's own way: tests/cuda."""

from collections import deque
from types import SimpleNamespace

import mlx.core as mx
import numpy as np
import pytest

from worker.device import sending
from worker.device.sending import PinnedRing, send, send_written


class SlowDevice:
    """Reads the host's memory only when somebody waits for it, in the order it was asked to."""

    def __init__(self, memory):
        self._memory, self._waiting = memory, deque()
        self.num_waits = 0

    def read(self, address, count):
        first = (address - self._memory.ctypes.data) // 4
        assert (address - self._memory.ctypes.data) % 16 == 0
        assert first + count <= self._memory.size
        sent = SimpleNamespace(value=None, span=slice(first, first + count))
        sent.reshape = lambda shape: SimpleNamespace(sent=sent, shape=shape)
        self._waiting.append(sent)
        return sent

    def eval(self, sent):
        self.num_waits += 1
        while sent.value is None:
            each = self._waiting.popleft()
            each.value = self._memory[each.span].copy()


@pytest.fixture
def ring(monkeypatch):
    """Return a ring of 64 numbers before a slow device, and the device."""
    device = SlowDevice(np.zeros(64, np.float32))
    monkeypatch.setattr(mx, "async_eval", lambda sent: None)
    monkeypatch.setattr(mx, "eval", device.eval)
    return PinnedRing(device._memory, device.read), device


def copied(ring, numbers):
    """Send numbers that are copied into the ring."""
    return ring.send(numbers.shape, lambda memory: np.copyto(memory, numbers))


def test_what_the_device_has_yet_to_read_is_not_written_over(ring):
    """Many sizes, round and round; the sender's own memory is used again at once."""
    ring, device = ring
    choose, held = np.random.default_rng(0), np.empty(32, np.float32)
    sent = []
    for size in choose.integers(1, 33, 400).tolist():
        numbers = choose.random(size, np.float32)
        held[:size] = numbers
        sent.append((copied(ring, held[:size]), numbers))
    for found, numbers in sent:
        device.eval(found.sent)
        assert np.array_equal(found.sent.value, numbers)


def test_nobody_waits_while_there_is_room(ring):
    """Four times a quarter of the ring; the fifth waits for the first."""
    ring, device = ring
    for _ in range(4):
        copied(ring, np.ones(16, np.float32))
    assert device.num_waits == 0
    copied(ring, np.ones(16, np.float32))
    assert device.num_waits == 1


def test_what_is_sent_keeps_its_shape(ring):
    """A batch of pieces is sent at once."""
    ring, _ = ring
    assert copied(ring, np.zeros((2, 3, 5), np.float32)).shape == (2, 3, 5)


@pytest.mark.parametrize("size", [0, 33])
def test_what_is_too_large_or_nothing_goes_mlx_s_way(ring, size):
    """More than half of the ring would wait for all that is under way."""
    ring, _ = ring
    found = copied(ring, np.arange(size, dtype=np.float32))
    assert isinstance(found, mx.array)
    assert np.array_equal(np.array(found), np.arange(size))


def test_elsewhere_mlx_takes_them():
    """A Mac's GPU reads what the processor writes; the memory may be used again at once."""
    held = np.arange(6, dtype=np.float32)
    found = send(held.reshape(2, 3))
    held[:] = 0
    assert np.array_equal(np.array(found), [[0, 1, 2], [3, 4, 5]])


def test_elsewhere_mlx_takes_what_is_written():
    """Nothing is kept of the memory that was written to."""
    written = []
    found = send_written((2, 3), lambda memory: [memory.fill(7), written.append(memory)])
    written[0].fill(0)
    assert np.array_equal(np.array(found), [[7] * 3] * 2)


def test_without_pinned_memory_mlx_takes_them(monkeypatch):
    """The driver may have none to give."""
    driver = SimpleNamespace(cuMemHostAlloc=lambda *_: 2)
    monkeypatch.setattr(sending.ctypes, "CDLL", lambda _: driver)
    monkeypatch.setattr(sending, "on_cuda", lambda: True)
    sending._ring.cache_clear()
    try:
        assert np.array_equal(np.array(send(np.ones(3, np.float32))), [1, 1, 1])
        assert np.array_equal(np.array(send_written((2,), lambda memory: memory.fill(2))), [2, 2])
        assert sending._ring() is None
    finally:
        sending._ring.cache_clear()
