"""Reads a Hugging Face ``config.json`` into a :class:`ModelSpec`, by its fields, not by its name.

``fields`` reads values, ``layers`` tells what each layer is, ``kv`` what it keeps, ``attention``
and ``mlp`` count its parameters, ``quantization`` says how they are stored, ``reader`` puts it all
together.
"""

from .reader import read_config, spec_from_config

__all__ = ["read_config", "spec_from_config"]
