"""How good results are: against judgements, against the exact neighbours, and by the labels of neighbours.

It takes arrays and mappings and returns figures with their intervals. It knows numpy only: no files, no faiss, no Beam.
"""
