"""Verify: the same questions to the old maps, through Postfix's own postmap(1), and to the new ones.

Every difference is told.
"""
