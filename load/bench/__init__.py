"""The comparison: one job done by the engine and by others, measured and judged alike."""
