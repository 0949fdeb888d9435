"""What happens: SimPy processes, allocators, schedulers, recorder, planner."""
