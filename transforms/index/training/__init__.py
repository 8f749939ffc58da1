"""From a sample to a trained index: centroids on two levels, transforms, codebooks, and the audit of it.

Nothing here depends on how work is cut: seeds and ids decide. The stages that run it side by side are in `stages`; what
describes the result is in `index.trained`.
"""
