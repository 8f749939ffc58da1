"""An operator's work on a root: verify, garbage, rollback, lease."""
