"""Speech models by name.

To add one that a package carries: describe it in `packaged.py` and add its line here. Everything
else is loaded by folder or hub id (`worker.models.whisper.weights.load.load_weights`).
"""

from worker.models.packaged import BASE, TINY_EN, Packaged

MODELS: dict[str, Packaged] = {
    "tiny.en": TINY_EN,
    "base": BASE,
}
