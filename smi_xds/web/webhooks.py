"""What stands behind the webhook port: conversion and validation, for API servers."""

from collections.abc import Mapping
from functools import partial
from typing import Final

from smi_xds.web.conversion import convert_review
from smi_xds.web.meters import ReviewMeters
from smi_xds.web.review import Form
from smi_xds.web.validation import Foresee, validate_review

_MIB: Final = 1 << 20

# An API server takes objects up to 3 MiB, and an update is judged with the former object.
_VALIDATE_LIMIT: Final = 8 * _MIB
# A list is converted in one review: 15,000 TrafficSplits of Flagger, written with all that
# managedFields and conditions add.
_CONVERT_LIMIT: Final = 32 * _MIB


def webhook_forms(*, foresee: Foresee, meters: ReviewMeters | None = None) -> Mapping[str, Form]:
    """The forms by path; what is answered is counted."""
    meters = meters or ReviewMeters()
    return {
        "/convert": Form(
            answer=convert_review, limit=_CONVERT_LIMIT, count=meters.conversion.count
        ),
        "/validate": Form(
            answer=partial(validate_review, foresee=foresee),
            limit=_VALIDATE_LIMIT,
            count=meters.validation.count,
        ),
    }
