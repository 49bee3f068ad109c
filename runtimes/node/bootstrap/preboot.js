'use strict';

// The start ahead of time, `KENNEL_PREBOOT=1`: what can be loaded before there is a function, and the environment of
// the function that comes. In between bootstrap.js asks the Runtime API for `claim`.

// Node.js's own modules that many handlers need. No package can put its own in their place.
const MODULES = [
  'buffer', 'child_process', 'crypto', 'events', 'fs', 'fs/promises', 'http', 'https', 'os', 'path', 'querystring',
  'stream', 'string_decoder', 'timers/promises', 'tls', 'url', 'util', 'util/types', 'zlib',
];
const OWN = ['./errors', './json_log', './output', './stream'];

/** Loads them and calls `done`. */
exports.preload = (version, hasImport, done) => {
  OWN.forEach(name => require(name));
  MODULES.forEach(name => {
    try {
      require(name);
    } catch (absent) {
      // not in this version, or built without
    }
  });
  if (version[0] >= 20) void global.Headers; // loads what fetch needs; before, it warned of an experiment
  const ready = () => {
    if (global.gc) global.gc();
    done();
  };
  if (!hasImport) return ready();
  const later = () => setImmediate(ready); // the function's code does not run within a promise's reaction
  require('./esm').warm().then(later, later);
};

/** Makes `wanted` the whole environment. What stays as it was is not touched: a new TZ has its price. */
exports.replaceEnvironment = wanted => {
  const env = process.env;
  Object.keys(env).forEach(name => {
    if (wanted[name] === undefined) delete env[name];
  });
  Object.keys(wanted).forEach(name => {
    if (env[name] !== wanted[name]) env[name] = wanted[name];
  });
};
