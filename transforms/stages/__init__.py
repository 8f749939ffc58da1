"""The stages of a graph, in the order in which a build runs them. The only room that imports Beam.

A change here is about what is spread over workers, and what waits for what. What a worker does for one task is in
`tasks`; how a graph gets to its runner, in `pipelines.running`.
"""
