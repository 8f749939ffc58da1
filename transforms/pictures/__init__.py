"""From bytes to upright RGB in known memory."""
