"""The commands of `scribefarm`, in the order of its help; a module is imported when it is asked for.

The text is the first line of the command's own help, which tests hold equal.
"""

from producer.lazy_group import Command

COMMANDS = (
    Command(
        "transcribe",
        "producer.cli.transcription",
        "Transcribe recordings here and now, and print the text with its times.",
    ),
    Command(
        "submit",
        "producer.cli.archive",
        "Enqueue recordings: what is new, changed, or failed for a passing reason; nothing twice.",
    ),
    Command("result", "producer.cli.jobs", "Print a job's transcript."),
    Command(
        "plan",
        "producer.cli.plan",
        "Say how many nights the work takes, with how many machines, and when each batch is done.",
    ),
    Command(
        "watch",
        "producer.cli.watch",
        "Show how a batch gets on, until it is done: files, speed, time left, workers.",
    ),
    Command(
        "status",
        "producer.cli.status",
        "Say how the farm stands on one screen: workers, queues, latest batches; or one batch.",
    ),
    Command(
        "workers",
        "producer.cli.workers",
        "Show a row for each worker: what it does, its speed and load, and what is wrong with it.",
    ),
    Command(
        "results",
        "producer.cli.results",
        "Write the transcripts of a batch into a folder that mirrors the archive.",
    ),
    Command(
        "errors",
        "producer.cli.batches",
        "List the failed files of a batch by error code, with value, limit and advice.",
    ),
    Command(
        "retry",
        "producer.cli.batches",
        "Enqueue the failed files of a batch again, all or those of some error codes.",
    ),
    Command(
        "cancel",
        "producer.cli.batches",
        "Cancel a job, or all of a batch that is not done: waiting jobs now, running ones soon.",
    ),
    Command(
        "report",
        "producer.cli.batches",
        "Report on a batch: totals, speed, failures, recordings to review, and what to do next.",
    ),
    Command(
        "pause",
        "producer.cli.pausing",
        "Let no worker, or not this one, start another file; what runs is finished.",
    ),
    Command("resume", "producer.cli.pausing", "Let the workers, or this one, start files again."),
    Command(
        "drain",
        "producer.cli.drain",
        "Ask a worker to finish what it can, hand back the rest, and end.",
    ),
    Command(
        "events", "producer.cli.farm", "Print an event for each job that ended, as JSON lines."
    ),
    Command(
        "relay",
        "producer.cli.relay",
        "Post each event to a webhook, signed, in order, at least once, until it is taken.",
    ),
    Command(
        "metrics",
        "producer.cli.metrics",
        "Serve the farm's metrics for Prometheus, until stopped: /metrics, /healthz, /readyz.",
    ),
    Command(
        "web",
        "producer.cli.web",
        "Show the farm in a browser: progress, workers, errors, transcripts; live, read-only.",
    ),
    Command(
        "models",
        "producer.cli.models",
        "List the models that `--model` knows by name, and which workers have them.",
    ),
    Command(
        "config",
        "producer.cli.configuration",
        "Print every setting, its value and where it came from; secrets are masked.",
    ),
    Command("server", "producer.cli.server", "Look after the embedded server."),
    Command("deploy", "producer.cli.deployment", "Set up workers from an installed package."),
)
