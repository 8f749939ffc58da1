"""The demo encoder: drawn pictures with captions, a very small CLIP model trained on them, and its weights."""
