"""Config defaults."""

from dassl.config.defaults import _C as cfg_default
from dassl.config.defaults import clean_cfg, get_cfg_default

__all__ = ["cfg_default", "clean_cfg", "get_cfg_default"]
