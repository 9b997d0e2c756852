#!/bin/sh
# rclone on the S3 endpoint: files, large files in parts, ranges, copies, moves, listings, links.
#
#     s3_rclone.sh ENDPOINT
#
# Needs: rclone and curl on PATH, and an access key in the environment.
set -eu
endpoint=$1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
lake=":s3,provider=Other,env_auth=true,force_path_style=true,region=us-east-1,endpoint='$endpoint'"
rc() { rclone --config /dev/null --log-level ERROR --s3-chunk-size 5Mi --s3-upload-cutoff 5Mi "$@"; }
at() { printf '%s:%s' "$lake" "${1:-}"; }

mkdir -p 'files/sub folder' files/empty
printf 'id,name\n1,ann\n' > files/a.csv
printf 'id,name\n2,ben\n' > 'files/sub folder/b+c é.csv'
: > files/empty/nothing
head -c 30000000 /dev/urandom > files/big.bin
touch -d '2020-01-02 03:04:05.678901' files/a.csv

rc mkdir "$(at tools)"
rc lsf "$(at)" | grep -qx 'tools/'
rc copy files "$(at tools/all)"
rc check files "$(at tools/all)"
rc check --download files "$(at tools/all)"
test "$(rc lsf -R --files-only "$(at tools/all)" | sort | tr '\n' '|')" \
    = 'a.csv|big.bin|empty/nothing|sub folder/b+c é.csv|'
test "$(rc lsf --dirs-only "$(at tools/all)" | tr '\n' '|')" = 'empty/|sub folder/|'
# The modification time of a file is in the metadata of its object.
rc lsl "$(at tools/all/a.csv)" | grep -q '2020-01-02 03:04:05.678901'
# A second copy transfers nothing.
rc copy --dry-run --log-level NOTICE files "$(at tools/all)" 2>&1 | grep -q 'Skipped copy' && exit 1
rc touch -t 2021-05-06T07:08:09 "$(at tools/all/a.csv)"
rc lsl "$(at tools/all/a.csv)" | grep -q '2021-05-06 07:08:09'

rc cat "$(at tools/all/a.csv)" | cmp - files/a.csv
test "$(rc cat --offset 3 --count 4 "$(at tools/all/a.csv)")" = name
test "$(rc cat --tail 4 "$(at tools/all/a.csv)")" = ann
# Several streams of one file use ranges.
rc copy --multi-thread-streams 4 --multi-thread-cutoff 1Mi "$(at tools/all/big.bin)" back
cmp back/big.bin files/big.bin
head -c 12000000 files/big.bin | rc rcat "$(at tools/streamed)"
rc cat "$(at tools/streamed)" | cmp -n 12000000 - files/big.bin

rc copyto "$(at tools/all/a.csv)" "$(at tools/copied.csv)"
rc copyto --s3-copy-cutoff 5Mi "$(at tools/all/big.bin)" "$(at tools/copied.bin)"
rc cat "$(at tools/copied.bin)" | cmp - files/big.bin
rc moveto "$(at tools/copied.bin)" "$(at 'tools/moved/a b.bin')"
rc lsf "$(at tools)" | grep -q 'copied.bin' && exit 1
rc cat "$(at 'tools/moved/a b.bin')" | cmp - files/big.bin
rc sync files/empty "$(at tools/moved)"
test "$(rc lsf -R "$(at tools/moved)")" = nothing
test "$(rc md5sum "$(at tools/copied.csv)" | cut -c 1-32)" = "$(md5sum files/a.csv | cut -c 1-32)"

link=$(rc link --expire 1h "$(at 'tools/all/sub folder/b+c é.csv')")
curl -sSf "$link" | cmp - 'files/sub folder/b+c é.csv'
test "$(curl -sSf -r 3-6 "$link")" = name

rc deletefile "$(at tools/copied.csv)"
rc cleanup "$(at tools)"
rc delete --include '*.bin' "$(at tools/all)"
test "$(rc lsf -R --files-only "$(at tools/all)" | wc -l)" = 3
rc rmdir "$(at tools)" 2>errors && exit 1
grep -q BucketNotEmpty errors
rc purge "$(at tools)"
test -z "$(rc lsf "$(at)")"
echo ok
