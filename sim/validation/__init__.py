"""A prediction beside a real run: what was recorded of it, read, and what kvsim's result misses."""
