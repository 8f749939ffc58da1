"""What is published: manifest, numbers, tables, key tables, tombstones."""
