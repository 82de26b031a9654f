#!/bin/sh
# Redirects the TCP traffic of a network namespace to its intercepted sidecar.
#
# Run it once, as root, inside the namespace (of a pod or a VM), before the application starts. Run
# again, as init containers may be, it makes the same rules anew.
# The sidecar runs under a user and group of its own, by which its connections are told apart.
#
#   SMI_XDS_UID              the sidecar's user (1337)
#   SMI_XDS_GID              the sidecar's group (1337)
#   SMI_XDS_EXCLUDE_INBOUND  ports that are not redirected, with spaces between them: for probes
#   SMI_XDS_EXCLUDE_OUTBOUND addresses or ranges that are called as if there were no sidecar
#
# Needs iptables (and ip6tables where the namespace has IPv6), and ip.
set -eu

uid=${SMI_XDS_UID:-1337}
gid=${SMI_XDS_GID:-1337}
outbound=15001
inbound=15006
# Where sidecars themselves are called: tunnels of UDP, health, Prometheus.
own="15008 15021 15090"

# anew CHAIN
anew() {
    $nat -N "$1" 2>/dev/null || $nat -F "$1"
}

# enter FROM CHAIN
enter() {
    $nat -C "$1" -p tcp -j "$2" 2>/dev/null || $nat -A "$1" -p tcp -j "$2"
}

# redirect IPTABLES LOOPBACK SIDECAR-SOURCE FAMILY-MARK
redirect() {
    nat="$1 -w -t nat"

    anew SMI_XDS_IN
    for port in $own ${SMI_XDS_EXCLUDE_INBOUND:-}; do
        $nat -A SMI_XDS_IN -p tcp --dport "$port" -j RETURN
    done
    $nat -A SMI_XDS_IN -p tcp -j REDIRECT --to-ports $inbound
    enter PREROUTING SMI_XDS_IN

    anew SMI_XDS_OUT
    # The sidecar hands over to the application: it marks that by its source address.
    $nat -A SMI_XDS_OUT -o lo -s "$3" -j RETURN
    for port in $own; do
        $nat -A SMI_XDS_OUT -o lo -p tcp --dport "$port" -j RETURN
    done
    # The sidecar calls its own workload, as one backend of a service: in by the front door.
    $nat -A SMI_XDS_OUT -o lo ! -d "$2" -p tcp -m owner --uid-owner "$uid" -j REDIRECT --to-ports $inbound
    $nat -A SMI_XDS_OUT -o lo ! -d "$2" -p tcp -m owner --gid-owner "$gid" -j REDIRECT --to-ports $inbound
    # Whatever else the sidecar sends was redirected once already.
    $nat -A SMI_XDS_OUT -m owner --uid-owner "$uid" -j RETURN
    $nat -A SMI_XDS_OUT -m owner --gid-owner "$gid" -j RETURN
    # The application calls itself.
    $nat -A SMI_XDS_OUT -o lo -j RETURN
    for range in ${SMI_XDS_EXCLUDE_OUTBOUND:-}; do
        case $range in
            *:*) [ "$4" = 6 ] && $nat -A SMI_XDS_OUT -d "$range" -j RETURN ;;
            *) [ "$4" = 4 ] && $nat -A SMI_XDS_OUT -d "$range" -j RETURN ;;
        esac || true
    done
    $nat -A SMI_XDS_OUT -p tcp -j REDIRECT --to-ports $outbound
    enter OUTPUT SMI_XDS_OUT
}

redirect iptables 127.0.0.0/8 127.0.0.6/32 4
if [ -e /proc/net/if_inet6 ] && command -v ip6tables >/dev/null; then
    ip -6 address replace ::6/128 dev lo nodad
    redirect ip6tables ::1/128 ::6/128 6
fi
