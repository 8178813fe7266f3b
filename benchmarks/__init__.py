"""Benchmarks: ``python -m benchmarks ladder|peers|flat|throughput|density|cli``; see README.md here."""
