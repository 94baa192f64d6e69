"""Other libraries, through a service proxy: one small module for each, imported by name, and by nobody else.

| module | what it gives |
|---|---|
| `integrations.httpx` | `MeshTransport`, `AsyncMeshTransport` |
| `integrations.requests` | `MeshAdapter` |
| `integrations.aiohttp` | `MeshMiddleware` |
| `integrations.prometheus` | `MeshCollector` |
| `integrations.opentelemetry` | `TracedProxy`, `measure` |

An extra of the distribution installs the library that it needs: `pip install codomyrmex-service-mesh[httpx]`.
"""
