"""A report on the terminal, as text (Markdown, CSV, LaTeX), as figures and as a page: from the same document."""
