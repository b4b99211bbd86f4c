"""Images that cannot be had, and those that are not names of any."""

from __future__ import annotations

import pytest

from .pods import UNKNOWN_IMAGE as UNKNOWN
from .pods import Pod, container


@pytest.mark.pod(container(image=UNKNOWN))
async def test_an_image_that_cannot_be_pulled(pod: Pod) -> None:
    first = await pod.waiting("ErrImagePull")
    assert f"{UNKNOWN}: not found" in first["message"]
    later = await pod.waiting("ImagePullBackOff")
    assert later["message"].startswith(f'Back-off pulling image "{UNKNOWN}": ErrImagePull: ')
    assert first["message"] in later["message"]
    assert pod.phase == "Pending"
    pulling = await pod.event("Pulling")
    assert pulling["message"] == f'Pulling image "{UNKNOWN}"'
    messages = {each["message"] for each in await pod.events() if each["reason"] == "Failed"}
    assert f'Failed to pull image "{UNKNOWN}": {first["message"]}' in messages
    assert "Error: ErrImagePull" in messages
    assert (await pod.event("BackOff"))["message"] == f'Back-off pulling image "{UNKNOWN}"'


@pytest.mark.pod(container(image=UNKNOWN, imagePullPolicy="Never"))
async def test_an_image_that_is_not_there_and_not_to_be_pulled(pod: Pod) -> None:
    waiting = await pod.waiting("ErrImageNeverPull")
    assert waiting["message"] == f'Container image "{UNKNOWN}" is not present with pull policy of Never'


@pytest.mark.parametrize(
    "reason",
    [
        pytest.param(reason, marks=pytest.mark.pod(container(image=image)), id=image)
        for image, reason in (
            ("Not-Lower-Case:1", "repository name (library/Not-Lower-Case) must be lowercase"),
            ("not a name", "invalid reference format"),
            ("a:b:c", "invalid reference format"),
        )
    ],
)
async def test_a_name_that_is_none(pod: Pod, reason: str) -> None:
    waiting = await pod.waiting("InvalidImageName")
    image = pod.seen["spec"]["containers"][0]["image"]
    assert waiting["message"].startswith(f'Failed to apply default image tag "{image}": couldn\'t parse image name')
    assert reason in waiting["message"]
    assert (await pod.event("InspectFailed"))["message"] == waiting["message"]


@pytest.mark.pod(container(), initContainers=[container(name="first", image=UNKNOWN)])
async def test_an_init_container_s_image(pod: Pod) -> None:
    await pod.waiting("ErrImagePull", name="first")
    assert pod.container()["state"] == {"waiting": {"reason": "PodInitializing"}}
