"""The stages of a graph, in the order in which a build runs them. The only folder that imports Beam."""
