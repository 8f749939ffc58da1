"""How a graph gets to its runner: launch, request, runners, preflight, Dataflow, worker processes.

What is missing elsewhere is said here, in one line and before any work. The graph is wired of `transforms.stages`;
flags are in `pipelines.terminal`.
"""
