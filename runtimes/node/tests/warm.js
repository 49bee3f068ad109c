'use strict';
// Small handlers, all called in one process by their name in the event: {case: name}. In Node 4's language.

const cases = {
  callback: (event, context, callback) => callback(null, { got: event.value }),
  callback_nothing: (event, context, callback) => callback(),
  callback_error: (event, context, callback) => callback(new RangeError('too far')),
  callback_text: (event, context, callback) => callback('plain text'),
  callback_twice: (event, context, callback) => {
    callback(null, 'first');
    callback(null, 'second');
    context.fail(new Error('third'));
  },
  callback_waits: (event, context, callback) => {
    setTimeout(() => console.log('timer ran'), 50);
    callback(null, 'after the timer');
  },
  callback_waits_not: (event, context, callback) => {
    context.callbackWaitsForEmptyEventLoop = false;
    setTimeout(() => {}, 60000).unref();
    const timer = setTimeout(() => {}, 60000);
    cases.stop = () => clearTimeout(timer);
    callback(null, 'at once');
  },
  callback_then_throws: (event, context, callback) => {
    context.callbackWaitsForEmptyEventLoop = false;
    callback(null, 'answered');
    throw new Error('ignored');
  },
  callback_circular: (event, context, callback) => {
    const value = {};
    value.value = value;
    callback(null, value);
  },
  stop: () => {},
  succeed: (event, context) => context.succeed('yes'),
  done: (event, context) => context.done(null, 'done'),
  done_error: (event, context) => context.done(new Error('undone'), 'ignored'),
  fail: (event, context) => context.fail(new TypeError('no')),
  fail_nothing: (event, context) => context.fail(),
  plain_return: () => 'ignored',
  returns_function: (event, context) => context.succeed(() => 1),
  nothing: () => {},
  later: (event, context, callback) => void setTimeout(() => callback(null, 'later'), 30),
  promise: () => Promise.resolve({ promised: true }),
  promise_undefined: () => Promise.resolve(),
  promise_rejected: () => Promise.reject(new Error('promised')),
  promise_null: () => Promise.reject(null),
  promise_pending: () => new Promise(() => {}),
  promise_waits_not: () => {
    const timer = setTimeout(() => {}, 60000);
    cases.stop = () => clearTimeout(timer);
    return Promise.resolve('at once');
  },
  promise_circular: () => {
    const value = {};
    value.value = value;
    return Promise.resolve(value);
  },
  thenable: () => ({ then: resolve => resolve('thenable') }),
  bigint: () => Promise.resolve({ value: BigInt(1) }), // eslint-disable-line no-undef
  throws: () => {
    class Refused extends Error {
      get name() {
        return 'Refused';
      }
    }
    throw new Refused('no\x7f');
  },
  throws_text: () => {
    throw 'only text';
  },
  throws_number: () => {
    throw 42;
  },
  throws_null: () => {
    throw null;
  },
  throws_object: () => {
    throw { reason: 'object' };
  },
  throws_foreign: () => require('vm').runInNewContext('throw new TypeError("foreign")'),
  throws_no_stack: () => {
    const error = new Error('bare');
    error.stack = undefined;
    throw error;
  },
  throws_no_prototype: () => {
    throw Object.create(null);
  },
  context: (event, context, callback) => {
    callback(null, {
      context: context,
      types: { memory: typeof context.memoryLimitInMB, remaining: typeof context.getRemainingTimeInMillis },
      remaining: context.getRemainingTimeInMillis(),
      client: context.clientContext,
      identity: context.identity,
      tenant: context.tenantId,
      keys: Object.keys(context),
    });
  },
  trace: (event, context, callback) => callback(null, process.env._X_AMZN_TRACE_ID),
  kennel: (event, context, callback) => callback(null, Object.keys(process.env).filter(name => /^KENNEL/.test(name))),
  echo: (event, context, callback) => callback(null, event),
  size: (event, context, callback) => callback(null, event.text.length),
  large: (event, context, callback) => callback(null, new Array(event.size - 1).join('x')),
  remember: (event, context, callback) => {
    cases.late = callback;
    context.succeed('first');
  },
  too_late: (event, context, callback) => {
    cases.late(null, 'of another invocation');
    callback(null, 'second');
  },
  log: (event, context, callback) => {
    console.log('one %s', 'formatted', { a: 1 });
    console.info('two\nlines');
    console.warn('warned');
    console.error('error');
    console.debug('debugged');
    console.trace('traced');
    console.fatal('fatal');
    console.log();
    process.stdout.write('raw out\n');
    process.stderr.write('raw err\n');
    console.dir({ dir: true });
    callback(null, [process.stdout.fd, process.stderr.fd]);
  },
  much_output: (event, context) => {
    const line = new Array(1000).join('o');
    for (let i = 0; i < 1000; i++) process.stdout.write(line + '\n');
    process.stdout.write('the end\n', () => context.succeed('written'));
  },
  argv: (event, context, callback) => callback(null, process.argv.length),
  gc: (event, context, callback) => callback(null, typeof global.gc),
};

exports.handler = (event, context, callback) => cases[event.case](event, context, callback);
