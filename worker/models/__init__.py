"""Speech models by name, and families of them.

To add a model that a package carries: describe it in `packaged.py` and add its line to `MODELS`. A
new family of models is a folder beside `whisper/` and a line here: in `MODELS` if it has a name of
its own, in `FAMILIES` if it opens folders and hub ids (worker/README.md has the recipe).
"""

from worker.models.packaged import BASE, PARAKEET, TINY_EN, WHISPER, Family, Listed

MODELS: dict[str, Listed] = {
    "tiny.en": TINY_EN,
    "base": BASE,
}

# Every other name is a folder, an archive or a hub id: its configuration says whose it is. What
# nobody knows is the last one's, which says what is wrong with it.
FAMILIES = (
    Family(PARAKEET, "worker.models.parakeet.kind", archive=".nemo"),
    Family(WHISPER, "worker.models.whisper.weights.config"),
)
