"""One writer a kind of page: objects of the code in, Markdown out."""
