"""HTTP for programs: OpenAI's shape for transcriptions, files and batches, and the farm's own.

It is thin: it enqueues, and reads results. `routes.ENDPOINTS` has a line for each address.
"""
