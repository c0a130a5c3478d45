"""Models on a device: layers, hooks, edits, named builders. Import the modules directly; nothing is loaded here."""
