"""What a request may name as a recording: an address, a path below `audio.roots`, an uploaded file."""

import os
from pathlib import Path
from typing import Any

from producer.archive.find import Problem, checked, path_to_source
from producer.archive.hash_cache import HashCache
from producer.errors import InvalidOptions, SourceForbidden
from producer.plain_json import is_text
from producer.roots import within_roots
from producer.settings import Settings
from producer.source import is_foreign, is_prefix, is_remote
from producer.versions import source_version
from producer.web.api.records import FileRecord, Files

_FILE_ID = "file-"


class Recordings:
    """Finds the recordings that requests name; for one thread."""

    def __init__(self, settings: Settings, files: Files, cache: HashCache) -> None:
        self._settings, self._files, self._cache = settings, files, cache

    def find(self, named: str) -> dict[str, Any]:
        """Return the fields of a job that say where the audio is, and which it is.

        Raises:
            SourceForbidden: a path outside audio.roots, or there are none.
            JobNotFound: an uploaded file that is not there any more.
            InvalidOptions: nothing that a recording can be.
            ScribefarmError: it cannot be read, or its server does not give it.
        """
        if named.startswith(_FILE_ID):
            return self._upload(self._files.get(named))
        if is_prefix(named) or is_foreign(named) or not is_text(named):
            must = "must be a file id, a path below audio.roots, or an http(s):// or s3:// address"
            raise InvalidOptions("file", must, named[:200])
        if is_remote(named):
            return {"source": named, "version": source_version(named, self._settings.audio)}
        return self._path(named)

    def _upload(self, record: FileRecord) -> dict[str, Any]:
        if record.purpose != "user_data":
            raise InvalidOptions("file", "must be of purpose user_data", record.purpose)
        return {"source": record.source, "audio_sha256": record.sha256}

    def _path(self, named: str) -> dict[str, Any]:
        roots = self._settings.audio.roots
        if not roots:
            raise SourceForbidden("file", "needs audio.roots: paths are taken below them alone")
        if not named.startswith("/") or "\0" in named:
            raise InvalidOptions("file", "a path must be whole, from / on", named[:200])
        # Links are resolved to see where they lead; workers get the path as it was named.
        within_roots(named, roots)
        usable = checked(Path(os.path.normpath(named)))
        if isinstance(usable, Problem):
            raise usable.error
        within_roots(str(usable), roots)
        sha256 = self._cache.look_up(usable).sha256
        return {"source": path_to_source(usable), "audio_sha256": sha256}
