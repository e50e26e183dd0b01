"""What a person can do about each error code."""

ADVICE: dict[str, str] = {
    "out_of_range": "The value is beyond the limit named in the message. Raise that setting if the "
    "recording is meant to be so, or cut the recording.",
    "empty_input": "The recording holds no audio. Check the recorder or the copy; nothing to retry.",
    "rank_mismatch": "The model gave an array of a wrong shape. Check model.name.",
    "length_mismatch": "The model or its tokenizer do not fit together. Check model.name.",
    "non_finite": "The model computed NaN. Try model.dtype = float32, or another model.",
    "invalid_options": "The job asks for something that does not exist. Correct the option and "
    "submit again.",
    "invalid_settings": "Correct settings.toml or the environment of the worker.",
    "unsupported_format": "The file is not audio that we read. Convert it (ffmpeg -i in out.flac) "
    "or leave it out with --exclude.",
    "corrupt_audio": "The file breaks off or contradicts itself. Copy it again from the original, "
    "or repair it (ffmpeg -i in out.flac), and submit again.",
    "source_not_found": "The worker sees no file there. It needs the same path as the submitter: "
    "mount the share in the same place on all machines.",
    "source_forbidden": "The worker may not read the file. Check its permissions and audio.roots.",
    "invalid_model": "The worker's weights are damaged or missing. Fetch the model again, then "
    "retry.",
    "job_refused": "The job was enqueued by another program in a form that this farm does not run.",
    "job_not_found": "The job or its result has expired. Submit the recording again.",
    "job_timeout": "The recording took too long. Raise worker.deadline_factor, then retry.",
    "cancelled": "Somebody cancelled it. Retry if it is wanted after all.",
    "poison": "The recording killed its worker more than once. Look at it before you retry.",
    "internal": "A defect of scribefarm: the worker's log has the traceback. Please report it.",
    "source_unreachable": "The disk or share did not answer. Check the mount, then retry.",
    "out_of_memory": "The device was full. Lower worker.slots or use a smaller model, then retry.",
    "worker_lost": "Workers died or slept on it. Keep the machines awake, then retry.",
    "queue_full": "The queue holds all it may. Submit later or raise queue.max_queued.",
    "server_unreachable": "No server answered. Check redis.url and the network.",
    "no_worker": "No worker was alive. Start one: scribefarm-worker run.",
}
UNKNOWN_ADVICE = "Another program wrote this error. Look into the result: scribefarm result JOB."


def advice_for(code: str) -> str:
    """Return what to do about an error code; codes of other programs get a general answer."""
    return ADVICE.get(code, UNKNOWN_ADVICE)
