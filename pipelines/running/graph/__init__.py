"""The graph of a run, and how it is worked off where it stays in this process. All of it imports Beam."""
