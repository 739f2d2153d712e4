"""One writer for each kind of page: objects of the code in, Markdown out."""
