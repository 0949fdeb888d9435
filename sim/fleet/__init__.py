"""Several replicas behind a router: pools, disaggregation, scaling."""
