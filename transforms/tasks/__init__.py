"""What one worker does for one task of a stage: the twin of each stage, without Beam.

A task looks for its marker, works, uploads and commits; it may run twice at once, and makes the same bytes. The graph
above is `stages`; what a run is made of is in `runs`, the mathematics in `index`.
"""
