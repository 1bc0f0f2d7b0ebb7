"""The metrics of mailmapd, for Prometheus."""
