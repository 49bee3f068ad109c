'use strict';

// The handler that preboot.js rehearses with, in Node 4's language: one event is answered by a promise, the other by
// the callback where there is one.

let events = 0;

exports.handler = function (event, context) {
  const callback = arguments[2];
  const result = { name: event.name, left: context.getRemainingTimeInMillis() };
  if (events++ === 0 || !callback) return Promise.resolve(result);
  context.callbackWaitsForEmptyEventLoop = false; // nobody waits for that yet
  callback(null, result);
};
