def diagnose(f): return []
