"""A function's life through boto3."""

import base64
import json
import os
import time

import boto3

NAME = os.environ["SDK_FUNCTION"]
client = boto3.client("lambda")
logs = boto3.client("logs")


def read(variable):
    with open(os.environ[variable], "rb") as file:
        return file.read()


def ok(step):
    print("ok:", step, flush=True)


def same(got, wanted):
    assert got == wanted, f"got {got!r}, not {wanted!r}"


def invoke(event, **more):
    answer = client.invoke(FunctionName=NAME, Payload=json.dumps(event), **more)
    return answer, json.loads(answer["Payload"].read() or "null")


made = client.create_function(
    FunctionName=NAME, Runtime=os.environ["SDK_RUNTIME"], Role=os.environ["SDK_ROLE"], Handler="app.handler",
    Code={"ZipFile": read("SDK_ZIP_1")}, Timeout=10, MemorySize=256, Environment={"Variables": {"COLOUR": "red"}})
same(made["FunctionArn"], f"arn:aws:lambda:us-east-1:000000000000:function:{NAME}")
same((made["Version"], made["MemorySize"], made["Handler"]), ("$LATEST", 256, "app.handler"))
ok("create")

client.get_waiter("function_active_v2").wait(FunctionName=NAME, WaiterConfig={"Delay": 1})
same(client.get_function(FunctionName=NAME)["Configuration"]["State"], "Active")
ok("wait-active")

answer, result = invoke({"name": "Ada", "id": "sync-1"}, LogType="Tail")
same(result, {"hello": "Ada", "release": 1, "version": "$LATEST"})
same((answer["StatusCode"], answer["ExecutedVersion"], answer.get("FunctionError")), (200, "$LATEST", None))
tail = base64.b64decode(answer["LogResult"]).decode()
assert "seen sync-1" in tail and "REPORT RequestId:" in tail, tail
ok("invoke")

answer, result = invoke({"fail": "refused"})
same((answer["StatusCode"], answer["FunctionError"]), (200, "Unhandled"))
same((result["errorType"], result["errorMessage"]), ("ValueError", "refused"))
ok("function-error")

first = client.publish_version(FunctionName=NAME, Description="first")
same((first["Version"], first["CodeSha256"]), ("1", made["CodeSha256"]))
client.get_waiter("published_version_active").wait(FunctionName=NAME, Qualifier="1", WaiterConfig={"Delay": 1})
ok("publish")

alias = client.create_alias(FunctionName=NAME, Name="live", FunctionVersion="1")
same((alias["AliasArn"], alias["FunctionVersion"]), (made["FunctionArn"] + ":live", "1"))
ok("alias")

answer, result = invoke({"name": "Ada"}, Qualifier="live")
same((answer["ExecutedVersion"], result), ("1", {"hello": "Ada", "release": 1, "version": "1"}))
ok("invoke-alias")

answer = client.invoke(FunctionName=NAME, InvocationType="Event", Payload=json.dumps({"name": "Ada", "id": "async-1"}))
same((answer["StatusCode"], answer["Payload"].read()), (202, b""))
ok("event")

updated = client.update_function_code(FunctionName=NAME, ZipFile=read("SDK_ZIP_2"))
assert updated["CodeSha256"] != made["CodeSha256"]
client.get_waiter("function_updated_v2").wait(FunctionName=NAME, WaiterConfig={"Delay": 1})
answer, result = invoke({"name": "Ada"})
same(result["release"], 2)
ok("update-code")

second = client.publish_version(FunctionName=NAME, CodeSha256=updated["CodeSha256"])
same(second["Version"], "2")
client.get_waiter("published_version_active").wait(FunctionName=NAME, Qualifier="2", WaiterConfig={"Delay": 1})
ok("publish-again")

before = alias["RevisionId"]
alias = client.update_alias(FunctionName=NAME, Name="live", FunctionVersion="2", RevisionId=before)
assert alias["RevisionId"] != before
answer, result = invoke({"name": "Ada"}, Qualifier="live")
same((answer["ExecutedVersion"], result["release"]), ("2", 2))
try:
    client.update_alias(FunctionName=NAME, Name="live", FunctionVersion="1", RevisionId=before)
    raise AssertionError("a stale revision was taken")
except client.exceptions.PreconditionFailedException:
    pass
ok("update-alias")

pages = client.get_paginator("list_versions_by_function").paginate(FunctionName=NAME, PaginationConfig={"PageSize": 1})
same([v["Version"] for page in pages for v in page["Versions"]], ["$LATEST", "1", "2"])
ok("list-versions")

stream = client.invoke_with_response_stream(FunctionName=NAME, Payload=json.dumps({"name": "Ada"}))
events = list(stream["EventStream"])
body = b"".join(e["PayloadChunk"]["Payload"] for e in events if "PayloadChunk" in e)
same(json.loads(body)["hello"], "Ada")
assert "InvokeComplete" in events[-1], events
same(events[-1]["InvokeComplete"].get("ErrorCode"), None)
ok("stream")

group = f"/aws/lambda/{NAME}"
give_up = time.monotonic() + 60
while True:
    found = logs.filter_log_events(logGroupName=group, filterPattern='"seen async-1"')["events"]
    if found or time.monotonic() > give_up:
        break
    time.sleep(0.2)
assert [e["message"].strip() for e in found] == ["seen async-1"], found
same([g["logGroupName"] for g in logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"]], [group])
ok("logs")

try:
    client.get_function(FunctionName=NAME + "-missing")
    raise AssertionError("a missing function was found")
except client.exceptions.ResourceNotFoundException as error:
    same(error.response["ResponseMetadata"]["HTTPStatusCode"], 404)
    assert f"Function not found: {made['FunctionArn']}-missing" in str(error), error
ok("not-found")

client.delete_alias(FunctionName=NAME, Name="live")
client.delete_function(FunctionName=NAME)
try:
    client.get_function(FunctionName=NAME)
    raise AssertionError("a deleted function was found")
except client.exceptions.ResourceNotFoundException:
    pass
ok("delete")
