"""What AWS's own client makes of the front door; run by the tests of `api`, with the endpoint as argument."""

import sys

import botocore.config
import botocore.exceptions
import botocore.session


def client(secret="root secret"):
    return botocore.session.Session().create_client(
        "lambda", region_name="us-east-1", endpoint_url=sys.argv[1], aws_access_key_id="AKIDROOT",
        aws_secret_access_key=secret,
        config=botocore.config.Config(retries={"max_attempts": 0}, parameter_validation=False))


def refused(call, **arguments):
    try:
        call(**arguments)
    except botocore.exceptions.ClientError as error:
        answer = error.response
        return answer["ResponseMetadata"]["HTTPStatusCode"], answer["Error"]["Code"], answer["Error"]["Message"]
    raise AssertionError("not refused")


aws = client()
arn = "arn:aws:lambda:us-east-1:000000000000:function:f"

answer = aws.list_functions(MaxItems=3)
assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200, answer
answer = aws.invoke(FunctionName=arn + ":$LATEST", Payload='{"é": 1}'.encode(), ClientContext="e30=", Qualifier="$LATEST")
assert answer["StatusCode"] == 200 and answer["ExecutedVersion"] == "$LATEST", answer
assert answer["Payload"].read() == '{"é": 1}'.encode()
answer = aws.create_function(FunctionName="f", Role="arn:aws:iam::000000000000:role/r", Runtime="python3.12",
                             Handler="a.b", Code={"ZipFile": b"x" * 3_000_000}, Timeout=3)
assert answer["ResponseMetadata"]["HTTPStatusCode"] == 201 and answer["Timeout"] == 3, answer
aws.untag_resource(Resource=arn, TagKeys=["a b", "c/d", "é+"])
aws.get_layer_version_by_arn(Arn="arn:aws:lambda:us-east-1:000000000000:layer:l:1")
aws.list_provisioned_concurrency_configs(FunctionName="f")

events = list(aws.invoke_with_response_stream(FunctionName="f")["EventStream"])
assert events == [{"PayloadChunk": {"Payload": b"hello"}}, {"InvokeComplete": {}}], events

got = refused(aws.get_function, FunctionName="missing")
assert got == (404, "ResourceNotFoundException", "Function not found: missing"), got
got = refused(aws.get_function, FunctionName="unbuilt")
assert got == (400, "InvalidParameterValueException", "Kennel does not implement GetFunction."), got
got = refused(aws.invoke, FunctionName="throttled")
assert got == (429, "TooManyRequestsException", "Rate Exceeded."), got
got = refused(aws.create_alias, FunctionName="f", Name="2024", FunctionVersion="1")
assert got[:2] == (400, "ValidationException") and got[2].startswith("1 validation error detected: "), got
got = refused(aws.invoke, FunctionName="f", Payload=b" " * 6_291_457)
assert got[:2] == (413, "RequestEntityTooLargeException"), got
got = refused(client(secret="wrong").list_functions)
assert got[:2] == (403, "InvalidSignatureException"), got
print("all good")
