"""How text goes over the wire: header words and transfer encodings."""
