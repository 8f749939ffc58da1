"""What a person sees: flags, options, console, tables, progress, pages.

All output goes through `console`. It runs no graph: that is `pipelines.running`; what is shown is made by the commands
in `pipelines`.
"""
