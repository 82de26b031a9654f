"""IdentityBindings: whom one means, as a caller and as a destination (access v1alpha4).

Its schemes are alternatives, and none of them reaches beyond its own namespace. A pod selected by
its labels proves its service account, as every pod of that account does: as a caller it is told
from them by its address.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from smi_xds.mesh.model import Source
from smi_xds.objects.kube import Pod
from smi_xds.objects.smi import IdentityBinding
from smi_xds.problems import Problem, ProblemCode
from smi_xds.values import ProxyId, ServiceAccountRef, SpiffeId

Label = tuple[str, tuple[str, str]]
"""A namespace, and a label (name and value) of its pods."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """Whom an IdentityBinding means."""

    sources: tuple[Source, ...] = ()
    """As callers: identities, those of selected pods together with their addresses."""
    accounts: frozenset[ServiceAccountRef] = frozenset()
    """As a destination: every pod of these, by their account or its SPIFFE id."""
    pods: frozenset[ProxyId] = frozenset()
    """As a destination, too: single pods, by their labels."""
    problems: tuple[Problem, ...] = ()


def united(sources: Iterable[Source]) -> tuple[Source, ...]:
    """Each identity once: from anywhere, if some source says so, else from all their addresses."""
    found: dict[SpiffeId, set[str] | None] = {}
    for source in sources:
        known = found.setdefault(source.identity, set())
        if source.addresses is None or known is None:
            found[source.identity] = None
        else:
            known.update(source.addresses)
    return tuple(
        Source(identity, None if addresses is None else tuple(sorted(addresses)))
        # Comparing two strings costs a tenth of comparing two identities.
        for identity, addresses in sorted(found.items(), key=lambda it: str(it[0]))
    )


def labels_of(pod: Pod) -> Iterator[Label]:
    """What its pod may be found by."""
    return ((pod.namespace, label) for label in pod.labels)


def label_of(binding: IdentityBinding) -> Label | None:
    """One label that every pod which it selects has; None where it selects by none."""
    if _is_void(binding) or not binding.match_labels:
        return None
    return binding.namespace, min(binding.match_labels)


def read_binding(
    binding: IdentityBinding,
    candidates: Iterable[Pod],
    *,
    exists: Callable[[ServiceAccountRef], bool],
    trust_domain: str,
    aliases: tuple[str, ...] = (),
) -> Binding:
    """Whom it means; `candidates` are the pods with `label_of` it.

    Identities may be written in the trust domain or an alias of it.
    """
    if _is_void(binding):
        return Binding()
    reader = _Reader(binding, (trust_domain, *aliases), exists)
    accounts = frozenset((*reader.account(), *reader.identities()))
    pods = reader.selected(candidates)
    named = (Source(SpiffeId.of(trust_domain, account)) for account in accounts)
    return Binding(
        sources=united((*named, *_callers(pods, trust_domain))),
        accounts=accounts,
        pods=frozenset(pod.proxy for pod in pods),
        problems=tuple(reader.problems),
    )


def _callers(pods: Iterable[Pod], trust_domain: str) -> Iterator[Source]:
    for pod in pods:
        # A pod that ended has given its address back; one on its host's network has none of its
        # own.
        if pod.ips and not pod.done and not pod.host_network:
            identity = SpiffeId.of(trust_domain, pod.account)
            yield Source(identity, tuple(sorted(set(pod.ips))))


def _is_void(binding: IdentityBinding) -> bool:
    # smi-spec PR #248: mutually exclusive. Parsing refuses it; nobody is meant until then.
    return binding.match_labels is not None and binding.service_account is not None


class _Reader:
    """Reads the schemes of one IdentityBinding and collects its problems."""

    def __init__(
        self,
        binding: IdentityBinding,
        trust_domains: tuple[str, ...],
        exists: Callable[[ServiceAccountRef], bool],
    ) -> None:
        self._binding = binding
        self._trust_domains = trust_domains
        self._exists = exists
        self.problems: list[Problem] = []

    def account(self) -> Iterator[ServiceAccountRef]:
        """The scheme serviceAccount."""
        if not self._binding.service_account:
            return
        account = ServiceAccountRef(self._binding.namespace, self._binding.service_account)
        if self._is_there(account, "serviceAccount"):
            yield account

    def identities(self) -> Iterator[ServiceAccountRef]:
        """The scheme spiffeIdentities: those that a certificate of the mesh may prove."""
        for index, text in enumerate(self._binding.spiffe_identities or ()):
            where = f"spiffeIdentities[{index}]"
            try:
                identity = SpiffeId.parse(text)
            except ValueError as error:
                self._add(
                    where,
                    ProblemCode.INVALID_OBJECT,
                    f"{error}; nobody is meant.",
                    "Write it in full, such as spiffe://cluster.local/ns/shop/sa/web.",
                )
                continue
            account = identity.service_account
            if identity.trust_domain not in self._trust_domains or account is None:
                self._unprovable(where, identity)
            elif account.namespace != self._binding.namespace:
                self._foreign(where, identity, account.namespace)
            elif self._is_there(account, where):
                yield account

    def _is_there(self, account: ServiceAccountRef, where: str) -> bool:
        """Certificates of an account that was deleted are still valid, and prove nothing."""
        if self._exists(account):
            return True
        self._add(
            where,
            ProblemCode.MISSING_SERVICE_ACCOUNT,
            f"There is no ServiceAccount {account}, and no pod runs as it; nobody is meant.",
            "Create it, or correct the name.",
        )
        return False

    def selected(self, candidates: Iterable[Pod]) -> tuple[Pod, ...]:
        """The scheme podLabelSelector; an empty one would be every pod, and means none."""
        wanted = frozenset(self._binding.match_labels or ())
        pods = sorted(
            (pod for pod in candidates if wanted and wanted <= pod.labels), key=lambda pod: pod.name
        )
        where = "podLabelSelector.matchLabels"
        if wanted and not pods:
            self._add(
                where,
                ProblemCode.NOTHING_SELECTED,
                f"No pod in {self._binding.namespace} has these labels.",
                "Correct the labels, or wait for the pods.",
            )
        if on_host := [pod.name for pod in pods if pod.host_network]:
            self._add(
                where,
                ProblemCode.UNTRUSTED_ADDRESS,
                f"Pod {on_host[0]} is on its host's network: others share its address, so that it "
                "is not known as a caller.",
                "Name its ServiceAccount in an IdentityBinding of its own.",
            )
        return tuple(pods)

    def _unprovable(self, where: str, identity: SpiffeId) -> None:
        foreign = identity.trust_domain not in self._trust_domains
        what = f"is of the trust domain {identity.trust_domain}" if foreign else "names no account"
        self._add(
            where,
            ProblemCode.UNPROVABLE_IDENTITY,
            f"{identity} {what}, and no certificate of this mesh proves it; nobody is meant.",
            f"Write spiffe://{self._trust_domains[0]}/ns/{self._binding.namespace}/sa/NAME.",
        )

    def _foreign(self, where: str, identity: SpiffeId, namespace: str) -> None:
        self._add(
            where,
            ProblemCode.FOREIGN_NAMESPACE,
            f"{identity} is of the namespace {namespace}, this object is not; it says nothing of "
            "workloads elsewhere.",
            f"Write an IdentityBinding in {namespace}, and name that one.",
        )

    def _add(self, scheme: str, code: ProblemCode, message: str, cure: str) -> None:
        self.problems.append(
            Problem(
                ref=self._binding.ref,
                field=f"spec.schemes.{scheme}",
                code=code,
                message=message,
                cure=cure,
            )
        )
