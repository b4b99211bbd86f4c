"""What AWS, or botocore, says when it refuses, in words that name the cause and the next step.

AWS answers some refusals with the canonical request, which holds a session token: of such answers only the code is
repeated.
"""

from __future__ import annotations

from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any

from kpo_multicluster.errors import ConnectError, CredentialError, KpoMulticlusterError

# AWS takes signatures up to 5 minutes old or young, EKS tokens up to 15 minutes old.
_SKEW_SECONDS = 240.0
_TEXT_LIMIT = 300
_SIGNATURE_CODES = (
    "SignatureDoesNotMatch",
    "InvalidSignatureException",
    "RequestExpired",
    "RequestTimeTooSkewed",
    "RequestInTheFuture",
    "InvalidSignature",
)
_EXPIRED_CODES = ("ExpiredToken", "ExpiredTokenException")
_UNKNOWN_KEY_CODES = ("InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId")


def is_aws_error(error: Exception) -> bool:
    """Whether botocore raises such an error of its own accord."""
    from botocore.exceptions import BotoCoreError, ClientError

    # A token file that is not there, and credentials that are expired on arrival, are told by plain ones.
    return isinstance(error, BotoCoreError | ClientError | OSError | RuntimeError)


def code_of(error: Exception) -> str:
    """AWS's code for a refusal, such as `AccessDenied`; empty when AWS did not answer."""
    response: Any = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def said(error: Exception) -> str:
    """What AWS or botocore said, short and without anything secret."""
    code = code_of(error)
    if not code:
        return f"{type(error).__name__}: {str(error)[:_TEXT_LIMIT]}"
    if code in _SIGNATURE_CODES:
        return code
    response: Any = getattr(error, "response", {})
    message = str(response.get("Error", {}).get("Message", ""))[:_TEXT_LIMIT]
    return f"{code}: {message}" if message else code


def skew_seconds(answer: Any, now: float) -> float | None:
    """How far this host's clock is ahead of AWS's, by the Date header of an answer or of an error that carries one.

    Args:
        answer: of a client of botocore, or an error of botocore.
        now: Unix time here, in seconds.
    """
    response: Any = answer if isinstance(answer, dict) else getattr(answer, "response", None)
    if not isinstance(response, dict):
        return None
    date = response.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("date")
    try:
        there = parsedate_to_datetime(date)
    except (TypeError, ValueError):
        return None
    if there.tzinfo is None:
        there = there.replace(tzinfo=timezone.utc)
    return now - there.timestamp()


def skew_text(skew: float | None) -> str | None:
    """A sentence for a clock that is off by too much; None for one that is not."""
    if skew is None or abs(skew) < _SKEW_SECONDS:
        return None
    way = "ahead of" if skew > 0 else "behind"
    return (
        f"The clock of this host is {abs(skew) / 60:.0f} minutes {way} that of AWS, which refuses signatures and EKS "
        "tokens that are off by more than a few minutes: set the clock, by NTP."
    )


def credential_error(error: Exception, *, source: str, now: float, ended: float | None = None) -> CredentialError:
    """Credentials that could not be made or renewed.

    Args:
        error: as botocore raised it.
        source: where the credentials come from.
        now: Unix time here, in seconds.
        ended: when those held before ended, if there were any.
    """
    if ended is not None and ended <= now:
        what = f"The AWS session of {source} expired at {_stamp(ended)} and could not be renewed"
    else:
        what = f"AWS credentials could not be had from {source}"
    return CredentialError(f"{what} ({said(error)}). {_next_step(error, now)}", final=_is_verdict(error))


def role_refused(
    error: Exception, *, role: str, external_id: str | None, caller: str, now: float, ended: float | None = None
) -> CredentialError:
    """A role that could not be assumed.

    Args:
        error: as botocore raised it.
        role: ARN of the role.
        external_id: that was given with the request.
        caller: ARN of the one who asked, or words for it.
        now: Unix time here, in seconds.
        ended: when the keys of the role held before ended, if there were any.
    """
    what = f"{caller} could not assume the role {role} ({said(error)})."
    if ended is not None and ended <= now:
        what = f"The AWS session in the role expired at {_stamp(ended)} and could not be renewed: {what}"
    if code_of(error) not in ("AccessDenied", "AccessDeniedException"):
        return CredentialError(f"{what} {_next_step(error, now)}", final=_is_verdict(error))
    gave = f"The external id {external_id!r} was given" if external_id else "No external id was given"
    return CredentialError(
        f"{what} Let the role's trust policy allow {caller} the action sts:AssumeRole, and a policy of that caller "
        f"allow it on the role. {gave}: if the trust policy has the condition sts:ExternalId, it must be that one.",
        final=True,
    )


def call_error(error: Exception, *, doing: str, source: str, now: float) -> KpoMulticlusterError:
    """A call of AWS that failed.

    Args:
        error: as botocore raised it.
        doing: what was tried, such as "Describing the EKS cluster 'gpu'".
        source: whose credentials were used.
        now: Unix time here, in seconds.
    """
    text = f"{doing} with {source} failed ({said(error)})."
    if code_of(error) in ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation"):
        return CredentialError(
            f"{text} Allow this identity that action in IAM, or give the cluster's endpoint and ca_data, which need no "
            "such call."
        )
    step = f"{text} {_next_step(error, now)}"
    return CredentialError(step) if _is_about_credentials(error) else ConnectError(step)


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def _is_about_credentials(error: Exception) -> bool:
    from botocore.exceptions import NoCredentialsError

    codes = (*_SIGNATURE_CODES, *_EXPIRED_CODES, *_UNKNOWN_KEY_CODES)
    return code_of(error) in codes or isinstance(error, NoCredentialsError)


def _is_verdict(error: Exception) -> bool:
    """Whether AWS has judged, or there is nothing to ask it with; not where it did not answer, or is too busy."""
    from botocore.exceptions import ProfileNotFound, SSOError

    denied = code_of(error) in ("AccessDenied", "AccessDeniedException")
    return denied or _is_about_credentials(error) or isinstance(error, ProfileNotFound | SSOError)


def _next_step(error: Exception, now: float) -> str:
    from botocore import exceptions

    code = code_of(error)
    skew = skew_text(skew_seconds(error, now))
    if skew is not None:
        return skew
    if code == "AccessDenied" and getattr(error, "operation_name", "").startswith("AssumeRole"):
        return (
            "Let the role's trust policy allow this caller the action sts:AssumeRole, and see that the external id "
            "given is the one it asks for."
        )
    if code in _SIGNATURE_CODES:
        return "The secret access key does not belong to the access key id: correct it where it is kept."
    if code in _EXPIRED_CODES:
        return "Its session token has expired: log in again, or use credentials that renew themselves, such as a role."
    if code in _UNKNOWN_KEY_CODES:
        return "AWS does not know the access key id, or the session token does not belong to it: correct it."
    if isinstance(error, exceptions.ProfileNotFound):
        return "Write the profile to the shared AWS configuration of this host, or name another."
    if isinstance(error, exceptions.SSOError):
        return "Run 'aws sso login' on this host, or use credentials that need no person."
    if isinstance(error, exceptions.ConnectionError | exceptions.HTTPClientError):
        return "Check that this host reaches AWS: DNS, firewall, proxy settings, or a VPC endpoint to name as endpoint."
    return "Correct what AWS names."
