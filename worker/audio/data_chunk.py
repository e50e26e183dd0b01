"""How many bytes of samples a file's header declares: WAV, RF64, W64, AIFF, AU.

libsndfile and FFmpeg both lower the declared length to what the file holds and go on, so a
cut-off copy would become a shorter transcript. Therefore the header is read here.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass

# Sizes that streaming programs write instead of the real one: all ones, or just below 2 GiB or
# 4 GiB (sox: 0x7FFFF000).
_UNKNOWN_LENGTH_NEAR = (2**31, 2**32)
_UNKNOWN_LENGTH_SLACK_BYTES = 4096
# Real files have tens of chunks; a damaged one can hold millions of empty ones.
_MAX_CHUNKS = 1_000


@dataclass(frozen=True)
class DataChunk:
    """The part of a file that holds the samples.

    Attributes:
        declared_bytes: Size in the header; None if the header marks it as unknown.
        available_bytes: From the first sample to the end of the file.
    """

    declared_bytes: int | None
    available_bytes: int

    @property
    def is_cut_off(self) -> bool:
        """Return whether the file ends before its samples do."""
        return self.declared_bytes is not None and self.declared_bytes > self.available_bytes


@dataclass(frozen=True)
class _Chunk:
    name: bytes
    start: int
    num_bytes: int


def find_data_chunk(fd: int) -> DataChunk | None:
    """Find the samples by the file's chunk headers; None if its format has no such header.

    Raises:
        OSError: the disk or share did not answer.
    """
    file_bytes = os.fstat(fd).st_size
    magic = os.pread(fd, 16, 0)
    if magic[:4] in (b"RIFF", b"RIFX", b"RF64") and magic[8:12] == b"WAVE":
        return _find_in_riff(fd, file_bytes, magic)
    if magic[:4] == b"FORM" and magic[8:12] in (b"AIFF", b"AIFC", b"8SVX", b"16SV"):
        chunks = _walk(fd, file_bytes, start=12, name_bytes=4, size_bytes=4, order="big", align=2)
        return _first(chunks, (b"SSND", b"BODY"), file_bytes)
    if magic[:4] == b"riff":
        chunks = _walk(
            fd, file_bytes, start=40, name_bytes=16, size_bytes=8, order="little", align=8
        )
        return _first(chunks, (b"data",), file_bytes)
    if magic[:4] in (b".snd", b"dns."):
        order = "big" if magic[:1] == b"." else "little"
        start = _number(magic[4:8], order)
        return _data(_Chunk(b"data", start, _number(magic[8:12], order)), file_bytes)
    return None


def _find_in_riff(fd: int, file_bytes: int, magic: bytes) -> DataChunk | None:
    order = "big" if magic[:4] == b"RIFX" else "little"
    size_64 = None
    for chunk in _walk(fd, file_bytes, start=12, name_bytes=4, size_bytes=4, order=order, align=2):
        if chunk.name == b"ds64":
            size_64 = _number(os.pread(fd, 8, chunk.start + 8), order)
        if chunk.name != b"data":
            continue
        if size_64 is not None and chunk.num_bytes == 2**32 - 1:
            return DataChunk(size_64, max(0, file_bytes - chunk.start))
        riff_bytes = _number(magic[4:8], order)
        is_unfinished = riff_bytes + 8 <= chunk.start or riff_bytes == 2**32 - 1
        if chunk.num_bytes == 0 and is_unfinished:  # the recorder stopped before it wrote sizes
            return DataChunk(None, max(0, file_bytes - chunk.start))
        return _data(chunk, file_bytes)
    return None


def _first(chunks: Iterator[_Chunk], names: tuple[bytes, ...], file_bytes: int) -> DataChunk | None:
    return next((_data(chunk, file_bytes) for chunk in chunks if chunk.name in names), None)


def _data(chunk: _Chunk, file_bytes: int) -> DataChunk:
    available_bytes = max(0, file_bytes - chunk.start)
    is_unknown = any(
        limit - _UNKNOWN_LENGTH_SLACK_BYTES <= chunk.num_bytes < limit + 1
        for limit in _UNKNOWN_LENGTH_NEAR
    )
    if is_unknown and chunk.num_bytes > available_bytes:
        return DataChunk(None, available_bytes)
    return DataChunk(chunk.num_bytes, available_bytes)


def _walk(
    fd: int,
    file_bytes: int,
    *,
    start: int,
    name_bytes: int,
    size_bytes: int,
    order: str,
    align: int,
) -> Iterator[_Chunk]:
    """Yield the chunks of a file.

    W64, known by its names of 16 bytes, counts a chunk's header in its size; the others do not.
    """
    header_bytes = name_bytes + size_bytes
    counted_bytes = header_bytes if name_bytes > 4 else 0  # noqa: PLR2004
    for _ in range(_MAX_CHUNKS):
        header = os.pread(fd, header_bytes, start)
        if len(header) < header_bytes or start >= file_bytes:
            return
        num_bytes = max(0, _number(header[name_bytes:], order) - counted_bytes)
        start += header_bytes
        yield _Chunk(header[:4], start, num_bytes)
        start += num_bytes + -num_bytes % align


def _number(field: bytes, order: str) -> int:
    return int.from_bytes(field, "big" if order == "big" else "little")
