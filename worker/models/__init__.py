"""Speech models by name.

To add one that a package carries: describe it in `packaged.py` and add its line here. A new family
of models is a folder beside `whisper/` and a line here (worker/README.md has the recipe). Every
other name is a folder or a hub id, opened by Whisper.
"""

from worker.models.packaged import BASE, TINY_EN, Listed

MODELS: dict[str, Listed] = {
    "tiny.en": TINY_EN,
    "base": BASE,
}
