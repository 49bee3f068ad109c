'use strict';

// One log record as a line of JSON, for AWS_LAMBDA_LOG_FORMAT=JSON.

const util = require('util');

function typeOf(error) {
  return error.constructor && error.constructor.name || 'UnknownError';
}

function showErrors(key, value) {
  if (!(value instanceof Error)) return value;
  return Object.assign({
    errorType: typeOf(value),
    errorMessage: value.message,
    stackTrace: typeof value.stack === 'string' ? value.stack.split('\n') : value.stack,
  }, value);
}

/** `parameters`: what console.log was given. `fromSecond`: the first is not searched for an error, as in nodejs24.x. */
module.exports = (time, level, requestId, tenantId, parameters, fromSecond) => {
  const record = { timestamp: time, level: level, requestId: requestId };
  if (tenantId !== undefined && tenantId !== null) record.tenantId = tenantId;
  if (parameters.length === 1) {
    record.message = parameters[0];
    try {
      return JSON.stringify(record, showErrors);
    } catch (circular) {
      record.message = util.format(record.message);
      return JSON.stringify(record);
    }
  }
  record.message = util.format.apply(null, parameters);
  const error = parameters.slice(fromSecond ? 1 : 0).filter(parameter => parameter instanceof Error)[0];
  if (error) {
    record.errorType = typeOf(error);
    record.errorMessage = error.message;
    record.stackTrace = typeof error.stack === 'string' ? error.stack.split('\n') : [];
  }
  return JSON.stringify(record);
};
