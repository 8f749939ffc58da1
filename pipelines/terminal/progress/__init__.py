"""How a run goes, as a person or a program sees it: a bar, lines, JSON, and files of metrics.

What is done is read from markers (`transforms.runs.progress`); here it becomes events, with rates and times that are
left. A way of showing them is a `Sink`. What a run has made is in `terminal/run_report`.
"""
