"""The farm in a browser, and for programs that speak HTTP: what `scribefarm web` serves."""
