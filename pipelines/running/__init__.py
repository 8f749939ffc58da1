"""How a graph gets to its runner: launch, request, runners, preflight, Dataflow, worker processes."""
