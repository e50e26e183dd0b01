"""The parts of pages that change while somebody looks: the same for the page and for its news."""

from typing import TYPE_CHECKING, Any

from producer.web.charts import line, throughput
from producer.web.live import Parts, Topic, speed_of
from producer.web.rendering import environment
from producer.web.snapshot import BatchView, FarmView

if TYPE_CHECKING:
    from producer.worker_records import WorkerRecord

# Of each page, by the kind of its topic; a name is a macro of parts.html.j2 and an element's id.
PARTS = {
    "farm": ("farm-state", "farm-figures", "throughput", "batches", "in-hand", "workers-short"),
    "batch": ("batch-state", "batch-figures", "batch-errors", "batch-in-hand"),
    "workers": ("farm-state", "workers"),
    "worker": ("worker-figures",),
}
# Files in hand that a page lists.
MAX_IN_HAND = 12


def render_parts(topic: Topic, view: FarmView) -> Parts:
    """Return the HTML of a page's parts, by the ids of their elements."""
    macros = environment().get_template("parts.html.j2").module
    values = part_values(topic, view)
    return {
        name: str(getattr(macros, name.replace("-", "_"))(values)) for name in PARTS[topic.kind]
    }


def part_values(topic: Topic, view: FarmView) -> dict[str, Any]:
    """Return what the macros of a topic's parts need."""
    values: dict[str, Any] = {"view": view, "max_in_hand": MAX_IN_HAND}
    if topic.kind == "farm":
        values["chart"] = throughput(view.throughput)
    if topic.kind == "batch":
        values["batch"] = view.batch(topic.name) or BatchView.empty(topic.name)
    if topic.kind == "worker":
        values["worker"] = worker_of(view, topic.name)
    return values


def worker_of(view: FarmView, name: str) -> "WorkerRecord | None":
    """Return a worker by its name."""
    return next((worker for worker in view.workers if worker.name == name), None)


def speed_line(samples: "list[tuple[float, float, int]]") -> str:
    """Return the points of a worker's speed over the last hour."""
    return line([speed for _, speed, _ in samples])


__all__ = ["PARTS", "part_values", "render_parts", "speed_line", "speed_of", "worker_of"]
