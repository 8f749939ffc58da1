"""From a sample to a trained index: centroids, transforms, codebooks."""
