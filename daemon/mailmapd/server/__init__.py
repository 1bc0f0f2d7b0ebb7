"""Listeners and connections: the asyncio side of the protocols."""
