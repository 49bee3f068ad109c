#!/bin/bash
# A function's life through the AWS command line, version 1 or 2.
set -euo pipefail
aws=$(cd "$(dirname "$0")" && pwd)/venv/bin/aws
export AWS_CLI_AUTO_PROMPT=off
version=$("$aws" --version 2>&1)
case $version in
  aws-cli/1.*) aws() { "$aws" "$@"; } ;;
  # Version 2 takes payloads as base64 unless told; before 2.13 it knows no AWS_ENDPOINT_URL.
  *) aws() { "$aws" --endpoint-url "$AWS_ENDPOINT_URL" --cli-binary-format raw-in-base64-out "$@"; } ;;
esac
name=$SDK_FUNCTION
arn=arn:aws:lambda:us-east-1:000000000000:function:$name
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export AWS_DEFAULT_OUTPUT=text

ok() { echo "ok: $1"; }
same() { [ "$1" = "$2" ] || { echo "got '$1', not '$2'"; exit 1; }; }
holds() { [[ "$1" == *"$2"* ]] || { echo "no '$2' in: $1"; exit 1; }; }

# invoke EVENT ARGUMENT…: what the command prints; the function's result lies in $work/result.
invoke() {
  local event=$1
  shift
  aws lambda invoke --function-name "$name" --payload "$event" "$@" "$work/result"
}

made=$(aws lambda create-function --function-name "$name" --runtime "$SDK_RUNTIME" --role "$SDK_ROLE" \
  --handler app.handler --zip-file "fileb://$SDK_ZIP_1" --timeout 10 --memory-size 256 \
  --environment 'Variables={COLOUR=red}' --query '[FunctionArn,Version,MemorySize]')
same "$made" "$arn	\$LATEST	256"
ok create

aws lambda wait function-active --function-name "$name"
aws lambda wait function-active-v2 --function-name "$name"
same "$(aws lambda get-function --function-name "$name" --query Configuration.State)" Active
ok wait-active

answer=$(invoke '{"name":"Ada","id":"sync-1"}' --log-type Tail --query '[StatusCode,ExecutedVersion,LogResult]')
read -r status executed tail <<<"$answer"
same "$status $executed" '200 $LATEST'
same "$(cat "$work/result")" '{"hello": "Ada", "release": 1, "version": "$LATEST"}'
holds "$(base64 -d <<<"$tail")" 'seen sync-1'
holds "$(base64 -d <<<"$tail")" 'REPORT RequestId:'
ok invoke

same "$(invoke '{"fail":"refused"}' --query '[StatusCode,FunctionError]')" "200	Unhandled"
holds "$(cat "$work/result")" '"errorMessage": "refused", "errorType": "ValueError"'
ok function-error

same "$(aws lambda publish-version --function-name "$name" --query Version)" 1
aws lambda wait published-version-active --function-name "$name" --qualifier 1
ok publish

same "$(aws lambda create-alias --function-name "$name" --name live --function-version 1 --query AliasArn)" "$arn:live"
ok alias

same "$(invoke '{"name":"Ada"}' --qualifier live --query ExecutedVersion)" 1
same "$(cat "$work/result")" '{"hello": "Ada", "release": 1, "version": "1"}'
ok invoke-alias

same "$(invoke '{"name":"Ada","id":"async-1"}' --invocation-type Event --query StatusCode)" 202
ok event

aws lambda update-function-code --function-name "$name" --zip-file "fileb://$SDK_ZIP_2" --query CodeSha256 >"$work/sha"
aws lambda wait function-updated --function-name "$name"
same "$(invoke '{"name":"Ada"}' --query StatusCode)" 200
holds "$(cat "$work/result")" '"release": 2'
ok update-code

same "$(aws lambda publish-version --function-name "$name" --code-sha256 "$(cat "$work/sha")" --query Version)" 2
aws lambda wait published-version-active --function-name "$name" --qualifier 2
ok publish-again

same "$(aws lambda update-alias --function-name "$name" --name live --function-version 2 --query FunctionVersion)" 2
same "$(aws lambda invoke --function-name "$arn:live" --payload '{"name":"Ada"}' --query ExecutedVersion "$work/result")" 2
holds "$(cat "$work/result")" '"release": 2'
ok update-alias

same "$(aws lambda list-versions-by-function --function-name "$name" --query 'Versions[].Version')" '$LATEST	1	2'
ok list-versions

# Version 1 has no `logs tail`.
log() {
  case $version in
    aws-cli/1.*) aws logs filter-log-events --log-group-name "/aws/lambda/$name" --query 'events[].message' ;;
    *) aws logs tail "/aws/lambda/$name" --since 10m --format short ;;
  esac
}
for _ in $(seq 30); do
  log=$(log)
  [[ "$log" == *"seen async-1"* ]] && break
  sleep 0.5
done
holds "$log" "seen async-1"
holds "$log" "seen sync-1"
holds "$log" "REPORT RequestId:"
if [[ $version != aws-cli/1.* ]]; then
  # What comes while it follows is shown.
  timeout 20 "$aws" --endpoint-url "$AWS_ENDPOINT_URL" logs tail "/aws/lambda/$name" --since 1m --follow >"$work/tail" &
  follower=$!
  invoke '{"name":"Ada","id":"sync-2"}' >/dev/null
  until grep -q 'seen sync-2' "$work/tail"; do
    kill -0 $follower 2>/dev/null || { echo "not followed: $(cat "$work/tail")"; exit 1; }
    sleep 0.5
  done
  kill $follower
  wait $follower || true
fi
holds "$(aws logs describe-log-streams --log-group-name "/aws/lambda/$name" --query 'logStreams[].logStreamName')" '[$LATEST]'
ok logs

status=0
aws lambda get-function --function-name "$name-missing" >"$work/out" 2>"$work/err" || status=$?
[ "$status" = 254 ] || [ "$status" = 255 ] || { echo "exit status $status"; exit 1; }
holds "$(cat "$work/err")" 'An error occurred (ResourceNotFoundException) when calling the GetFunction operation'
holds "$(cat "$work/err")" "Function not found: $arn-missing"
ok not-found

aws lambda delete-alias --function-name "$name" --name live
aws lambda delete-function --function-name "$name"
if aws lambda get-function --function-name "$name" >"$work/out" 2>&1; then
  echo "a deleted function was found"
  exit 1
fi
ok delete
