"""What a root is worth: queries, their exact neighbours as a job, what searches find of them, and what that costs."""
