"""What became of a batch: views, watching, report, export, and actions on its jobs."""
