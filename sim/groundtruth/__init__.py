"""A real engine beside the simulator: kvsim's scheduler and ledger, driven by what truly runs."""
