"""kvsim: simulate LLM KV-cache memory and plan serving capacity."""

__version__ = "0.1.0"
