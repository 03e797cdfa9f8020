"""The best size and amount of data for a budget: allocations, isoFLOP slices, counts of FLOPs."""
