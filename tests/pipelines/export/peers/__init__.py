"""What runs in environments of other people's tools: these scripts import nothing of pixdex."""
