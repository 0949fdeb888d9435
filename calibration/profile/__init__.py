"""Calibration profiles: what was measured on a card, fitted, stored, and turned into step costs."""
