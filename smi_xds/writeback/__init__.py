"""What became of the objects, told in the API server: conditions, events, and who writes them.

One replica writes, the leader (`lease`). `concern` says which proxies an object touches, `tally`
how many of them have it, by what the other `replicas` say, too, `conditions` puts that and the
problems in words; `desk` decides what is to be written and when, `writer` and `recorder` write it.
Never in the path of a push.

Rights that it needs (`deploy/` grants them): get, list, create, update and delete of
`leases.coordination.k8s.io` in the namespace of the lease; get and list of the SMI kinds, and patch
of their `/status`; create and patch of `events.events.k8s.io`.
"""
