'use strict';

// The start ahead of time, `KENNEL_PREBOOT=1`: what can be loaded before there is a function, and the environment of
// the function that comes. In between bootstrap.js asks the Runtime API for `claim`.

const fs = require('fs');
const util = require('util');

// Node.js's own modules that many handlers need. No package can put its own in their place.
const MODULES = [
  'buffer', 'child_process', 'crypto', 'events', 'fs', 'fs/promises', 'http', 'https', 'os', 'path', 'querystring',
  'stream', 'string_decoder', 'timers/promises', 'tls', 'url', 'util', 'util/types', 'zlib',
];
const OWN = ['./errors', './json_log', './output', './stream'];

// Flags of the command line (runtime.toml), and what each is without it.
const FLAGS = {
  'expose-gc': '--no-expose-gc',
  'max-old-space-size': '--max-old-space-size=0',
  'max-semi-space-size': '--max-semi-space-size=0',
};

/**
 * Node.js carries its own modules compiled, and V8 takes none of that under other flags than it was made with: with any
 * of ours all is compiled anew, for twice the time. Each has done its work by now (the heap has its limits, `gc` is
 * there), so they go back to how they were made. The result puts them on again, which is for before the function's
 * code: its worker threads and contexts follow them.
 */
function liftFlags(version) {
  const given = process.execArgv.filter(flag => FLAGS[flag.slice(2).split('=')[0]]);
  if (version[0] < 12 || given.length === 0) return () => {};
  const set = flagSetter();
  given.forEach(flag => set(FLAGS[flag.slice(2).split('=')[0]]));
  return () => given.forEach(flag => set(flag));
}

/** v8.setFlagsFromString. Below it lies a binding that has no modules of its own to compile, up to Node.js 22. */
function flagSetter() {
  const silent = process.noDeprecation;
  process.noDeprecation = true;
  try {
    const set = process.binding('v8').setFlagsFromString;
    if (typeof set === 'function') return set;
  } catch (absent) {
    // a newer version
  } finally {
    if (silent === undefined) delete process.noDeprecation;
    else process.noDeprecation = silent;
  }
  return require('v8').setFlagsFromString;
}

/** Loads them, rehearses, and calls `done`. */
exports.preload = (version, hasImport, rehearse, done) => {
  const restoreFlags = liftFlags(version);
  OWN.forEach(name => require(name));
  MODULES.forEach(name => {
    try {
      require(name);
    } catch (absent) {
      // not in this version, or built without
    }
  });
  if (version[0] >= 20) void global.Headers; // loads what fetch needs; before, it warned of an experiment
  const ready = () => rehearse(() => {
    restoreFlags(); // V8 of Node.js 12 ends the process where gc() is called without its flag
    // A whole collection would take 10 ms of each start for nothing that is seen in the memory of one that waits.
    if (global.gc) global.gc(true);
    done();
  });
  if (!hasImport) return ready();
  const later = () => setImmediate(ready); // the function's code does not run within a promise's reaction
  // From a file where that makes a difference: up to Node.js 22 it is read by threads, which start with the first one.
  require('./esm').warm(version[0] < 24 ? './rehearsal.mjs' : 'fs').then(later, later);
};

/**
 * What bootstrap.js rehearses with, and how all of it is taken back. `parent`: the module that loads the handler. Every
 * request over its connection is answered with what is in rehearsal.http.
 */
exports.rehearsal = parent => {
  const environment = Object.assign({}, process.env);
  const file = __dirname + '/rehearsal.js';
  const sink = fs.openSync('/dev/null', 'w');
  let asked = false;
  let source = null;
  const hangUp = () => {
    if (source !== null) fs.closeSync(source);
    source = null;
  };
  // What only some functions do.
  util.format('%s', 'one', 2, { three: [4] });
  require('./json_log')(new Date().toISOString(), 'INFO', 'id', undefined, ['one', { two: 3 }], false);
  return {
    handler: 'rehearsal.handler',
    // The descriptor is asked for twice in each exchange: to write the request, then to read the answer.
    connection: {
      used: true,
      close: hangUp,
      get fd() {
        asked = !asked;
        hangUp();
        if (asked) return sink;
        source = fs.openSync(__dirname + '/rehearsal.http', 'r');
        return source;
      },
    },
    end: () => {
      hangUp();
      fs.closeSync(sink);
      exports.replaceEnvironment(environment);
      delete require.cache[file];
      parent.children.splice(parent.children.findIndex(child => child.filename === file), 1);
      const paths = module.constructor._pathCache;
      Object.keys(paths).forEach(key => {
        if (paths[key] === file) delete paths[key];
      });
    },
  };
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
