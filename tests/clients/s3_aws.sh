#!/bin/sh
# The aws command line, version 1, on the S3 endpoint.
#
#     s3_aws.sh ENDPOINT
#
# Needs: aws on PATH, and an access key in the environment.
set -eu
endpoint=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
s3() { aws --endpoint-url "$endpoint" s3 "$@"; }

mkdir files files/sub
printf 'id,name\n1,ann\n' > files/a.csv
printf 'id,name\n2,ben\n' > 'files/sub/b c.csv'
head -c 20000000 /dev/urandom > files/big.bin

s3 mb s3://command
s3 cp files/a.csv s3://command/
s3 cp s3://command/a.csv - | cmp - files/a.csv
s3 sync files s3://command/all
test "$(s3 ls s3://command/all/ --recursive | wc -l)" = 3
s3 ls s3://command/all/ | grep -q 'PRE sub/'
s3 sync s3://command/all copy
diff -r files copy
s3 mv s3://command/a.csv s3://command/moved.csv
printf 'streamed' | s3 cp - s3://command/streamed
test "$(s3 cp s3://command/streamed -)" = streamed
s3 rm s3://command/ --recursive
test -z "$(s3 ls s3://command/)"
s3 rb s3://command
echo ok
