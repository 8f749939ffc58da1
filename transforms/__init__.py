"""What workers run: PTransforms over pure modules that know no Beam."""
