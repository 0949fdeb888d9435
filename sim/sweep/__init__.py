"""Many runs: deployments x traces x rates, each stored once under what determines it."""
