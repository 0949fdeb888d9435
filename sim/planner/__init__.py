"""What to deploy: the rate that keeps an objective, sizes, flags, confidence, what-ifs."""
