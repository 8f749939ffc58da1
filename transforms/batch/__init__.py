"""Many queries as a job: what is asked, the parts it is cut into, the answers of a part, and the file of all results.

Everything lies in a folder beside the output until that is whole, and each part is committed there: so a job that was
stopped goes on, and workers that do a part twice do no harm.
"""
