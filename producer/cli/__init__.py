"""The commands of `scribefarm`: one module a group, put together in `producer.__main__`."""
