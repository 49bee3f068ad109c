"""moto on loopback, with a topic, a queue that is subscribed to it, objects, and a user with a key; ends with its input.

The line that it prints is JSON: the port, the user's key, and what the tests ask for.
"""

import json
import sys

import boto3
from moto.server import ThreadedMotoServer

REGION = "us-east-1"
# Names that must be encoded in a path, and in what is signed.
KEYS = {"app.zip": b"a zip", "a folder/ä+b & c=~.zip": b"another", "empty": b"", "big": b"x" * 3_000_000}


def main():
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    port = server.get_host_and_port()[1]

    def client(service):
        return boto3.client(service, region_name=REGION, endpoint_url="http://127.0.0.1:%d" % port,
                            aws_access_key_id="setup", aws_secret_access_key="setup")

    iam, s3, sns, sqs = (client(service) for service in ("iam", "s3", "sns", "sqs"))
    iam.create_user(UserName="kennel")
    everything = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
    iam.put_user_policy(UserName="kennel", PolicyName="all", PolicyDocument=json.dumps(everything))
    key = iam.create_access_key(UserName="kennel")["AccessKey"]
    s3.create_bucket(Bucket="code")
    s3.put_bucket_versioning(Bucket="code", VersioningConfiguration={"Status": "Enabled"})
    first = s3.put_object(Bucket="code", Key="app.zip", Body=b"the first")["VersionId"]
    for name, body in KEYS.items():
        s3.put_object(Bucket="code", Key=name, Body=body)
    topic = sns.create_topic(Name="failed")["TopicArn"]
    queue = sqs.create_queue(QueueName="subscribed")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    print(json.dumps({
        "port": port,
        "access_key_id": key["AccessKeyId"],
        "secret_access_key": key["SecretAccessKey"],
        "first_version": first,
        "topic_arn": topic,
        "queue_arn": arn,
        "queue_url": queue,
    }), flush=True)
    sys.stdin.read()
    server.stop()


if __name__ == "__main__":
    main()
