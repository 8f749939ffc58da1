"""A root behind HTTP: questions as JSON, answers, thumbnails, one page, and a watch over them. It only reads."""
