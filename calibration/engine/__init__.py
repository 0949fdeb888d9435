"""A small serving engine that runs a model's shape on a card, or a toy of it on a CPU.

It is no second simulator: whom to run, and in which blocks, is decided by what its caller hands in
(``steps.Steps``), which it drives in real time. ``shape`` says what is run, ``loop`` serves,
``runner`` prepares, launches and waits, ``forward`` is the model, ``pools`` holds the KV and
``graphs`` captures decodes; ``records`` and ``log`` keep what happened. Who only reads
logs, or asks for a shape, needs no torch.
"""
