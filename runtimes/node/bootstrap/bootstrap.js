'use strict';

// Kennel's bootstrap for Node.js, from 4.3 to the newest: loads the function's handler, then asks the Runtime API for
// one event after the other and answers it as AWS Lambda's own runtime does.
//
// The way of an event: next() → invoke() → the handler → respond() or fail() → next().
//
// - One keep-alive connection, read and written with blocking calls on its descriptor. The process is frozen between
//   two events anyway, and an answer that has been given is out before the handler's next statement runs, so a
//   process.exit() right behind it loses nothing.
// - Nothing of this keeps the event loop alive, so `beforeExit` means that the handler has nothing left to wait for.
// - Output is written synchronously for the same reason.
// - This file and those that Node 4 may load are in Node 4's language. What only some functions need is a file of its
//   own, loaded on demand: errors.js, json_log.js, output.js, stream.js, esm.js, preboot.js.

const fs = require('fs');
const path = require('path');
const util = require('util');

const env = process.env;
const API = '/2018-06-01/runtime/';
const NODE = process.versions.node.split('.').map(Number);
// import() came without a flag in 12.17 and 13.2.
const HAS_IMPORT = NODE[0] > 13 || (NODE[0] === 13 && NODE[1] >= 2) || (NODE[0] === 12 && NODE[1] >= 17);

const STREAMING = Symbol.for('aws.lambda.runtime.handler.streaming');
const HIGH_WATER_MARK = Symbol.for('aws.lambda.runtime.handler.streaming.highWaterMark');

// What the environment says: see readSettings.
let taskRoot;
let socketPath;
let runtimeApi;
let named; // major version in the runtime's name, `nodejs18.x`, even where a newer interpreter stands in; else 0
let promisesOnly;
let asJson;
let least;

let handler = null;
let invocation = null; // {id}: what has been taken and not been answered yet
let requestId; // stays after the answer, for log lines
let tenantId;
let abort = null; // ends a streamed answer that is under way: (error, exit) → whether there was one
let whenEmpty = null; // what to do when the event loop has run empty
let proceed = next; // what to do when an invocation has been answered

// ---- Bytes

const allocate = Buffer.allocUnsafe || (size => new Buffer(size));
const toBytes = Buffer.allocUnsafe ? Buffer.from : text => new Buffer(text);

/** Waits a moment without the event loop: for a descriptor that some child process has made non-blocking. */
function pause() {
  if (typeof SharedArrayBuffer !== 'undefined' && typeof Atomics !== 'undefined') {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
  }
}

function writeAll(fd, bytes) {
  let offset = 0;
  while (offset < bytes.length) {
    try {
      offset += fs.writeSync(fd, bytes, offset, bytes.length - offset, null);
    } catch (error) {
      if (error.code === 'EAGAIN') pause();
      else if (error.code !== 'EINTR') throw error;
    }
  }
}

function readSome(fd, bytes, offset) {
  for (;;) {
    try {
      return fs.readSync(fd, bytes, offset, bytes.length - offset, null);
    } catch (error) {
      if (error.code === 'EAGAIN') pause();
      else if (error.code !== 'EINTR') throw error;
    }
  }
}

/** Writes to the function's log. A log that nobody reads any more is no error of the function. */
function writeLog(fd, bytes) {
  try {
    writeAll(fd, bytes);
  } catch (error) {
    if (error.code !== 'EPIPE') throw error;
  }
}

// ---- The connection to the Runtime API: HTTP/1.1, one request at a time

let connection = null; // {fd, close(), used}

function die(error) {
  writeLog(2, toBytes('Runtime API failed: ' + (error && error.message || error) + '\n'));
  process.exit(1);
}

/** Opens the connection and calls `done()`: at once for a Unix socket where Node gives access to its binding. */
function connect(done) {
  // Loading `net` takes 1.5 to 2 ms of a cold start that the binding below it saves.
  if (socketPath) {
    let binding;
    try {
      binding = process.binding('pipe_wrap');
    } catch (error) {
      binding = null;
    }
    if (binding && binding.Pipe && binding.PipeConnectWrap) {
      const pipe = new binding.Pipe(0);
      const request = new binding.PipeConnectWrap();
      request.oncomplete = () => {};
      // A Unix socket is connected when this returns; if it failed, so does the first write.
      pipe.connect(request, socketPath);
      pipe.unref();
      pipe.setBlocking(true);
      connection = { fd: pipe.fd, close: () => pipe.close(), used: false };
      return done();
    }
  }
  const colon = runtimeApi.lastIndexOf(':');
  const socket = require('net').connect(
    socketPath ? { path: socketPath } : { host: runtimeApi.slice(0, colon), port: Number(runtimeApi.slice(colon + 1)) }
  );
  socket.pause(); // the event loop must not read what exchange() reads
  socket.on('error', die);
  socket.on('connect', () => {
    socket.removeListener('error', die);
    socket.on('error', () => {});
    if (!socketPath) socket.setNoDelay(true);
    socket._handle.setBlocking(true);
    socket.unref();
    connection = { fd: socket._handle.fd, close: () => socket.destroy(), used: false };
    done();
  });
}

function disconnect() {
  connection.close();
  connection = null;
}

function isLost(error) {
  return error.code === 'EPIPE' || error.code === 'ECONNRESET' || error.code === 'KENNEL_EOF';
}

function lost() {
  const error = new Error('connection closed');
  error.code = 'KENNEL_EOF';
  return error;
}

let block = allocate(16384);

/** Reads one answer: {status, headers (names in lower case), body}. */
function readAnswer() {
  const fd = connection.fd;
  let have = 0;
  let start = -1;

  function more() {
    if (have === block.length) {
      const larger = allocate(block.length * 2);
      block.copy(larger, 0, 0, have);
      block = larger;
    }
    const count = readSome(fd, block, have);
    if (count === 0) throw lost();
    have += count;
  }

  function find(text, from) {
    for (;;) {
      const at = block.indexOf(text, from);
      if (at >= 0 && at + text.length <= have) return at; // behind `have` is what an earlier answer left
      more();
    }
  }

  for (let scanned = 0; start < 0; ) {
    more();
    const at = block.slice(0, have).indexOf('\r\n\r\n', scanned);
    if (at >= 0) start = at + 4;
    scanned = Math.max(0, have - 3);
  }
  const lines = block.toString('utf8', 0, start - 4).split('\r\n');
  const headers = {};
  for (let i = 1; i < lines.length; i++) {
    const colon = lines[i].indexOf(':');
    headers[lines[i].slice(0, colon).toLowerCase()] = lines[i].slice(colon + 1).trim();
  }

  let body;
  if (headers['transfer-encoding'] !== undefined) {
    const parts = [];
    for (let at = start; ; ) {
      let end = find('\r\n', at);
      const size = parseInt(block.toString('utf8', at, end), 16);
      at = end + 2;
      if (size === 0) {
        while ((end = find('\r\n', at)) !== at) at = end + 2; // trailers
        break;
      }
      while (have < at + size + 2) more();
      parts.push(toBytes(block.slice(at, at + size)));
      at += size + 2;
    }
    body = Buffer.concat(parts);
  } else {
    body = allocate(Number(headers['content-length']) || 0);
    let filled = block.copy(body, 0, start, have);
    while (filled < body.length) {
      const count = readSome(fd, body, filled);
      if (count === 0) throw lost();
      filled += count;
    }
  }
  if (String(headers.connection).toLowerCase() === 'close') disconnect();
  else connection.used = true;
  return { status: Number(lines[0].split(' ')[1]), headers: headers, body: body };
}

function exchange(head, body) {
  if (body && body.length < 65536) {
    writeAll(connection.fd, Buffer.concat([head, body]));
  } else {
    writeAll(connection.fd, head);
    if (body) {
      try {
        writeAll(connection.fd, body);
      } catch (error) {
        if (!isLost(error)) throw error; // refused before the end, perhaps: the answer says it
      }
    }
  }
  return readAnswer();
}

/**
 * Sends one request and calls `done(answer)`, at once unless connect() has to wait.
 * `headers` are whole lines. A connection that was closed since its last use is opened again, once.
 */
function request(method, target, headers, body, done) {
  const head = toBytes(
    method + ' ' + (target[0] === '/' ? '' : API) + target +
    ' HTTP/1.1\r\nHost: ' + (runtimeApi || 'runtime') + '\r\n' + headers +
    (body ? 'Content-Type: application/json\r\nContent-Length: ' + body.length + '\r\n' : '') + '\r\n'
  );
  if (!connection) return connect(() => attempt(die));
  attempt(connection.used ? again : die);

  function attempt(otherwise) {
    let answer;
    try {
      answer = exchange(head, body);
    } catch (error) {
      return otherwise(error);
    }
    done(answer);
  }

  function again(error) {
    if (!isLost(error)) return die(error);
    disconnect();
    connect(() => attempt(die));
  }
}

// ---- Output: console, stdout, stderr

const LEVELS = { TRACE: 1, DEBUG: 2, INFO: 3, WARN: 4, ERROR: 5, FATAL: 6 };

function logger(level) {
  return function (message) {
    const time = new Date().toISOString();
    const parameters = arguments.length > 1 ? Array.prototype.slice.call(arguments) : [message];
    const line = asJson
      ? require('./json_log')(time, level, requestId, tenantId, parameters, promisesOnly)
      : time + '\t' + requestId + '\t' + level + '\t' + util.format.apply(null, parameters);
    writeLog(1, toBytes(line + '\n'));
  };
}

function patchConsole(console) {
  const silent = () => {};
  ['trace', 'debug', 'info', 'warn', 'error'].forEach(name => {
    const level = name.toUpperCase();
    console[name] = LEVELS[level] >= least ? logger(level) : silent;
  });
  console.log = console.info;
  console.fatal = logger('FATAL');
  return console;
}

function patchOutput() {
  ['stdout', 'stderr'].forEach((name, index) => {
    let stream;
    Object.defineProperty(process, name, {
      configurable: true,
      enumerable: true,
      get: () => stream || (stream = require('./output')(index + 1, writeLog)),
    });
  });
  // Up to Node 8 the console is made when it is first named, and that takes a millisecond.
  const property = Object.getOwnPropertyDescriptor(global, 'console');
  if (!property.get) return patchConsole(console);
  const settle = value => Object.defineProperty(global, 'console', { value: value, configurable: true, enumerable: true, writable: true });
  Object.defineProperty(global, 'console', {
    configurable: true,
    enumerable: true,
    get: () => {
      const made = patchConsole(property.get.call(global));
      settle(made);
      return made;
    },
    set: settle,
  });
}

/** Logs an error as AWS does: what was being done, then the error as JSON. */
function report(title, error) {
  const errors = require('./errors');
  const asError = errors.intoError(error);
  if (asJson) console.error(asError);
  else console.error(title, '\t' + errors.toLogLine(asError));
}

function postError(target, error, done) {
  const shape = require('./errors').describe(error);
  const type = String(shape.errorType).replace(/[^\x20-\x7e]/g, '?');
  request('POST', target, 'Lambda-Runtime-Function-Error-Type: ' + type + '\r\n', toBytes(JSON.stringify(shape)), done);
}

// ---- Invocations

function next() {
  request('GET', 'invocation/next', '', null, answer => {
    if (answer.status !== 200) return die('status ' + answer.status + ' for the next invocation');
    const headers = answer.headers;
    requestId = headers['lambda-runtime-aws-request-id'];
    tenantId = headers['lambda-runtime-aws-tenant-id'];
    invocation = { id: requestId };
    // A turn of the event loop first: timers that ran out and connections that were closed while the process was
    // frozen are dealt with before the handler can stumble over them.
    setImmediate(invoke, headers, answer.body);
  });
}

function answered() {
  invocation = null;
  abort = null;
  whenEmpty = null;
  setImmediate(proceed);
}

function respond(result) {
  const id = invocation.id;
  let text;
  try {
    text = JSON.stringify(result === undefined ? null : result);
  } catch (error) {
    return fail(require('./errors').make(
      promisesOnly ? 'Runtime.JSONStringifyError' : 'Error', 'Unable to stringify response body'
    ));
  }
  request('POST', 'invocation/' + id + '/response', '', toBytes(text === undefined ? 'null' : text), answer => {
    if (answer.status !== 413) return answered();
    postError('invocation/' + id + '/error', require('./errors').make(
      'Function.ResponseSizeTooLarge', 'Response payload size exceeded maximum allowed payload size (6291556 bytes).'
    ), answered);
  });
}

function fail(error) {
  report('Invoke Error', error);
  postError('invocation/' + invocation.id + '/error', error, answered);
}

function parseHeader(text, name) {
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new Error('Cannot parse ' + name + ' as json: ' + error);
  }
}

function describeInvocation(context, headers) {
  const deadline = headers['lambda-runtime-deadline-ms'];
  return Object.assign(context, {
    functionVersion: env.AWS_LAMBDA_FUNCTION_VERSION,
    functionName: env.AWS_LAMBDA_FUNCTION_NAME,
    memoryLimitInMB: env.AWS_LAMBDA_FUNCTION_MEMORY_SIZE,
    logGroupName: env.AWS_LAMBDA_LOG_GROUP_NAME,
    logStreamName: env.AWS_LAMBDA_LOG_STREAM_NAME,
    clientContext: parseHeader(headers['lambda-runtime-client-context'], 'ClientContext'),
    identity: parseHeader(headers['lambda-runtime-cognito-identity'], 'CognitoIdentity'),
    invokedFunctionArn: headers['lambda-runtime-invoked-function-arn'],
    awsRequestId: requestId,
    tenantId: tenantId,
    getRemainingTimeInMillis: () => deadline - Date.now(),
  });
}

function isPromise(value) {
  return Boolean(value) && typeof value.then === 'function';
}

/** The context's own part and the callback. Of all the ways to end an invocation only the first one taken counts. */
function makeContext() {
  let ended = false;
  let waits = true;

  function end(error, result, mayWait) {
    if (ended) return;
    ended = true;
    whenEmpty = null;
    if (error !== undefined && error !== null) fail(error);
    else if (mayWait && waits) whenEmpty = () => respond(result);
    else respond(result);
  }

  const succeed = result => end(null, result);
  // A thrown null, unlike a callback's, is an error.
  const failed = error => end(error === undefined || error === null ? 'handled' : error);

  return {
    callback: (error, result) => end(error, result, true),
    succeed: succeed,
    fail: failed,
    context: promisesOnly ? {} : {
      get callbackWaitsForEmptyEventLoop() {
        return waits;
      },
      set callbackWaitsForEmptyEventLoop(value) {
        waits = value;
      },
      succeed: succeed,
      fail: failed,
      done: (error, result) => end(error, result),
    },
  };
}

function invoke(headers, body) {
  if (headers['lambda-runtime-trace-id']) env._X_AMZN_TRACE_ID = headers['lambda-runtime-trace-id'];
  else delete env._X_AMZN_TRACE_ID;

  if (handler[STREAMING]) {
    return require('./stream')(handler, handler[HIGH_WATER_MARK], headers, body, bridge);
  }
  const made = makeContext();
  whenEmpty = () => made.succeed(null);
  try {
    const context = describeInvocation(made.context, headers);
    const event = JSON.parse(body.toString());
    if (promisesOnly) {
      // The answer leaves a turn later, so that a rejection nobody handles is seen before it.
      return void Promise.resolve(handler(event, context)).then(
        result => setImmediate(made.succeed, result),
        error => setImmediate(made.fail, error)
      );
    }
    const result = handler(event, context, made.callback);
    if (isPromise(result)) result.then(made.succeed, made.fail);
  } catch (error) {
    made.fail(error);
  }
}

/** What stream.js needs of this file. */
const bridge = {
  api: API,
  host: null, // this one and `waits`: see readSettings
  isPromise: isPromise,
  describeInvocation: describeInvocation,
  descriptor: () => connection.fd,
  connected: done => (connection ? done() : connect(done)),
  waits: true,
  invocationId: () => invocation && invocation.id,
  readAnswer: readAnswer,
  report: report,
  toBytes: toBytes,
  lost: die,
  onEmpty: action => {
    whenEmpty = action;
  },
  onAbort: action => {
    abort = action;
  },
  answered: answered,
};

// ---- The handler

/** The handler's value in its module: `a.b.c` names a nested export. */
function resolveExport(loaded, name) {
  const find = from => name.split('.').reduce((value, key) => value && value[key], from);
  return find(loaded) || (promisesOnly && loaded && find(loaded.default)) || undefined;
}

function isModuleScope(folder) {
  for (;;) {
    if (/\/node_modules$/.test(folder)) return false;
    const file = path.join(folder, 'package.json');
    if (fs.existsSync(file)) {
      try {
        const parsed = JSON.parse(fs.readFileSync(file, 'utf8'));
        return Boolean(parsed) && parsed.type === 'module';
      } catch (error) {
        console.warn(file + ' cannot be read, it will be ignored for ES module detection purposes.', error);
        return false;
      }
    }
    if (folder === '/') return false;
    folder = path.dirname(folder);
  }
}

/** Finds and loads the handler's module; the result is its exports or a promise of them. */
function loadModule(folder, name) {
  const base = path.resolve(taskRoot, folder, name);
  const imported = file => require('./esm')(file);

  if (fs.existsSync(base)) return require(base);
  if (fs.existsSync(base + '.js')) {
    if (HAS_IMPORT && isModuleScope(path.dirname(base))) return imported(base + '.js');
    try {
      return require(base + '.js');
    } catch (error) {
      // An ES module by its syntax alone that awaits at its top level: newer versions can only import it.
      if (error && error.code === 'ERR_REQUIRE_ASYNC_MODULE') return imported(base + '.js');
      throw error;
    }
  }
  if (HAS_IMPORT && fs.existsSync(base + '.mjs')) return imported(base + '.mjs');
  if (fs.existsSync(base + '.cjs')) return require(base + '.cjs');

  // Last, as Node itself looks for `require('name')` in the task root: JSON, add-ons, packages.
  const folders = [taskRoot, path.join(taskRoot, folder)];
  if (NODE[0] > 8) return require(require.resolve(name, { paths: folders }));
  const Module = module.constructor;
  const from = new Module(path.join(taskRoot, 'noop.js'));
  from.filename = from.id;
  from.paths = Module._nodeModulePaths(folders[0]).concat(Module._nodeModulePaths(folders[1]));
  return require(Module._resolveFilename(name, from, false));
}

function asLoadError(error) {
  const errors = require('./errors');
  if (error instanceof SyntaxError) return errors.wrap('Runtime.UserCodeSyntaxError', error);
  if (error && error.code === 'MODULE_NOT_FOUND') return errors.wrap('Runtime.ImportModuleError', error);
  return error;
}

function failInit(error) {
  report('Uncaught Exception', error);
  postError('init/error', error, () => process.exit(129));
}

/** Loads the handler that `_HANDLER` names and calls `done(function)`; every failure goes to init/error. */
function loadHandler(full, done) {
  const make = (type, message) => failInit(require('./errors').make(type, message));

  if (full.indexOf('..') >= 0) {
    return make('Runtime.MalformedHandlerName',
      "'" + full + "' is not a valid handler name. Use absolute paths when specifying root directories in handler names.");
  }
  const slash = full.lastIndexOf('/') + 1;
  const match = /^([^.]*)\.(.*)$/.exec(full.slice(slash));
  if (!match) return make('Runtime.MalformedHandlerName', 'Bad handler');

  function resolve(loaded) {
    const found = resolveExport(loaded, match[2]);
    if (!found) return make('Runtime.HandlerNotFound', full + ' is undefined or not exported');
    if (typeof found !== 'function') return make('Runtime.HandlerNotFound', full + ' is not a function');
    if (found[STREAMING] && found[STREAMING] !== 'response') {
      return make('Runtime.MalformedStreamingHandler', 'Only response streaming is supported.');
    }
    if (promisesOnly && found.length >= 3 && !found[STREAMING]) {
      return make('Runtime.CallbackHandlerDeprecated',
        'ERROR: AWS Lambda has removed support for callback-based function handlers starting with Node.js 24. You need to ' +
        'modify this function to use a supported handler signature to use Node.js 24 or later. For more information see ' +
        'https://docs.aws.amazon.com/lambda/latest/dg/nodejs-handler.html.');
    }
    done(found);
  }

  let loaded;
  try {
    loaded = loadModule(full.slice(0, slash), match[1]);
  } catch (error) {
    return failInit(asLoadError(error));
  }
  // Only import() gives a promise; a CommonJS module may export a thenable as well, and that is its own affair.
  if (loaded instanceof Promise && loaded.isImport) {
    loaded.then(namespace => setImmediate(resolve, namespace), error => setImmediate(failInit, asLoadError(error)));
  } else {
    resolve(loaded);
  }
}

// ---- Start

function setModulePath() {
  if (env.NODE_PATH) return;
  const runtimeDir = env.LAMBDA_RUNTIME_DIR || __dirname;
  env.NODE_PATH = [
    '/opt/nodejs/node' + (named || NODE[0]) + '/node_modules',
    '/opt/nodejs/node_modules',
    runtimeDir + '/node_modules',
    runtimeDir,
    taskRoot,
  ].join(':');
  module.constructor._initPaths(); // it was read when the process started
}

function setGlobals() {
  if (/^(1|true)$/.test(env.AWS_LAMBDA_NODEJS_NO_GLOBAL_AWSLAMBDA)) return;
  global.awslambda = {
    streamifyResponse: (handler, options) => {
      handler[STREAMING] = 'response';
      if (options && typeof options.highWaterMark === 'number') handler[HIGH_WATER_MARK] = parseInt(options.highWaterMark, 10);
      return handler;
    },
    HttpResponseStream: class HttpResponseStream {
      static from(stream, prelude) {
        stream.setContentType('application/vnd.awslambda.http-integration-response');
        const text = JSON.stringify(prelude);
        stream._onBeforeFirstWrite = write => {
          write(text);
          write(toBytes('\0\0\0\0\0\0\0\0'));
        };
        return stream;
      }
    },
  };
}

function onFatal(title, error, status) {
  report(title, error);
  const exit = () => process.exit(status);
  if (!handler) postError('init/error', error, exit);
  else if (abort && abort(error, exit)) return;
  else if (invocation) postError('invocation/' + invocation.id + '/error', error, exit);
  else exit();
}

function readSettings() {
  taskRoot = env.LAMBDA_TASK_ROOT || process.cwd();
  socketPath = env.KENNEL_RUNTIME_API_SOCKET || socketPath;
  runtimeApi = env.AWS_LAMBDA_RUNTIME_API || '';
  named = Number((/nodejs(\d+)/.exec(env.AWS_EXECUTION_ENV || '') || [0, 0])[1]);
  // From nodejs24.x on, AWS has no callbacks: no third parameter, no context.done, and a plain return value counts.
  promisesOnly = named >= 24;
  if (promisesOnly) requestId = '-'; // what logs show before the first invocation; before, it was `undefined`
  asJson = String(env.AWS_LAMBDA_LOG_FORMAT).toUpperCase() === 'JSON';
  least = LEVELS[String(env.AWS_LAMBDA_LOG_LEVEL).toUpperCase()] || LEVELS.TRACE;
  bridge.host = runtimeApi || 'runtime';
  bridge.waits = !promisesOnly;
}

/**
 * Loads a handler of this folder and gives it two events over a connection that leads nowhere, and calls `done`: V8
 * compiles a function when it is called first, which is before there is a function's event to wait for it. Nothing of it
 * stays; what start() sets, it sets again.
 */
function rehearse(done) {
  const rehearsal = require('./preboot').rehearsal(module);
  let left = 2;
  proceed = () => {
    if (--left > 0) return next();
    proceed = next;
    connection = handler = null;
    requestId = tenantId = undefined;
    delete global.awslambda;
    rehearsal.end();
    done();
  };
  connection = rehearsal.connection;
  taskRoot = __dirname;
  patchOutput();
  setModulePath();
  setGlobals();
  loadHandler(rehearsal.handler, found => {
    handler = found;
    next();
  });
}

/** Waits for a function and makes this process its own: all that a start can do without one is done by then. */
function startAhead() {
  require('./preboot').preload(NODE, HAS_IMPORT, rehearse, () => request('GET', '/kennel/claim', '', null, answer => {
    if (answer.status !== 200) return die('status ' + answer.status + ' for the claim');
    require('./preboot').replaceEnvironment(JSON.parse(answer.body.toString()).env);
    // By its path: what this process stands in may lie below the function's mount.
    process.chdir(env.LAMBDA_TASK_ROOT || '/var/task');
    readSettings();
    start();
  }));
}

function start() {
  Object.keys(env).forEach(name => {
    if (name.slice(0, 7) === 'KENNEL_') delete env[name];
  });
  patchOutput();
  setModulePath();
  setGlobals();
  process.on('uncaughtException', error => onFatal('Uncaught Exception', error, 129));
  process.on('unhandledRejection', (reason, promise) => {
    onFatal('Unhandled Promise Rejection', require('./errors').unhandled(reason, promise), 128);
  });
  process.on('beforeExit', () => {
    const action = whenEmpty;
    whenEmpty = null;
    if (action) action();
  });
  loadHandler(env._HANDLER || '', found => {
    handler = found;
    next();
  });
}

readSettings();
if (env.KENNEL_PREBOOT === '1') startAhead();
else start();
