"""What workers run, in rooms by subject: `README.md` here is the map, and says which room may import which.

Beam is in `stages` only. The ground that every room stands on lies in this folder: records, markers, errors, rejects.
"""
