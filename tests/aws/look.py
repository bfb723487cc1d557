"""An independent look at what a local AWS server really has: by AWS's own
Python client, straight at the server, past everything of windlass.

    look.py PORT

Reads requests, one JSON list `[COMMAND, ARGUMENT]` a line, and answers each
with a line `{"answer": ...}` or `{"error": "..."}`.
"""

import functools
import json
import sys
import time
import urllib.request

import boto3
from botocore.config import Config

# Who asks; `enforce` makes it somebody who still may.
ASKS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}


@functools.cache
def client(service, port):
    return boto3.client(
        service,
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        config=Config(retries={"total_max_attempts": 1}),
        **ASKS,
    )


def instances(port, fleet):
    """All instances with a tag `...fleet` of that value, or all there are."""
    pages = client("ec2", port).get_paginator("describe_instances").paginate()
    listed = [
        {
            "id": one["InstanceId"],
            "state": one["State"]["Name"],
            "type": one["InstanceType"],
            "zone": one["Placement"]["AvailabilityZone"],
            "tags": {tag["Key"]: tag["Value"] for tag in one.get("Tags", [])},
        }
        for page in pages
        for reservation in page["Reservations"]
        for one in reservation["Instances"]
    ]

    def is_of_it(one):
        named = [value for key, value in one["tags"].items() if key.endswith("fleet")]
        return fleet is None or fleet in named

    return [one for one in listed if is_of_it(one)]


def make_group(port, wanted):
    """An Auto Scaling group with the launch template `one`, empty unless said otherwise."""
    client("autoscaling", port).create_auto_scaling_group(
        AutoScalingGroupName=wanted["name"],
        MinSize=0,
        MaxSize=wanted["max"],
        DesiredCapacity=wanted.get("desired", 0),
        AvailabilityZones=["us-east-1a"],
        LaunchTemplate={"LaunchTemplateName": "one", "Version": "$Latest"},
    )


def group(port, name):
    """A group, and the instances that carry its tag, ended ones too."""
    groups = client("autoscaling", port).describe_auto_scaling_groups(
        AutoScalingGroupNames=[name]
    )["AutoScalingGroups"]
    (told,) = groups
    tagged = [
        one
        for one in instances(port, None)
        if one["tags"].get("aws:autoscaling:groupName") == name
    ]
    return {
        "desired": told["DesiredCapacity"],
        "members": [one["InstanceId"] for one in told["Instances"]],
        "tags": {tag["Key"]: tag["Value"] for tag in told["Tags"]},
        "instances": tagged,
    }


def replace(port, ids):
    """The group itself ends instances and launches others for them."""
    for one in ids:
        client("autoscaling", port).terminate_instance_in_auto_scaling_group(
            InstanceId=one, ShouldDecrementDesiredCapacity=False
        )


def end(port, ids):
    client("ec2", port).terminate_instances(InstanceIds=ids)


def tag(port, wanted):
    client("ec2", port).create_tags(
        Resources=wanted["ids"],
        Tags=[{"Key": key, "Value": value} for key, value in wanted["tags"].items()],
    )


def send(port, wanted):
    queue, bodies = wanted["queue"], wanted["bodies"]
    sqs = client("sqs", port)
    for first in range(0, len(bodies), 10):
        entries = [
            {"Id": str(index), "MessageBody": body}
            for index, body in enumerate(bodies[first : first + 10])
        ]
        sqs.send_message_batch(QueueUrl=queue, Entries=entries)


def wait_in(port, wanted):
    """Sends messages or takes them away until so many wait in the queue."""
    queue, count = wanted["queue"], wanted["count"]
    sqs = client("sqs", port)
    name = "ApproximateNumberOfMessages"
    told = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=[name])
    more = count - int(told["Attributes"][name])
    send(port, {"queue": queue, "bodies": ["a job"] * more})
    while more < 0:
        most = min(10, -more)
        taken = sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=most)
        entries = [
            {"Id": str(index), "ReceiptHandle": message["ReceiptHandle"]}
            for index, message in enumerate(taken["Messages"])
        ]
        sqs.delete_message_batch(QueueUrl=queue, Entries=entries)
        more += len(entries)


def queue(port, name):
    return client("sqs", port).create_queue(QueueName=name)["QueueUrl"]


def queues(port, names):
    return [queue(port, name) for name in names]


def template(port, name):
    """Makes the launch template if it is not there; its image."""
    ec2 = client("ec2", port)
    image = ec2.describe_images()["Images"][0]["ImageId"]
    known = ec2.describe_launch_templates()["LaunchTemplates"]
    if name not in [one["LaunchTemplateName"] for one in known]:
        ec2.create_launch_template(
            LaunchTemplateName=name,
            LaunchTemplateData={"ImageId": image, "InstanceType": "m5.large"},
        )
    return image


def subnets(port, _):
    found = client("ec2", port).describe_subnets()["Subnets"]
    return {one["SubnetId"]: one["AvailabilityZone"] for one in found}


def place(port, _):
    """Where instances may be launched, and from what."""
    ec2 = client("ec2", port)
    return {
        "image": ec2.describe_images()["Images"][0]["ImageId"],
        "subnet": ec2.describe_subnets()["Subnets"][0]["SubnetId"],
        "security_group": ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"],
    }


def measure(port, wanted):
    """Puts values of a metric into the minute before this one."""
    dimensions = [{"Name": key, "Value": value} for key, value in wanted["dimensions"].items()]
    at = time.time() // 60 * 60 - 30
    client("cloudwatch", port).put_metric_data(
        Namespace=wanted["namespace"],
        MetricData=[
            {
                "MetricName": wanted["metric"],
                "Dimensions": dimensions,
                "Timestamp": at,
                "Value": value,
            }
            for value in wanted["values"]
        ],
    )


def measured(port, wanted):
    """The newest value of a statistic of a metric, by minutes."""
    dimensions = [{"Name": key, "Value": value} for key, value in wanted["dimensions"].items()]
    metric = {
        "Namespace": wanted["namespace"],
        "MetricName": wanted["metric"],
        "Dimensions": dimensions,
    }
    stat = {"Metric": metric, "Period": 60, "Stat": wanted["statistic"]}
    now = time.time()
    told = client("cloudwatch", port).get_metric_data(
        MetricDataQueries=[{"Id": "it", "MetricStat": stat}],
        StartTime=now - 600,
        EndTime=now,
        ScanBy="TimestampDescending",
    )
    return told["MetricDataResults"][0]["Values"][0]


def launch(port, tags):
    """One instance with these tags; its id."""
    ec2 = client("ec2", port)
    image = ec2.describe_images()["Images"][0]["ImageId"]
    tags = [{"Key": key, "Value": value} for key, value in tags.items()]
    made = ec2.run_instances(
        ImageId=image,
        InstanceType="m5.large",
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
    )
    return made["Instances"][0]["InstanceId"]


def user(port, name, policy):
    """A user with this policy; its keys."""
    iam = client("iam", port)
    iam.create_user(UserName=name)
    iam.put_user_policy(UserName=name, PolicyName="it", PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    return {
        "aws_access_key_id": key["AccessKeyId"],
        "aws_secret_access_key": key["SecretAccessKey"],
    }


def enforce(port, policy):
    """moto only: from now on everybody must sign and be allowed. The keys of a
    user who is allowed what `policy` says."""
    everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
    document = {"Version": "2012-10-17", "Statement": [everything]}
    admin, windlass = user(port, "admin", document), user(port, "windlass", policy)
    ASKS.update(admin)
    client.cache_clear()
    url = f"http://127.0.0.1:{port}/moto-api/reset-auth"
    # What comes as a form it does not read.
    plain = {"Content-Type": "text/plain"}
    urllib.request.urlopen(urllib.request.Request(url, data=b"0", headers=plain))
    return windlass


COMMANDS = {
    command.__name__: command
    for command in [
        instances,
        make_group,
        group,
        replace,
        end,
        tag,
        send,
        wait_in,
        queue,
        queues,
        template,
        subnets,
        place,
        measure,
        measured,
        launch,
        enforce,
    ]
}


def main():
    port = sys.argv[1]
    for line in sys.stdin:
        command, argument = json.loads(line)
        try:
            told = {"answer": COMMANDS[command](port, argument)}
        except Exception as error:  # told to the test, which stops on it
            told = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
