"""What a person sees: flags, options, console, tables, progress, pages."""
