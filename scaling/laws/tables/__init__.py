"""Tables of runs as people and programs write them: their cells, their rows, their files, and expressions in columns."""
