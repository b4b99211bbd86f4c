from __future__ import annotations

import pytest

from kpo_multicluster.testing.clouds.identity import Identity, TokenRefused
from kpo_multicluster.testing.clouds.verify_eks_users import EksUser, EksUsers, canonical_arn

USER = "arn:aws:iam::111111111111:user/team/jane"
ROLE = "arn:aws:iam::222222222222:role/airflow-pods"
ROLE_WITH_PATH = "arn:aws:iam::222222222222:role/team/airflow-pods"
SESSION = "arn:aws:sts::222222222222:assumed-role/airflow-pods/jane@example.org"


class Arns:
    """Takes tokens for the ARNs they speak for."""

    def identify(self, token: str) -> Identity:
        return Identity(token)


def told(caller: str, *users: EksUser) -> Identity:
    return EksUsers(Arns(), users).identify(caller)


@pytest.mark.parametrize(
    ("caller", "principal"),
    [
        (SESSION, ROLE),
        ("arn:aws-cn:sts::222222222222:assumed-role/r/s", "arn:aws-cn:iam::222222222222:role/r"),
        (USER, USER),
        ("arn:aws:iam::111111111111:root", "arn:aws:iam::111111111111:root"),
        ("arn:aws:sts::111111111111:federated-user/bob", "arn:aws:sts::111111111111:federated-user/bob"),
    ],
)
def test_the_principal_behind_a_caller(caller: str, principal: str) -> None:
    assert canonical_arn(caller) == principal


def test_access_entries() -> None:
    assert told(USER, EksUser(USER)) == Identity(USER)
    assert told(SESSION, EksUser(ROLE, groups=("pods",))) == Identity(SESSION, ("pods",))
    assert told(SESSION, EksUser(ROLE_WITH_PATH)) == Identity(SESSION)
    assert told(SESSION, EksUser(ROLE, "airflow:{{SessionName}}")).name == "airflow:jane-example.org"
    assert told(SESSION, EksUser(ROLE, "{{AccountID}}/{{SessionNameRaw}}")).name == "222222222222/jane@example.org"
    assert told(SESSION, EksUser(ROLE, "{{Unknown}}")).name == "{{Unknown}}"


def test_the_config_map() -> None:
    assert told(SESSION, EksUser(ROLE, "airflow", ("pods",), in_config_map=True)) == Identity("airflow", ("pods",))
    with pytest.raises(TokenRefused, match="is not mapped"):
        told(SESSION, EksUser(ROLE_WITH_PATH, "airflow", in_config_map=True))
    both = (EksUser(ROLE, "from-map", in_config_map=True), EksUser(ROLE, "from-entry"))
    assert told(SESSION, *both).name == "from-entry"


@pytest.mark.parametrize(
    "other", [USER, "arn:aws:iam::333333333333:role/airflow-pods", "arn:aws:iam::222222222222:role/airflow"]
)
def test_a_principal_that_is_not_mapped(other: str) -> None:
    with pytest.raises(TokenRefused, match=f"{SESSION} is not mapped to a user"):
        told(SESSION, EksUser(other))


def test_users_come_and_go() -> None:
    users = EksUsers(Arns())
    users.add(EksUser(ROLE))
    assert users.identify(SESSION).name == SESSION
    users.remove(ROLE)
    assert users.users == ()
    with pytest.raises(TokenRefused):
        users.identify(SESSION)
