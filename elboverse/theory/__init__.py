"""The theory as formulas."""
