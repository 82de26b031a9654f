"""What we understood of the objects: services, identities, access, traffic."""
