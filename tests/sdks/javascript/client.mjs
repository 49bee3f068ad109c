// A function's life through the AWS SDK for JavaScript, version 3.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import {
  CreateAliasCommand, CreateFunctionCommand, DeleteAliasCommand, DeleteFunctionCommand, GetFunctionCommand,
  InvokeCommand, InvokeWithResponseStreamCommand, LambdaClient, PreconditionFailedException, PublishVersionCommand,
  ResourceNotFoundException, UpdateAliasCommand, UpdateFunctionCodeCommand, paginateListVersionsByFunction,
  waitUntilFunctionActiveV2, waitUntilFunctionUpdatedV2, waitUntilPublishedVersionActive,
} from '@aws-sdk/client-lambda';

const { SDK_FUNCTION: FunctionName, SDK_ROLE: Role, SDK_RUNTIME: Runtime, SDK_ZIP_1, SDK_ZIP_2 } = process.env;
const arn = `arn:aws:lambda:us-east-1:000000000000:function:${FunctionName}`;
const client = new LambdaClient({});
const waiting = { client, maxWaitTime: 60, minDelay: 1, maxDelay: 1 };
const ok = (step) => console.log(`ok: ${step}`);
const text = (bytes) => Buffer.from(bytes).toString();

async function invoke(event, more = {}) {
  const answer = await client.send(new InvokeCommand({ FunctionName, Payload: JSON.stringify(event), ...more }));
  return [answer, JSON.parse(text(answer.Payload))];
}

const made = await client.send(new CreateFunctionCommand({
  FunctionName, Runtime, Role, Handler: 'app.handler', Code: { ZipFile: readFileSync(SDK_ZIP_1) },
  Timeout: 10, MemorySize: 256, Environment: { Variables: { COLOUR: 'red' } },
}));
assert.equal(made.FunctionArn, arn);
assert.deepEqual([made.Version, made.MemorySize], ['$LATEST', 256]);
ok('create');

await waitUntilFunctionActiveV2(waiting, { FunctionName });
assert.equal((await client.send(new GetFunctionCommand({ FunctionName }))).Configuration.State, 'Active');
ok('wait-active');

let [answer, result] = await invoke({ name: 'Ada', id: 'sync-1' }, { LogType: 'Tail' });
assert.deepEqual(result, { hello: 'Ada', release: 1, version: '$LATEST' });
assert.deepEqual([answer.StatusCode, answer.ExecutedVersion, answer.FunctionError], [200, '$LATEST', undefined]);
const tail = Buffer.from(answer.LogResult, 'base64').toString();
assert.match(tail, /seen sync-1/);
assert.match(tail, /REPORT RequestId:/);
ok('invoke');

[answer, result] = await invoke({ fail: 'refused' });
assert.deepEqual([answer.StatusCode, answer.FunctionError], [200, 'Unhandled']);
assert.deepEqual([result.errorType, result.errorMessage], ['ValueError', 'refused']);
ok('function-error');

const first = await client.send(new PublishVersionCommand({ FunctionName, Description: 'first' }));
assert.deepEqual([first.Version, first.CodeSha256], ['1', made.CodeSha256]);
await waitUntilPublishedVersionActive(waiting, { FunctionName, Qualifier: '1' });
ok('publish');

let alias = await client.send(new CreateAliasCommand({ FunctionName, Name: 'live', FunctionVersion: '1' }));
assert.deepEqual([alias.AliasArn, alias.FunctionVersion], [`${arn}:live`, '1']);
ok('alias');

[answer, result] = await invoke({ name: 'Ada' }, { Qualifier: 'live' });
assert.deepEqual([answer.ExecutedVersion, result], ['1', { hello: 'Ada', release: 1, version: '1' }]);
ok('invoke-alias');

answer = await client.send(new InvokeCommand({
  FunctionName, InvocationType: 'Event', Payload: JSON.stringify({ name: 'Ada', id: 'async-1' }),
}));
assert.deepEqual([answer.StatusCode, answer.Payload?.length ?? 0], [202, 0]);
ok('event');

const updated = await client.send(new UpdateFunctionCodeCommand({ FunctionName, ZipFile: readFileSync(SDK_ZIP_2) }));
assert.notEqual(updated.CodeSha256, made.CodeSha256);
await waitUntilFunctionUpdatedV2(waiting, { FunctionName });
[answer, result] = await invoke({ name: 'Ada' });
assert.equal(result.release, 2);
ok('update-code');

const second = await client.send(new PublishVersionCommand({ FunctionName, CodeSha256: updated.CodeSha256 }));
assert.equal(second.Version, '2');
await waitUntilPublishedVersionActive(waiting, { FunctionName, Qualifier: '2' });
ok('publish-again');

const RevisionId = alias.RevisionId;
alias = await client.send(new UpdateAliasCommand({ FunctionName, Name: 'live', FunctionVersion: '2', RevisionId }));
assert.notEqual(alias.RevisionId, RevisionId);
[answer, result] = await invoke({ name: 'Ada' }, { Qualifier: 'live' });
assert.deepEqual([answer.ExecutedVersion, result.release], ['2', 2]);
await assert.rejects(
  client.send(new UpdateAliasCommand({ FunctionName, Name: 'live', FunctionVersion: '1', RevisionId })),
  PreconditionFailedException,
);
ok('update-alias');

const versions = [];
for await (const page of paginateListVersionsByFunction({ client, pageSize: 1 }, { FunctionName })) {
  versions.push(...page.Versions.map((version) => version.Version));
}
assert.deepEqual(versions, ['$LATEST', '1', '2']);
ok('list-versions');

const streamed = await client.send(new InvokeWithResponseStreamCommand({
  FunctionName, Payload: JSON.stringify({ name: 'Ada' }),
}));
const chunks = [];
let complete;
for await (const event of streamed.EventStream) {
  if (event.PayloadChunk) chunks.push(Buffer.from(event.PayloadChunk.Payload));
  if (event.InvokeComplete) complete = event.InvokeComplete;
}
assert.equal(JSON.parse(Buffer.concat(chunks)).hello, 'Ada');
assert.ok(complete && !complete.ErrorCode, JSON.stringify(complete));
ok('stream');

await assert.rejects(client.send(new GetFunctionCommand({ FunctionName: `${FunctionName}-missing` })), (error) => {
  assert.ok(error instanceof ResourceNotFoundException, error);
  assert.equal(error.$metadata.httpStatusCode, 404);
  assert.match(error.message ?? error.Message, /^Function not found: arn:aws:lambda:us-east-1:.*-missing$/);
  return true;
});
ok('not-found');

await client.send(new DeleteAliasCommand({ FunctionName, Name: 'live' }));
await client.send(new DeleteFunctionCommand({ FunctionName }));
await assert.rejects(client.send(new GetFunctionCommand({ FunctionName })), ResourceNotFoundException);
ok('delete');
