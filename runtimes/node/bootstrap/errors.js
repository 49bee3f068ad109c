'use strict';

// Errors as the Runtime API and the log show them. Loaded only when there is one.

const UNREADABLE = 'callback called with Error argument, but there was a problem while retrieving one or more of its message, name, and stack';

/** Whether it is an error, also one of another realm (`vm`) or one that only has an error's parts. */
function isError(value) {
  return value instanceof Error || Object.prototype.toString.call(value) === '[object Error]' || Boolean(
    value && typeof value.name === 'string' && value.name && typeof value.message === 'string' && value.message &&
    typeof value.stack === 'string' && value.stack
  );
}

const clean = text => text === undefined || text === null ? text : text.replace(/\x7F/g, '%7F');

/** {errorType, errorMessage, trace}, the form of an error in a function's result. */
exports.describe = error => {
  try {
    if (isError(error)) {
      return { errorType: clean(error.name), errorMessage: clean(error.message), trace: clean(error.stack).split('\n') };
    }
    return { errorType: typeof error, errorMessage: error.toString(), trace: [] };
  } catch (unreadable) {
    return { errorType: 'handled', errorMessage: UNREADABLE, trace: [] };
  }
};

exports.intoError = value => {
  if (isError(value)) return value;
  try {
    return new Error(value);
  } catch (unreadable) {
    return new Error(UNREADABLE);
  }
};

/** One line of JSON with everything enumerable in the error, as AWS logs it. */
exports.toLogLine = error => {
  try {
    return JSON.stringify(error, (key, value) => {
      if (!(value instanceof Error)) return value;
      const shown = Object.assign({ errorType: value.name, errorMessage: value.message, code: value.code }, value);
      if (typeof value.stack === 'string') shown.stack = value.stack.split('\n');
      return shown;
    });
  } catch (circular) {
    return JSON.stringify(exports.describe(error));
  }
};

function rename(error, type, stack) {
  Object.defineProperty(error, 'name', { value: type, configurable: true, writable: true });
  error.stack = stack;
  return error;
}

/** An error of the runtime's own: the trace is its first line, for no frame of this runtime would help anyone. */
exports.make = (type, message) => rename(new Error(message), type, type + ': ' + message);

/** An error of the runtime's own around one of the function's: the trace goes on with the original's. */
exports.wrap = (type, original) => {
  const message = String(original);
  const stack = String(original.stack);
  // A syntax error's stack begins with the place in the source instead.
  return rename(new Error(message), type, type + ': ' + (stack.indexOf(message) === 0 ? stack : message + '\n' + stack));
};

exports.unhandled = (reason, promise) => {
  let message;
  try {
    message = String(reason);
  } catch (unreadable) {
    message = UNREADABLE;
  }
  const type = 'Runtime.UnhandledPromiseRejection';
  const stack = reason && typeof reason.stack === 'string' ? reason.stack : message;
  const error = rename(new Error(message), type, type + ': ' + (stack.indexOf(message) === 0 ? stack : message + '\n' + stack));
  error.reason = reason;
  error.promise = promise;
  return error;
};
