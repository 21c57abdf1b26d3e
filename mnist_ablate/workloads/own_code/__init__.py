"""Users' own training code behind the seam: a Python function, or a program in any language."""
