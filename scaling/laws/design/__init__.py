"""Which runs to buy next: what a design makes certain, its candidates, and the search for the best one."""
