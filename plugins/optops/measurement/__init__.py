"""Proves speed and quality: timing in warm processes, statistics with bounds, and the figures that show them."""
