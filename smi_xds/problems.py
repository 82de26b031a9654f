"""What can be wrong, and with whom.

A `Problem` is a value: something wrong or surprising in a user's objects. It is collected, never
raised, and makes its object grant less. Exceptions are for the world (`SmiXdsError`: a missing
folder, an occupied port, a corrupt key) and carry one line for the user.
"""

from dataclasses import dataclass
from enum import StrEnum

from smi_xds.values import ObjectRef


class Severity(StrEnum):
    """How bad: an `error` makes (a part of) the object void, a `warning` does not."""

    ERROR = "error"
    WARNING = "warning"


class ProblemCode(StrEnum):
    """Stable names of all problems; they are part of the API, and each says its severity."""

    # Sources: what could not be read.
    UNREADABLE_FILE = "UnreadableFile"
    INVALID_YAML = "InvalidYAML"
    INVALID_OBJECT = "InvalidObject"
    UNKNOWN_FIELD = "UnknownField"
    UNSUPPORTED_VERSION = "UnsupportedVersion"
    DUPLICATE_OBJECT = "DuplicateObject"
    SOURCE_UNAVAILABLE = "SourceUnavailable"
    SOURCE_FORBIDDEN = "SourceForbidden"
    MISSING_CRD = "MissingCRD"
    # TrafficTarget.
    NO_SOURCES = "NoSources"
    NO_RULES = "NoRules"
    UNKNOWN_KIND = "UnknownKind"
    FOREIGN_NAMESPACE = "ForeignNamespace"
    MISSING_ROUTE = "MissingRoute"
    MISSING_MATCH = "MissingMatch"
    IGNORED_MATCHES = "IgnoredMatches"
    MISSING_SERVICE_ACCOUNT = "MissingServiceAccount"
    MISSING_IDENTITY_BINDING = "MissingIdentityBinding"
    UNTRUSTED_ADDRESS = "UntrustedAddress"
    NOT_A_TARGET_PORT = "NotATargetPort"
    UNKNOWN_PORT = "UnknownPort"
    NOT_AN_HTTP_PORT = "NotAnHTTPPort"
    DEPRECATED_PORT = "DeprecatedPort"
    WRONG_TRANSPORT = "WrongTransport"
    NOT_ENFORCED = "NotEnforced"
    # IdentityBinding.
    UNPROVABLE_IDENTITY = "UnprovableIdentity"
    NOTHING_SELECTED = "NothingSelected"
    # HTTPRouteGroup, TCPRoute, UDPRoute.
    INVALID_REGEX = "InvalidRegex"
    COSTLY_REGEX = "CostlyRegex"
    INVALID_METHOD = "InvalidMethod"
    NO_MATCHES = "NoMatches"
    NEVER_HOLDS = "NeverHolds"
    DUPLICATE_MATCH = "DuplicateMatch"
    INVALID_HEADER = "InvalidHeader"
    INVALID_PORT = "InvalidPort"
    # TrafficSplit.
    MISSING_SERVICE = "MissingService"
    MISSING_BACKEND = "MissingBackend"
    BACKEND_PORT_MISMATCH = "BackendPortMismatch"
    NO_BACKENDS = "NoBackends"
    NO_WEIGHT = "NoWeight"
    NEGATIVE_WEIGHT = "NegativeWeight"
    MISSING_WEIGHT = "MissingWeight"
    DUPLICATE_BACKEND = "DuplicateBackend"
    SHADOWED_SPLIT = "ShadowedSplit"
    SPLIT_WITHOUT_MATCHES = "SplitWithoutMatches"
    MATCHES_ON_TCP = "MatchesOnTCP"
    FOREIGN_ROOT = "ForeignRoot"
    EXTERNAL_NAME = "ExternalName"
    HEADLESS_ROOT = "HeadlessRoot"
    NESTED_SPLIT = "NestedSplit"
    # Services and workloads.
    PORT_CONFLICT = "PortConflict"
    MISSING_TARGET_PORT = "MissingTargetPort"
    UNKNOWN_PROTOCOL = "UnknownProtocol"
    ADDRESS_CONFLICT = "AddressConflict"
    SERVER_FIRST_PERMISSIVE = "ServerFirstPermissive"
    INVALID_ANNOTATION = "InvalidAnnotation"
    UDP_OUTSIDE_MESH = "UDPOutsideMesh"
    # gRPC without a proxy.
    PROXYLESS_SERVER = "ProxylessServer"
    PROXYLESS_MATCH = "ProxylessMatch"
    PROXYLESS_MIXED = "ProxylessMixed"
    PROXYLESS_TCP = "ProxylessTCP"
    # Updates, as the API server asks about them.
    HIDDEN_RESTRICTION = "HiddenRestriction"
    # What was made of the objects.
    OVERSIZED_RESPONSE = "OversizedResponse"

    @property
    def severity(self) -> Severity:
        """An error voids what it names; a warning only tells."""
        return Severity.WARNING if self in _WARNINGS else Severity.ERROR


_WARNINGS = frozenset(
    {
        ProblemCode.MISSING_SERVICE_ACCOUNT,
        ProblemCode.NOTHING_SELECTED,
        ProblemCode.NOT_AN_HTTP_PORT,
        ProblemCode.IGNORED_MATCHES,
        ProblemCode.DEPRECATED_PORT,
        ProblemCode.NOT_ENFORCED,
        ProblemCode.NEVER_HOLDS,
        ProblemCode.DUPLICATE_MATCH,
        ProblemCode.NEGATIVE_WEIGHT,
        ProblemCode.MISSING_WEIGHT,
        ProblemCode.DUPLICATE_BACKEND,
        ProblemCode.HEADLESS_ROOT,
        ProblemCode.NESTED_SPLIT,
        ProblemCode.UNKNOWN_PROTOCOL,
        ProblemCode.SERVER_FIRST_PERMISSIVE,
        ProblemCode.UNKNOWN_PORT,
        ProblemCode.WRONG_TRANSPORT,
        ProblemCode.UDP_OUTSIDE_MESH,
        ProblemCode.OVERSIZED_RESPONSE,
        ProblemCode.PROXYLESS_MIXED,
        ProblemCode.PROXYLESS_TCP,
    }
)


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong in a user's objects, with the field it stands in and the way to mend it.

    `field` is a path as kubectl writes it (`spec.rules[0].matches[1]`), empty for the whole
    object. `message` is one sentence that names what is wrong, `cure` one that says what to do.
    """

    ref: ObjectRef
    field: str
    code: ProblemCode
    message: str
    cure: str

    def __str__(self) -> str:
        where = f"{self.ref} {self.field}".rstrip()
        return f"{self.code.severity}: {where}: {self.message} [{self.code}] {self.cure}"


class SmiXdsError(Exception):
    """The world is not as it must be; the message is one line that names the cure."""


class ConfigError(SmiXdsError):
    """A flag or an environment variable has a value that cannot be used."""


class SourceError(SmiXdsError):
    """A source cannot be read at all: a missing folder, a bad kubeconfig."""


class IdentityError(SmiXdsError):
    """The certificate authority cannot be used: a corrupt key, a folder that cannot be written."""


class ServeError(SmiXdsError):
    """A server cannot be started: an occupied port, an address of another machine."""


class AskError(SmiXdsError):
    """A running server cannot be asked, or does not know what it is asked for."""


class NoAnswerError(AskError):
    """Nobody answers there."""
