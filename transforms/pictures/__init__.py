"""From bytes to upright RGB in known memory.

Here is decided what is decoded, how large it may be, and what that costs. `tasks.embed` fetches the bytes, and tells a
picture at fault from a machine at fault; what a model makes of it is in `encoders`.
"""
