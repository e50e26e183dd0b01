"""Ask the servers of a page of addresses which versions they have, a few at a time."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from producer.archive.find import Found, FoundAddress
from producer.errors import ScribefarmError
from producer.settings import AudioSettings
from producer.source import SourceVersion
from producer.versions import source_version

# Asked at once: enough to hide a server's latency, few enough to be no burden.
_THREADS = 8


def ask_versions(
    found: Iterable[Found], settings: AudioSettings
) -> dict[str, SourceVersion | ScribefarmError]:
    """Return by address what each server says of its recording, or what is wrong with it."""
    addresses = {item.address: item.version for item in found if isinstance(item, FoundAddress)}
    if not addresses:
        return {}

    def ask(address: str) -> SourceVersion | ScribefarmError:
        try:
            return addresses[address] or source_version(address, settings)
        except ScribefarmError as error:
            return error

    with ThreadPoolExecutor(_THREADS) as threads:
        return dict(zip(addresses, threads.map(ask, addresses), strict=True))
