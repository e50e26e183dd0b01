"""Values of a configuration, checked one by one: what is wrong or unknown is refused by its name."""

from typing import Any

from producer.errors import InvalidModel

# Far above any published model: a damaged file must not cause an allocation of terabytes.
MAX_SIZE = 1 << 17
_NOTHING = object()


class Fields:
    """A mapping of a configuration.

    Args:
        values: As it was parsed.
        source: Of what file and section, for errors.

    Raises:
        InvalidModel: no mapping; and in every method, a value that is missing or not as it must be.
    """

    def __init__(self, values: Any, source: str) -> None:
        if not isinstance(values, dict):
            raise InvalidModel(source, "must be a mapping", type(values).__name__)
        self._values = values
        self.source = source

    def __contains__(self, name: str) -> bool:
        return self._values.get(name) is not None

    def section(self, name: str) -> "Fields":
        """Return a mapping within."""
        return Fields(self._value(name), f"{self.source}: {name}")

    def check_transform(self, n_fft: int, window_length: int) -> None:
        """Refuse a transform of `n_fft` samples that its window does not fit into."""
        if n_fft < window_length or n_fft % 2:
            limit = f"must be even and at least the window, {window_length}"
            raise self._error("n_fft", limit, n_fft)

    def size(self, name: str, default: int | None = None, *, most: int = MAX_SIZE) -> int:
        """Return a whole number from 1 to `most`."""
        value = self._value(name, _NOTHING if default is None else default)
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if not is_whole or not 1 <= value <= most:
            raise self._error(name, f"must be a whole number from 1 to {most}", value)
        return int(value)

    def number(self, name: str, default: float | None = None, *, most: float) -> float:
        """Return a number from 0 to `most`."""
        value = self._value(name, _NOTHING if default is None else default)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 <= value <= most:
            raise self._error(name, f"must be a number from 0 to {most}", value)
        return float(value)

    def flag(self, name: str, *, default: bool) -> bool:
        """Return true or false."""
        value = self._value(name, default)
        if not isinstance(value, bool):
            raise self._error(name, "must be true or false", value)
        return value

    def sizes(self, name: str, *, most: int) -> tuple[int, ...]:
        """Return a list of different whole numbers from 0 to `most`, one at least."""
        values = self._value(name)
        is_list = isinstance(values, list | tuple) and 0 < len(values) <= most + 1
        if not is_list or any(
            not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most
            for value in values
        ):
            raise self._error(name, f"must be whole numbers from 0 to {most}", values)
        if len(set(values)) < len(values):
            raise self._error(name, "must differ from each other", values)
        return tuple(values)

    def texts(self, name: str, *, most: int = MAX_SIZE) -> tuple[str, ...]:
        """Return a list of texts."""
        values = self._value(name)
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise self._error(name, "must be a list of texts", type(values).__name__)
        if len(values) > most:
            raise self._error(name, f"must be at most {most}", len(values))
        return tuple(values)

    def only(self, name: str, *allowed: Any, default: Any = _NOTHING) -> Any:
        """Return a value that is one of those that we compute with; `default` if it is missing."""
        value = self._values.get(name, default)
        if value is _NOTHING:
            raise self._error(name, "is missing", None)
        # 1 is no true: compared with the type.
        if not any(value == each and type(value) is type(each) for each in allowed):
            said = ", ".join(str(each) for each in allowed)
            raise self._error(name, f"must be {said}: others are not supported", value)
        return value

    def text(self, name: str, *, default: str) -> str:
        """Return a text."""
        value = self._value(name, default)
        if not isinstance(value, str):
            raise self._error(name, "must be a text", value)
        return value

    def is_null(self, name: str) -> bool:
        """Return whether a field is there and has no value."""
        return name in self._values and self._values[name] is None

    def is_given_as(self, name: str, value: int) -> bool:
        """Return whether a field has a value, or is missing."""
        return bool(self._values.get(name, value) == value)

    def _value(self, name: str, default: Any = _NOTHING) -> Any:
        value = self._values.get(name)
        if value is not None:
            return value
        if default is _NOTHING:
            raise self._error(name, "is missing", None)
        return default

    def _error(self, name: str, constraint: str, value: Any) -> InvalidModel:
        context = f"{self.source}: {name}"
        shown = value if isinstance(value, int | float) else str(value)[:100]
        return (
            InvalidModel(context, constraint)
            if value is None
            else InvalidModel(context, constraint, shown)
        )
