"""The xDS protocol: sessions, cache, server."""
