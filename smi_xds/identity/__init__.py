"""The certificate authority: who a workload is, proved by X.509 certificates (SPIFFE X509-SVID)."""
