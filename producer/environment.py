"""Settings that the environment gives, read by pydantic-settings.

Its import takes a command a tenth of a second, so only those who find a variable of ours import this.
"""

from typing import Any

from pydantic import BaseModel, create_model
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict, SettingsError

from producer.errors import InvalidSettings
from producer.settings_sources import ENV_DELIMITER, ENV_PREFIX


class _Environment(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        env_nested_delimiter=ENV_DELIMITER,
        # A compose file hands over an unset variable as an empty one.
        env_ignore_empty=True,
        env_parse_none_str="null",
    )


def read_environment(model: type[BaseModel]) -> dict[str, Any]:
    """Return what the variables of a settings model say: sections of keys and values, not validated.

    Raises:
        InvalidSettings: a variable of a list or a section is not JSON.
    """
    fields: Any = {
        name: (field.annotation, field.default) for name, field in model.model_fields.items()
    }
    settings = create_model("Environment", __base__=_Environment, **fields)
    try:
        return EnvSettingsSource(settings)()
    except SettingsError as error:
        raise InvalidSettings("environment", "must be text, a number or JSON", error) from error
