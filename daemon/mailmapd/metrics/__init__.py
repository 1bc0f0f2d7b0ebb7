"""What mailmapd knows about itself, for Prometheus."""
