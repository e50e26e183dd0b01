"""Files in a folder become jobs: find, hash, submit; what was submitted before is known."""
