"""Figures for people: snapshots, activity, and how numbers are shown."""
