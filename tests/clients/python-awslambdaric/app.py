"""A function for AWS's own Python client."""


class Refused(Exception):
    pass


def handler(event, context):
    if event.get("fail"):
        raise Refused(event["fail"])
    return {
        "hello": event.get("name"),
        "client": "python",
        "arn": context.invoked_function_arn,
        "request_id": context.aws_request_id,
        "memory": context.memory_limit_in_mb,
    }
