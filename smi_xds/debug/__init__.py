"""Our own introspection API (`protos/smi_xds/debug/v1`): who is connected, with what, how well."""
