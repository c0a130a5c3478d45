"""The vocabulary of the workbench: addresses, records, errors, registries. Imports nothing of ours and no torch."""
