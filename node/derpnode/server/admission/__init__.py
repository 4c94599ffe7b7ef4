"""Who may relay: the sources that are asked, and what is made of their answers."""
