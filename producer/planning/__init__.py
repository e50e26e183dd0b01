"""When the farm will be done: hours of audio, speeds of workers and nights, played through.

`speeds` says how fast each worker is and who says so; `work` how much there is to do; `simulation`
plays the nights; `plan` puts them together, with a range.
"""
