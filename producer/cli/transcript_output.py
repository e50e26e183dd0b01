"""Where `transcribe` puts texts: on stdout, or into a folder in one file a format."""

from collections.abc import Iterable
from pathlib import Path

from producer.cli.recordings import Recording
from producer.console import emit, note, one_line
from producer.formats import FORMATS, FormatOptions
from producer.output_files import OutputStems, output_errors, output_path, write_whole
from producer.result import Transcript


class TranscriptOutput:
    """Prints or writes transcripts, in formats that are known.

    Args:
        formats: Names of output formats; several need a folder.
        options: How subtitles are broken.
        folder: Where files are written; None prints.
        recordings: All that will come; with more than one, each printed text has a title.
    """

    def __init__(
        self,
        formats: tuple[str, ...],
        options: FormatOptions,
        folder: Path | None,
        recordings: Iterable[Recording],
    ) -> None:
        self._formats = formats
        self._options = options
        self._folder = folder
        names = [recording.name for recording in recordings]
        self._with_titles = len(names) > 1
        self._lacks_words = False
        with OutputStems(names) as stems:
            self._stems = {name: stems.of(name) for name in names}

    def put(self, recording: Recording, transcript: Transcript) -> None:
        """Print the transcript of a recording, or write its files.

        Raises:
            OutputFailed: a file cannot be written.
        """
        self._check_words(transcript)
        for name in self._formats:
            text = FORMATS[name](transcript, self._options)
            if self._folder is None:
                title = f"==> {one_line(recording.title)} <==\n" if self._with_titles else ""
                emit(title + text)
                continue
            target = output_path(self._folder, self._stems[recording.name], name)
            with output_errors("transcribe", target):
                write_whole(target, text, within=self._folder, overwrite=True)
            note(f"wrote {target}")

    def _check_words(self, transcript: Transcript) -> None:
        """Say once what becomes of subtitles by words of which no times are there."""
        by_words = self._options.max_words_per_line or self._options.highlight_words
        if not by_words or self._lacks_words:
            return
        if any(segment.words is None for segment in transcript.segments):
            self._lacks_words = True
            note(
                "without --words no word is underlined, and subtitles are broken by times shared among words"
            )
