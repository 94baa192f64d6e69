"""The load balancer, and its instances as a mapping."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

from ._native import Lease, LoadBalancer

__all__ = ["Lease", "LoadBalancer"]


class _Instances(MutableMapping[str, Any]):
    """The instances of a balancer by id."""

    def __init__(self, balancer: LoadBalancer) -> None:
        self._balancer = balancer

    def __getitem__(self, instance_id: str) -> Any:
        return self._balancer[instance_id]

    def __setitem__(self, instance_id: str, instance: Any) -> None:
        if instance.id != instance_id:
            raise ValueError(f"the instance's id is {instance.id!r}, not {instance_id!r}")
        self._balancer.register(instance)

    def __delitem__(self, instance_id: str) -> None:
        if self._balancer.deregister(instance_id) is None:
            raise KeyError(instance_id)

    def __iter__(self) -> Iterator[str]:
        return iter([instance.id for instance in self._balancer])

    def __len__(self) -> int:
        return len(self._balancer)

    def __repr__(self) -> str:
        return repr(dict(self))
