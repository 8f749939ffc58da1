"""Files of options, `--config pixdex.yaml`: what flags say, a key each, and the same the other way round."""
