"""Figures of fits, intervals, forecasts and budgets."""
