"""Predicted masks in; J, F, tables and a report out."""
