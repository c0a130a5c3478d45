"""Contract suites and helpers for tests; also for packages that add stores, methods or widgets."""
