"""What the benchmarks measure with: clocks, peers, corpora, recall, and how figures are printed."""
