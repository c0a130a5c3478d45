"""The three stores keep the contract."""

from workbench.store import DiskStore, MemoryStore, TieredStore
from workbench.testing.store_suite import StoreSuite


class TestMemory(StoreSuite):
    def open(self, path, budget_bytes=None):
        return MemoryStore(budget_bytes=budget_bytes)


class TestDisk(StoreSuite):
    def open(self, path, budget_bytes=None):
        return DiskStore(path, budget_bytes=budget_bytes)


class TestTiered(StoreSuite):
    def open(self, path, budget_bytes=None):
        return TieredStore(path, disk_gb=None if budget_bytes is None else budget_bytes / 1e9)
