"""What the demo cloud answers when it says no."""

from __future__ import annotations


class CloudError(Exception):
    """An error answer: HTTP status, the real service's code, and its message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message


def missing(name: str) -> CloudError:
    """The answer to a request without a parameter it needs."""
    text = f'The input parameter "{name}" that is mandatory for processing this request is not supplied.'
    return CloudError(400, f"MissingParameter.{name}", text)


def no_instance(instance: str) -> CloudError:
    """The answer to an instance id nobody has."""
    return CloudError(404, "InvalidInstanceId.NotFound", f"The specified InstanceId {instance} does not exist.")


def wrong_status() -> CloudError:
    """The answer to an operation that the instance's status does not allow."""
    text = "The current status of the resource does not support this operation."
    return CloudError(403, "IncorrectInstanceStatus", text)
