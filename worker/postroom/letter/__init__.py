"""What a letter is: events, templates, profiles, rendering, MIME. Pure, and shared with the operator."""
