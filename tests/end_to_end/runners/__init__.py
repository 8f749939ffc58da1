"""Jobs on processes, worker pools, Prism and Flink, and what becomes of workers that are lost."""
