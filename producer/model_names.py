"""The names by which people ask for models, and the one name by which the farm knows each.

A job waits in the queue of its model's name, so producer and worker must write it alike whatever
either was given: `turbo` and `large-v3-turbo` are both mlx-community/whisper-large-v3-turbo.
"""

import re
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from producer.errors import InvalidOptions

# A slip of the keyboard is nearer than this; of what is farther away nobody can say what was meant.
_NEAR = 0.75
# As Distil-Whisper names its models, and as others name conversions of these very ones.
_DISTILLED = re.compile(
    r"(distil-whisper|mlx-community|Systran)/(faster-)?distil-(whisper-)?"
    r"(large-v[23](\.5)?|(small|medium)\.en)(-(ct2|mlx|openai))?"
)


class KnownModel(NamedTuple):
    """A model that people ask for by a short name.

    Attributes:
        name: What the worker loads: a packaged name or a hub id.
        num_languages: How many it transcribes; 1 is English.
        num_parameters: In millions, as its publisher states.
        licence: Of the weights, as their publisher states.
        attribution: Whom the licence asks to name; "" if nobody.
        family: Of the model: `whisper` or `parakeet`.
        parameter_bytes: Of each parameter as it is downloaded: 2 is half precision, 4 float32.
    """

    name: str
    num_languages: int
    num_parameters: int
    licence: str = "MIT"
    attribution: str = ""
    family: str = "whisper"
    parameter_bytes: int = 2

    @property
    def num_bytes(self) -> int:
        """About what is downloaded."""
        return 1_000_000 * self.parameter_bytes * self.num_parameters


_MLX = "mlx-community/whisper-"
_TURBO = KnownModel(f"{_MLX}large-v3-turbo", 100, 809)
_LARGE_V3 = KnownModel(f"{_MLX}large-v3-mlx", 100, 1550)

_PARAKEET_TDT = "mlx-community/parakeet-tdt-0.6b"
# Post-trained from v3: the same network, vocabulary and 25 languages, fewer errors in all of them
# (on its card and in transcribe.cpp's measurements), and a head that hears where to cut.
_ULTRA = KnownModel(
    "moondream/parakeet-ultra",
    25,
    627,
    "CC-BY-4.0",
    "Moondream (Parakeet Ultra), after NVIDIA (Parakeet TDT 0.6B v3)",
    "parakeet",
    4,
)
_PARAKEET_EN = KnownModel(
    f"{_PARAKEET_TDT}-v2", 1, 618, "CC-BY-4.0", "NVIDIA (Parakeet TDT 0.6B v2)", "parakeet", 4
)

# By the names of openai-whisper and faster-whisper. tiny.en and base come as Python packages; the
# others are MLX conversions, named on
# https://huggingface.co/collections/mlx-community/whisper-663256f9964fbb1177db93dc, and where there
# is none in MLX's format those which faster-whisper loads by the same name (faster_whisper/utils.py).
# Sizes are of https://github.com/openai/whisper#available-models-and-languages and
# https://github.com/huggingface/distil-whisper.
KNOWN_MODELS = MappingProxyType(
    {
        "tiny": KnownModel(f"{_MLX}tiny-mlx", 99, 39),
        "tiny.en": KnownModel("tiny.en", 1, 39),
        "base": KnownModel("base", 99, 74),
        "base.en": KnownModel(f"{_MLX}base.en-mlx", 1, 74),
        "small": KnownModel(f"{_MLX}small-mlx", 99, 244),
        "small.en": KnownModel(f"{_MLX}small.en-mlx", 1, 244),
        "medium": KnownModel(f"{_MLX}medium-mlx", 99, 769),
        "medium.en": KnownModel(f"{_MLX}medium.en-mlx", 1, 769),
        "large-v1": KnownModel(f"{_MLX}large-v1-mlx", 99, 1550),
        "large-v2": KnownModel(f"{_MLX}large-v2-mlx", 99, 1550),
        "large-v3": _LARGE_V3,
        "large": _LARGE_V3,
        "large-v3-turbo": _TURBO,
        "turbo": _TURBO,
        "distil-small.en": KnownModel("Systran/faster-distil-whisper-small.en", 1, 166),
        "distil-medium.en": KnownModel("mlx-community/distil-whisper-medium.en", 1, 394),
        "distil-large-v2": KnownModel("Systran/faster-distil-whisper-large-v2", 1, 756),
        "distil-large-v3": KnownModel("mlx-community/distil-whisper-large-v3", 1, 756),
        "distil-large-v3.5": KnownModel("distil-whisper/distil-large-v3.5-ct2", 1, 756),
        # NVIDIA's transducers; v2 and v3 as converted for MLX.
        "parakeet": _ULTRA,
        "parakeet-ultra": _ULTRA,
        "parakeet-v3": KnownModel(
            f"{_PARAKEET_TDT}-v3",
            25,
            627,
            "CC-BY-4.0",
            "NVIDIA (Parakeet TDT 0.6B v3)",
            "parakeet",
            4,
        ),
        "parakeet-en": _PARAKEET_EN,
        "parakeet-v2": _PARAKEET_EN,
    }
)


def canonical_model(name: str) -> str:
    """Return the name by which the farm knows a model.

    Known names, in any case, become what the worker loads; hub ids, folders and words that are
    like no known name stay as they are. A folder of this machine may be named like a model; one
    that has a known name itself is written with a slash.

    Raises:
        InvalidOptions: a word that is no known name, but nearly one.
    """
    word = name.strip().lower()
    if word in KNOWN_MODELS:
        return KNOWN_MODELS[word].name
    if "/" in name or name.startswith((".", "~")):
        return name
    bare = word.removeprefix("openai-").removeprefix("whisper-").replace("_", "-")
    close = get_close_matches(bare, KNOWN_MODELS, n=1, cutoff=_NEAR)
    if close and not _is_folder(name):
        advice = f"did you mean {close[0]}? A folder is written with a slash, like ./NAME"
        raise InvalidOptions("model", f"must be a known name; {advice}", name)
    return name


def check_model(name: str) -> str:
    """Return `canonical_model` of a name that a person typed here: other words must be folders here.

    Raises:
        InvalidOptions: the word is neither a known name, a hub id, a path nor a folder.
    """
    found = canonical_model(name)
    is_word = "/" not in found and not found.startswith((".", "~"))
    if is_word and found not in KNOWN_MODELS and not _is_folder(found):
        known = ", ".join(KNOWN_MODELS)
        raise InvalidOptions("model", f"must be one of {known}, a hub id or a folder", name)
    return found


def short_names(model: str) -> list[str]:
    """Return the known names that stand for a model."""
    return [name for name, known in KNOWN_MODELS.items() if known.name == model]


def is_path(model: str) -> bool:
    """Return whether a model's name is that of a folder or a file, and of nothing else."""
    return model.startswith(("/", ".", "~"))


def may_be_whisper(model: str) -> bool:
    """Return whether a model may be a Whisper: its name is not that of another family."""
    known = next((known for known in KNOWN_MODELS.values() if known.name == model), None)
    return known.family == "whisper" if known else "parakeet" not in model.lower()


def knows_english_alone(model: str) -> bool:
    """Return whether a model's name says so, as OpenAI's do and those made of them.

    Like tiny.en, openai/whisper-small.en, mlx-community/whisper-base.en-mlx and
    distil-whisper/distil-large-v3, whatever its vocabulary; a folder may be named as it likes.
    Of Parakeet's v2 and its older ones no name says it: the known ones are listed here.
    """
    if is_path(model):
        return False
    if model == _PARAKEET_EN.name:
        return True
    return bool(re.search(r"\.en(?![a-z])", model) or _DISTILLED.fullmatch(model))


def _is_folder(name: str) -> bool:
    try:
        return Path(name).is_dir()
    except (OSError, ValueError):
        return False
