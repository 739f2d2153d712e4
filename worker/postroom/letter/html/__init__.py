"""What is done to a page of HTML: its layout, its CSS inlined, its plain text."""
