'use strict';

// Invocations of a handler marked by awslambda.streamifyResponse: (event, responseStream, context) → promise.
// The answer goes out in chunks while the handler writes it; an error after the first byte travels in the trailers.

const fs = require('fs');
const Writable = require('stream').Writable;

const TRAILERS = ['Lambda-Runtime-Function-Error-Type', 'Lambda-Runtime-Function-Error-Body'];

module.exports = (handler, highWaterMark, headers, body, runtime) => {
  const toBytes = runtime.toBytes;
  const id = runtime.invocationId();
  let contentType = 'application/octet-stream';
  let started = false; // the handler has written
  let opened = false; // the request's head is out
  let failure = null;
  let closing = false; // its end is on its way
  let complete = false; // the Runtime API has everything and has said so
  let waits = runtime.waits;

  // Blocking writes belong into a thread of Node's pool here: a slow reader must not stop the function's other work.
  const queue = [];
  function send(bytes, done) {
    queue.push({ bytes: bytes, done: done });
    if (queue.length === 1) runtime.connected(work);
  }

  function work() {
    const bytes = queue[0].bytes;
    let offset = 0;
    (function more() {
      fs.write(runtime.descriptor(), bytes, offset, bytes.length - offset, null, (error, count) => {
        if (error && error.code !== 'EINTR' && error.code !== 'EAGAIN') return runtime.lost(error);
        offset += count || 0;
        if (offset < bytes.length) return more();
        const done = queue.shift().done;
        if (queue.length > 0) work();
        done();
      });
    })();
  }

  function head() {
    if (opened) return '';
    opened = true;
    return 'POST ' + runtime.api + 'invocation/' + id + '/response HTTP/1.1\r\nHost: ' + runtime.host +
      '\r\nContent-Type: ' + contentType + '\r\nLambda-Runtime-Function-Response-Mode: streaming\r\n' +
      'Trailer: ' + TRAILERS.join(', ') + '\r\nTransfer-Encoding: chunked\r\n\r\n';
  }

  const waiting = [];
  function onceComplete(action) {
    if (complete) action();
    else waiting.push(action);
  }

  /** Closes the answer, with the failure if there is one. */
  function finish() {
    if (closing) return;
    closing = true;
    let end = head() + '0\r\n';
    if (failure) {
      end += TRAILERS[0] + ': ' + String(failure.errorType).replace(/[^\x20-\x7e]/g, '?') + '\r\n' +
        TRAILERS[1] + ': ' + toBytes(JSON.stringify(failure)).toString('base64') + '\r\n';
    }
    send(toBytes(end + '\r\n'), () => {
      try {
        runtime.readAnswer();
      } catch (error) {
        return runtime.lost(error);
      }
      complete = true;
      waiting.splice(0).forEach(action => action());
    });
  }

  const stream = new Writable({
    highWaterMark: highWaterMark || undefined,
    write: (chunk, encoding, done) => {
      if (chunk.length === 0) return done(); // an empty chunk would end the answer
      send(Buffer.concat([toBytes(head() + chunk.length.toString(16) + '\r\n'), chunk, toBytes('\r\n')]), done);
    },
  });

  const write = stream.write;
  const end = stream.end;

  function begin() {
    if (started) return;
    started = true;
    if (typeof stream._onBeforeFirstWrite === 'function') stream._onBeforeFirstWrite(chunk => write.call(stream, chunk));
  }

  function toChunk(chunk) {
    if (typeof chunk === 'string' || Buffer.isBuffer(chunk)) return chunk;
    if (chunk instanceof Uint8Array) return toBytes(chunk);
    return JSON.stringify(chunk);
  }

  stream.setContentType = type => {
    if (started) throw require('./errors').make('Runtime.InvalidStreamingOperation', 'Cannot set content-type, too late.');
    contentType = String(type).replace(/[^\x20-\x7e]/g, '?');
  };
  stream.write = function (chunk, encoding, done) {
    if (chunk === null || chunk === undefined) return write.call(stream, chunk, encoding, done); // its own error
    begin();
    return write.call(stream, toChunk(chunk), encoding, done);
  };
  stream.end = function (chunk, encoding, done) {
    if (typeof chunk === 'function') return stream.end(null, null, chunk);
    begin();
    if (chunk !== null && chunk !== undefined) stream.write(chunk, encoding);
    return end.call(stream, typeof encoding === 'function' ? encoding : done);
  };

  stream.on('finish', finish);

  function afterAnswer() {
    if (waits) runtime.onEmpty(runtime.answered);
    else runtime.answered();
  }

  let over = false;
  function fail(error) {
    if (over) return;
    over = true;
    runtime.onEmpty(null);
    runtime.report('Invoke Error', error);
    onceComplete(afterAnswer);
    if (closing) return;
    failure = require('./errors').describe(error);
    if (stream.destroyed) finish();
    else end.call(stream); // what was written goes first
  }

  // The process is about to end over an uncaught error. Gives false where nothing is out yet: a plain error will do.
  runtime.onAbort((error, exit) => {
    if (!opened) return false;
    if (!closing) failure = require('./errors').describe(error);
    finish();
    onceComplete(exit);
    return true;
  });

  const context = !runtime.waits ? {} : {
    get callbackWaitsForEmptyEventLoop() {
      return waits;
    },
    set callbackWaitsForEmptyEventLoop(value) {
      waits = value;
    },
  };

  runtime.onEmpty(() => {
    // The handler's promise never settles. With its stream at an end the answer is whole all the same.
    if (complete) runtime.answered();
    else fail('Response stream is not finished.');
  });
  let result;
  try {
    runtime.describeInvocation(context, headers);
    result = handler(JSON.parse(body.toString()), stream, context);
  } catch (error) {
    return fail(error);
  }
  if (!runtime.isPromise(result)) return fail('Streaming does not support non-async handlers.');
  result.then(value => {
    if (value !== undefined) console.warn('Streaming handlers ignore return values.');
    if (!stream._writableState.ending) return fail('Response stream is not finished.');
    over = true;
    runtime.onEmpty(null);
    onceComplete(afterAnswer);
  }).then(null, fail);
};
