"""Files to `Volume`: reading, placing, refusing."""
