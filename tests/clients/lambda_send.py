"""Calls the function `work` asynchronously, whose destination is the function `receive`.

    lambda_send.py ENDPOINT FROM UNTIL

Prints the numbers of the accepted calls. A failed call is not repeated, because the server may have
accepted it. Needs: boto3, and an access key in the environment.
"""

import json
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

ENDPOINT, FROM, UNTIL = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
once = Config(retries={"total_max_attempts": 1})
aws = boto3.client("lambda", endpoint_url=ENDPOINT, config=once)
if FROM == 0:
    receive = aws.get_function_configuration(FunctionName="receive")["FunctionArn"]
    aws.put_function_event_invoke_config(
        FunctionName="work", DestinationConfig={"OnSuccess": {"Destination": receive}}
    )
for number in range(FROM, UNTIL):
    event = json.dumps({"id": number}).encode()
    try:
        aws.invoke(FunctionName="work", InvocationType="Event", Payload=event)
    except (BotoCoreError, ClientError):
        continue
    print(number, flush=True)
